"""The networks of R3GAN from a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from productgen.config import UserError, build
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least
from productgen.nets import r3gan as nets
from productgen.nets.stylegan2 import Widths


@dataclasses.dataclass(frozen=True)
class R3GANModel:
    """The `model` section.

    Attributes:
      name: `r3gan`.
      z_dim: width of the latent z and of the generator's label embedding (64 in the paper).
      channel_base: channels at 4 x 2^l pixels are channel_base / (4 x 2^l) ...
      channel_max: ... but at most this.
      blocks: residual blocks a level (2 in the paper).
      group: channels a group of the 3x3 convolutions (16 in the paper, 32 on ImageNet).
      bf16_levels: so many of the finest levels compute in bfloat16.
      remat: the activations inside a level are computed again for the gradient instead of kept: less memory, more time.
    """

    name: str = 'r3gan'
    z_dim: int = 64
    channel_base: int = 512
    channel_max: int = 64
    blocks: int = 1
    group: int = 16
    bf16_levels: int = 0
    remat: bool = False

    def __post_init__(self):
        at_least(self, 1, 'z_dim', 'channel_base', 'channel_max', 'blocks', 'group')
        at_least(self, 0, 'bf16_levels')


def make(section: Mapping[str, Any], problem: Problem, plain_head: bool) -> Pair:
    """See `PAIRS`."""
    m = build(R3GANModel, section, 'model')
    base, depth = levels(problem.resolution)
    widths = Widths(m.channel_base, m.channel_max, depth, m.bf16_levels, m.remat)
    for level in range(depth + 1):
        width = widths.channels(level)
        if not width or nets.EXPANSION * width % m.group:
            raise UserError(
                'model.group',
                (
                    f'{m.group} does not divide the {nets.EXPANSION} x {width} channels inside the blocks of level '
                    f'{level} of {depth}'
                ),
                (
                    f'make model.channel_base a multiple of {(4 << depth) * m.group} and model.channel_max one of '
                    f'{m.group}'
                ),
            )
    stages = {'base': base, 'widths': widths, 'blocks': m.blocks, 'group': m.group}
    return Pair(
        z_dim=m.z_dim,
        generator=nets.Generator(**stages),
        discriminator=nets.Discriminator(**stages, plain_head=plain_head),
    )
