"""The residual network of classifiers from a config."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.core.sizes import check_size
from productgen.nets import resnet as nets


@dataclasses.dataclass(frozen=True)
class ResNetModel:
    """The `model` section.

    Attributes:
      width: channels of the first level; each further one has twice as many.
      blocks: residual blocks of each level: `2,2,2`.
      patch: pixels on each side of the blocks that the first convolution reads, 1, 2 or 4: 2 makes training of 64 x 64
        about as fast as of 32 x 32.
      dropout: fraction of the features that is dropped in training, before they are classified.
    """

    width: int = 24
    blocks: str = '1,1,1'
    patch: int = 1
    dropout: float = 0.0

    def __post_init__(self):
        if self.width < 4:
            raise UserError('model.width', f'{self.width} is too small', 'it must be at least 4')
        parts = self.blocks.split(',')
        if not all(part.strip().isdecimal() and int(part) for part in parts):
            raise UserError('model.blocks', f"expected numbers such as '2,2,2', got {self.blocks!r}")
        if self.patch not in (1, 2, 4):
            raise UserError('model.patch', f'{self.patch} is none of 1, 2 and 4')
        if not 0 <= self.dropout < 1:
            raise UserError('model.dropout', f'{self.dropout} is not a fraction, 0 to below 1')

    def body(self, resolution: tuple[int, int]) -> nets.ResNet:
        """The network for pictures of (H, W).

        Raises:
          UserError: the size cannot be halved often enough; the message names the nearest that can.
        """
        net = nets.ResNet(self.width, tuple(map(int, self.blocks.split(','))), self.patch)
        try:
            check_size(resolution, net.halvings)
        except ValueError as error:
            raise UserError('data.resolution', f'{error} (or choose fewer model.blocks)') from None
        return net
