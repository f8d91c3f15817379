"""The U-Net from a config."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.core.sizes import check_size
from productgen.nets.unet import UNet


@dataclasses.dataclass(frozen=True)
class UNetModel:
    """The `model` section.

    Attributes:
      patch: side of the blocks of pixels that enter the network as one pixel; 1, 2, 4: the larger, the faster.
      channels: channels at the finest level, a multiple of 4.
      multipliers: channels at each level, finest first, in units of `channels`: `1,2,2,2`.
      blocks: residual blocks a level.
      attention: levels with self-attention, 0 the finest: `1`, `1,2`, or nothing; the middle always has it.
      heads: number of attention heads, dividing `channels`.
      dropout: fraction of values dropped in training.
      remat: recompute the activations inside a block for the gradient instead of keeping them: less memory, more time.
    """

    patch: int = 2
    channels: int = 32
    multipliers: str = '1,2'
    blocks: int = 1
    attention: str = '1'
    heads: int = 1
    dropout: float = 0.0
    remat: bool = False

    def __post_init__(self):
        factors = parse_numbers(self.multipliers, 'model.multipliers')
        if not factors or min(factors) < 1:
            raise UserError('model.multipliers', f"expected factors such as '1,2,2', got {self.multipliers!r}")
        for level in parse_numbers(self.attention, 'model.attention'):
            if not 0 <= level < len(factors):
                raise UserError('model.attention', f'there is no level {level}', f'they are 0 to {len(factors) - 1}')
        if self.patch < 1 or self.patch & (self.patch - 1):
            raise UserError('model.patch', f'{self.patch} is not 1, 2, 4, ...')
        if self.channels < 4 or self.channels % 4:
            raise UserError('model.channels', f'{self.channels} is not a multiple of 4')
        if self.blocks < 1:
            raise UserError('model.blocks', 'must be at least 1')
        if self.heads < 1 or self.channels % self.heads:
            raise UserError('model.heads', f'{self.heads} does not divide model.channels={self.channels}')
        if not 0 <= self.dropout < 1:
            raise UserError('model.dropout', f'{self.dropout} is not a fraction, 0 to below 1')

    def net(self, resolution: tuple[int, int], outputs: int = 3, halvings: int = 0) -> UNet:
        """The network for pictures of (H, W), or for maps of pictures of (H, W) that have been halved `halvings` times.

        Raises:
          UserError: the size cannot be halved often enough; the message names the nearest that can.
        """
        factors, attention = parse_numbers(self.multipliers, ''), parse_numbers(self.attention, '')
        shared = dict(channels=self.channels, blocks=self.blocks, heads=self.heads, dropout=self.dropout)
        net = UNet(outputs, self.patch, multipliers=factors, attention=attention, remat=self.remat, **shared)
        try:
            check_size(resolution, net.halvings + halvings)
        except ValueError as error:
            raise UserError('data.resolution', f'{error} (or choose fewer model.multipliers)') from None
        return net


def parse_numbers(text: str, field: str) -> tuple[int, ...]:
    """`1,2,2` as whole numbers.

    Raises:
      UserError: other text; the message names `field`.
    """
    try:
        return tuple(int(part) for part in text.split(',') if part.strip())
    except ValueError:
        raise UserError(field, f"expected whole numbers such as '1,2,2', got {text!r}") from None
