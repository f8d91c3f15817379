"""The residual networks of SNGAN from a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from productgen.config import UserError, build
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
      generator_width: channels of the generator at the image's size (256; 64), twice as many at each coarser level ...
      generator_max: ... but at most this (256; 1024).
      discriminator_width: channels of the discriminator's first block (128; 64), twice as many in each further one ...
      discriminator_max: ... but at most this (128; 1024).
      down_blocks: blocks of the discriminator that halve the image (2; 5).
      flat_blocks: blocks that follow at one size (2; 1).
      discriminator_condition: `projection`, the inner product of the label's embedding with the last features, or
        `classes`, further logits that guess the label (AC-GAN).
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


def make(section: Mapping[str, Any], problem: Problem, plain_head: bool) -> Pair:
    """See `PAIRS`."""
    m = build(SNGANModel, section, 'model')
    base, depth = levels(problem.resolution)
    height, width = problem.resolution
    common = math.gcd(height, width)
    halvings = (common & -common).bit_length() - 1  # the factors of two in both sides
    if m.down_blocks > halvings:
        raise UserError(
            'model.down_blocks', f'images of {width}x{height} can be halved {halvings} times, not {m.down_blocks}'
        )
    return Pair(
        z_dim=m.z_dim,
        generator=nets.Generator(base, doubling(m.generator_width, m.generator_max, depth + 1)[::-1]),
        discriminator=nets.Discriminator(
            widths=doubling(m.discriminator_width, m.discriminator_max, m.down_blocks + m.flat_blocks),
            down_blocks=m.down_blocks,
            condition=m.discriminator_condition,
            sizes=problem.labels,
            spectral=m.spectral_norm,
            plain_head=plain_head,
        ),
    )
