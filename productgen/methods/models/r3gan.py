"""The networks of R3GAN: their `model` section."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
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
      blocks: residual blocks per level (2 in the paper).
      group: channels per group of the 3x3 convolutions (16 in the paper, 32 on ImageNet).
      bf16_levels: number of levels, the finest ones, that compute in bfloat16.
      remat: recompute the activations inside a level for the gradient instead of keeping them: less memory, more time.
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

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        base, depth = levels(problem.resolution)
        bf16_levels = 0 if problem.float32 else self.bf16_levels
        widths = Widths(self.channel_base, self.channel_max, depth, bf16_levels, self.remat)
        for level in range(depth + 1):
            width = widths.channels(level)
            if not width or nets.EXPANSION * width % self.group:
                channels = f'the {nets.EXPANSION} x {width} channels inside the blocks of level {level} of {depth}'
                base_unit = (4 << depth) * self.group
                raise UserError(
                    'model.group',
                    f'{self.group} does not divide {channels}',
                    f'make model.channel_base a multiple of {base_unit} and model.channel_max one of {self.group}',
                )
        stages = {'base': base, 'widths': widths, 'blocks': self.blocks, 'group': self.group}
        return Pair(
            z_dim=self.z_dim,
            generator=nets.Generator(**stages),
            discriminator=nets.Discriminator(**stages, plain_head=plain_head),
        )
