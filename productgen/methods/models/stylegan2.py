"""The networks of StyleGAN2: their `model` section."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least
from productgen.nets import stylegan2 as nets


@dataclasses.dataclass(frozen=True)
class StyleGAN2Generator:
    """The fields of a `model` section that describe StyleGAN2's generator.

    Attributes:
      name: the model.
      z_dim: width of the latent z.
      w_dim: width of the intermediate latent w.
      mapping_layers: depth of the mapping network.
      mapping_lr: learning rate of the mapping network's layers relative to the others (0.01 in the paper, for long
        training; the higher, the sooner samples become diverse).
      channel_base: channels at 4 x 2^l pixels are channel_base / (4 x 2^l) ...
      channel_max: ... but at most this.
      bf16_levels: number of levels, the finest ones, that compute in bfloat16.
      remat: recompute the activations inside a level for the gradient instead of keeping them: less memory, more time.
    """

    name: str
    z_dim: int = 64
    w_dim: int = 128
    mapping_layers: int = 2
    mapping_lr: float = 0.1
    channel_base: int = 512
    channel_max: int = 64
    bf16_levels: int = 0
    remat: bool = False

    def __post_init__(self):
        at_least(self, 1, 'z_dim', 'w_dim', 'mapping_layers', 'channel_base', 'channel_max')
        at_least(self, 0, 'bf16_levels')
        if self.mapping_lr <= 0:  # initial weights are divided by it
            raise UserError('model.mapping_lr', f'{self.mapping_lr} is not above 0', 'freeze the network instead')

    def generator(self, problem: Problem) -> nets.Generator:
        """The generator.

        Raises:
          UserError: a value that cannot be used.
        """
        base, depth = levels(problem.resolution)
        if self.channel_base < 4 << depth:
            raise UserError(
                'model.channel_base',
                f'{self.channel_base} leaves the finest of {depth + 1} levels without channels',
                f'at this resolution it must be at least {4 << depth}; a useful value is {16 * (4 << depth)}',
            )
        bf16_levels = 0 if problem.float32 else self.bf16_levels
        widths = nets.Widths(self.channel_base, self.channel_max, depth, bf16_levels, self.remat)
        return nets.Generator(base, widths, self.w_dim, self.mapping_layers, self.mapping_lr)


@dataclasses.dataclass(frozen=True)
class StyleGAN2Model(StyleGAN2Generator):
    """The `model` section: that of the generator (`StyleGAN2Generator`) and these.

    Attributes:
      name: `stylegan2`.
      label_layers: depth of the discriminator's label network.
      stddev_group: samples per group of the minibatch standard deviation; 0 leaves it out.
    """

    name: str = 'stylegan2'
    label_layers: int = 1
    stddev_group: int = 4

    def __post_init__(self):
        super().__post_init__()
        at_least(self, 1, 'label_layers')
        at_least(self, 0, 'stddev_group')

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        part = problem.batch_size // problem.accumulate
        if self.stddev_group and part % self.stddev_group:
            raise UserError(
                'model.stddev_group',
                f'{self.stddev_group} does not divide the {part} images of a forward pass (train.batch_size / '
                'train.accumulate)',
                'choose a divisor, or 0 to leave the layer out',
            )
        generator = self.generator(problem)
        discriminator = nets.Discriminator(generator.widths, self.stddev_group, self.label_layers, plain_head)
        return Pair(self.z_dim, generator, discriminator)
