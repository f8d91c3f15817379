"""The residual networks of SNGAN: their `model` section."""

from __future__ import annotations

import dataclasses
import math

from productgen.config import UserError
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least, doubling, one_of
from productgen.nets import sngan as nets


@dataclasses.dataclass(frozen=True)
class SNGANModel:
    """The `model` section; published values are those for CIFAR-10 at 32 x 32, and for ImageNet at 128 x 128.

    Attributes:
      name: `sngan`.
      z_dim: width of the latent z (128).
      generator_width: channels of the generator at the image's size (256; 64), doubled at each coarser level ...
      generator_max: ... but at most this (256; 1024).
      discriminator_width: channels of the discriminator's first block (128; 64), doubled in each further block ...
      discriminator_max: ... but at most this (128; 1024).
      down_blocks: blocks of the discriminator that halve the image (2; 5).
      flat_blocks: blocks after them, which keep the size (2; 1).
      discriminator_condition: `projection`, the inner product of the label's embedding with the last features, or
        `classes`, additional logits that predict the label (AC-GAN).
      spectral_norm: spectral normalisation of the discriminator.
    """

    name: str = 'sngan'
    z_dim: int = 64
    generator_width: int = 32
    generator_max: int = 64
    discriminator_width: int = 32
    discriminator_max: int = 64
    down_blocks: int = 3
    flat_blocks: int = 0
    discriminator_condition: str = 'projection'
    spectral_norm: bool = True

    def __post_init__(self):
        at_least(self, 1, 'z_dim', 'generator_width', 'discriminator_width', 'down_blocks')
        at_least(self, 0, 'flat_blocks')
        at_least(self, self.generator_width, 'generator_max')
        at_least(self, self.discriminator_width, 'discriminator_max')
        one_of(self, 'discriminator_condition', 'projection', 'classes')

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        base, depth = levels(problem.resolution)
        height, width = problem.resolution
        common = math.gcd(height, width)
        halvings = (common & -common).bit_length() - 1  # the factors of two in both sides
        if self.down_blocks > halvings:
            raise UserError(
                'model.down_blocks',
                f'images of {width}x{height} can be halved {halvings} times, not {self.down_blocks}',
                f'choose fewer, or a data.resolution whose sides are multiples of {1 << self.down_blocks}',
            )
        return Pair(
            z_dim=self.z_dim,
            generator=nets.Generator(base, doubling(self.generator_width, self.generator_max, depth + 1)[::-1]),
            discriminator=nets.Discriminator(
                widths=doubling(self.discriminator_width, self.discriminator_max, self.down_blocks + self.flat_blocks),
                down_blocks=self.down_blocks,
                condition=self.discriminator_condition,
                sizes=problem.labels,
                spectral=self.spectral_norm,
                plain_head=plain_head,
            ),
        )
