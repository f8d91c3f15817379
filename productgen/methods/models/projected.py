"""The networks of Projected GAN: their `model` sections, one for each generator."""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from productgen.config import UserError
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least
from productgen.methods.models.stylegan2 import StyleGAN2Generator
from productgen.nets import fastgan, projected
from productgen.published.backbone import efficientnet_scales

SMALLEST = 64  # pixels of the pictures that the backbone is given: at fewer its coarsest maps are too small


@dataclasses.dataclass(frozen=True)
class ProjectedModel:
    """The fields of both sections that describe the discriminators.

    Attributes:
      name: the model.
      backbone_size: pictures whose shorter side is smaller are enlarged to it before the backbone, EfficientNet-lite0,
        sees them (224 in the paper); its time grows with the square.
      projection_width: channels that the finest maps are mixed to (64 in the paper); the discriminators' widths are
        multiples of it.
    """

    name: str
    backbone_size: int = 64
    projection_width: int = 16

    def __post_init__(self):
        at_least(self, SMALLEST, 'backbone_size')
        at_least(self, 1, 'projection_width')

    def with_discriminators(self, problem: Problem, z_dim: int, generator: nn.Module, plain_head: bool) -> Pair:
        """The generator with the discriminators."""
        size = projected.enlarged_size(problem.resolution, self.backbone_size)
        return Pair(
            z_dim=z_dim,
            generator=generator,
            discriminator=projected.Discriminator(self.projection_width, plain_head),
            couples_images=True,
            backbone=efficientnet_scales(size),
        )


@dataclasses.dataclass(frozen=True)
class ProjectedFastGANModel(ProjectedModel):
    """The `model` section of FastGAN's generator: that of the discriminators (`ProjectedModel`) and these.

    Attributes:
      name: `projected_fastgan`.
      z_dim: width of the latent z (256 in the paper).
      width: channels of the generator at 128 x 128 (128 in the paper): 16, 8, 4, 2 and 2 times as many at the coarser
        levels, and half as many at each finer one.
      layers: convolutions per level: 2, or 1 without noise, the paper's smaller version.
      reach: levels from a map to the one whose channels it scales (4 in the paper: a map 16 times as large).
    """

    name: str = 'projected_fastgan'
    z_dim: int = 64
    width: int = 8
    layers: int = 2
    reach: int = 3

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 1, 'z_dim', 'width', 'reach', 'layers')
        if self.layers > 2:
            raise UserError('model.layers', f'{self.layers} is neither 1 nor 2')

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        base, depth = levels(problem.resolution)
        multiples = (16, 8, 4, 2, 2) + tuple(2.0 ** (5 - level) for level in range(5, depth + 1))
        widths = tuple(int(self.width * multiple) for multiple in multiples[: depth + 1])
        if not widths[-1]:
            raise UserError(
                'model.width',
                f'{self.width} leaves the finest of {depth + 1} levels without channels',
                f'at this resolution it must be at least {1 << (depth - 5)}',
            )
        generator = fastgan.Generator(base, widths, self.reach, self.layers)
        return self.with_discriminators(problem, self.z_dim, generator, plain_head)


@dataclasses.dataclass(frozen=True)
class ProjectedStyleGAN2Model(ProjectedModel, StyleGAN2Generator):
    """The `model` section of StyleGAN2's generator: that of the discriminators (`ProjectedModel`) and its own
    (`StyleGAN2Generator`)."""

    name: str = 'projected_stylegan2'

    def __post_init__(self):
        StyleGAN2Generator.__post_init__(self)
        ProjectedModel.__post_init__(self)

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        return self.with_discriminators(problem, self.z_dim, self.generator(problem), plain_head)
