"""The networks of a VQ-VAE from a config."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.nets.transformer import Transformer
from productgen.nets.vq import Decoder, Encoder


@dataclasses.dataclass(frozen=True)
class PriorModel:
    """The `model.prior` section.

    Attributes:
      width: channels.
      layers: blocks.
      heads: attention heads, dividing `width`.
      dropout: fraction of values dropped in training.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    dropout: float = 0.0

    def __post_init__(self):
        for field in ('width', 'layers', 'heads'):
            if getattr(self, field) < 1:
                raise UserError(f'model.prior.{field}', 'must be at least 1')
        if self.width % self.heads:
            raise UserError('model.prior.heads', f'{self.heads} does not divide model.prior.width={self.width}')
        if not 0 <= self.dropout < 1:
            raise UserError('model.prior.dropout', f'{self.dropout} is not a fraction, 0 to below 1')


@dataclasses.dataclass(frozen=True)
class VQVAEModel:
    """The `model` section.

    Attributes:
      levels: halvings of the image's size down to the grid of codes.
      width: channels of encoder and decoder.
      blocks: residual blocks of each (2 in the paper).
      residual_width: channels inside them.
      codes: size K of the codebook.
      code_width: width D of a code vector.
      prior: the Transformer.
    """

    levels: int = 2
    width: int = 64
    blocks: int = 2
    residual_width: int = 32
    codes: int = 256
    code_width: int = 32
    prior: PriorModel = dataclasses.field(default_factory=PriorModel)

    def __post_init__(self):
        least = {'levels': 1, 'width': 2, 'blocks': 0, 'residual_width': 1, 'codes': 2, 'code_width': 1}
        for field, value in least.items():
            if getattr(self, field) < value:
                raise UserError(f'model.{field}', f'must be at least {value}')

    def nets(self, resolution: tuple[int, int]) -> tuple[Encoder, Decoder, Transformer]:
        """Encoder, decoder and prior for pictures of (H, W).

        Raises:
          UserError: the size cannot be halved `levels` times; the message names the nearest that can.
        """
        (height, width), unit, prior = resolution, 2**self.levels, self.prior
        if height % unit or width % unit:
            near = [max(round(side / unit), 1) * unit for side in (width, height)]
            raise UserError(
                'data.resolution',
                f'{width}x{height} cannot be halved {self.levels} times (model.levels)',
                f'the nearest that can is {near[0]}x{near[1]}',
            )
        return (
            Encoder(self.levels, self.width, self.blocks, self.residual_width, self.code_width),
            Decoder(self.levels, self.width, self.blocks, self.residual_width),
            Transformer(
                self.codes, (height // unit, width // unit), prior.width, prior.layers, prior.heads, prior.dropout
            ),
        )
