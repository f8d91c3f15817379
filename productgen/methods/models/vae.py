"""The networks of variational autoencoders from a config."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError, choose
from productgen.core.sizes import levels
from productgen.nets import vae as nets


@dataclasses.dataclass(frozen=True)
class VAEModel:
    """The `model` section.

    Attributes:
      latent: `vector`, one for the picture, or `map`, one for each place of it.
      z_dim: width of the vector, or channels of the map.
      downsampling: ratio of the picture's side to that of the map, or of the smallest map behind the vector; a power of
        two; 0 halves down to a longer side of 4 to 7 pixels.
      channels: channels at full size, doubled with every halving ...
      channel_max: ... but at most this.
      blocks: residual blocks at every size below the full one.
      groups: groups of the normalisation; 0 leaves it out.
      dropout: fraction of activations dropped in training.
      remat: recompute the activations inside a level for the gradient instead of keeping them: less memory, more time.
    """

    latent: str = 'vector'
    z_dim: int = 64
    downsampling: int = 0
    channels: int = 32
    channel_max: int = 128
    blocks: int = 0
    groups: int = 8
    dropout: float = 0.0
    remat: bool = False

    def __post_init__(self):
        choose(dict.fromkeys(('vector', 'map')), self.latent, 'model.latent')
        for field in ('z_dim', 'channels', 'channel_max'):
            if getattr(self, field) < 1:
                raise UserError(f'model.{field}', 'must be at least 1')
        for field in ('blocks', 'groups', 'downsampling'):
            if getattr(self, field) < 0:
                raise UserError(f'model.{field}', 'must not be negative')
        if self.downsampling == 1 or self.downsampling & (self.downsampling - 1):
            raise UserError('model.downsampling', f'{self.downsampling} is not 2, 4, 8, ..., or 0')
        if not 0 <= self.dropout < 1:
            raise UserError('model.dropout', f'{self.dropout} is not a fraction, 0 to below 1')
        for field in ('channels', 'channel_max') if self.groups else ():
            if getattr(self, field) % self.groups:
                raise UserError(
                    'model.groups',
                    f'{self.groups} does not divide model.{field}={getattr(self, field)}',
                    'choose a divisor, or 0 for no normalisation',
                )

    def sizes(self, resolution: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Size (h, w) of the smallest map for pictures of (H, W), and the number of halvings to it.

        Raises:
          UserError: the picture cannot be halved so; the message names the nearest sizes that can.
        """
        if not self.downsampling:
            return levels(resolution)
        if any(side % self.downsampling for side in resolution):
            height, width = (max(round(side / self.downsampling), 1) * self.downsampling for side in resolution)
            raise UserError(
                'data.resolution',
                f'{resolution[1]}x{resolution[0]} cannot be divided by model.downsampling={self.downsampling}',
                f'the nearest that can is {width}x{height}',
            )
        height, width = (side // self.downsampling for side in resolution)
        return (height, width), self.downsampling.bit_length() - 1

    def nets(self, resolution: tuple[int, int]) -> tuple[nets.Encoder, nets.Decoder, tuple[int, ...]]:
        """Encoder, decoder and the shape of a latent, (Z,) or (h, w, c)."""
        base, depth = self.sizes(resolution)
        vector = self.latent == 'vector'
        shared = dict(channels=self.channels, channel_max=self.channel_max, blocks=self.blocks)
        shared |= dict(groups=self.groups, dropout=self.dropout, remat=self.remat)
        encoder = nets.Encoder(self.z_dim, depth, vector, **shared)
        decoder = nets.Decoder(base if vector else None, depth, **shared)
        return encoder, decoder, (self.z_dim,) if vector else (*base, self.z_dim)
