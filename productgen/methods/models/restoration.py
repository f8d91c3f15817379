"""Networks that restore, from a config."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import flax.linen as nn
import jax.numpy as jnp

from productgen.config import UserError
from productgen.methods.models.pair import at_least
from productgen.methods.models.unet import parse_numbers
from productgen.nets.gated import Autoencoder, GatedNet
from productgen.nets.nafnet import NAFNet
from productgen.nets.super_resolution import EDSR, ESPCN, Compact, RRDBNet

DTYPES = {False: jnp.float32, True: jnp.bfloat16}


class RestorerModel(Protocol):
    """A `model` section of a restoring method."""

    def net(self, scale: int) -> nn.Module:
        """The network whose output is `scale` times as large as its input.

        It maps [B, H, W, C], of which the first three channels are the picture in [-1, 1], to [B, scale H, scale W, 3].
        Its `stride` divides the sides of the input.
        """
        ...


def _check_fold(fold: int) -> None:
    if fold not in (1, 2, 4):
        raise UserError('model.fold', f'{fold} is not 1, 2 or 4')


@dataclasses.dataclass(frozen=True)
class NAFNetModel:
    """The `model` section of NAFNet (Chen et al. 2022).

    Attributes:
      name: `nafnet`.
      width: channels of the first level; each further level has twice as many.
      encoder: blocks of each level on the way down, finest first: `2,2,4,8`; empty for one level only.
      middle: blocks of the coarsest level.
      decoder: blocks of each level on the way up, coarsest first.
      fold: move blocks of pixels of this side to channels before the first level: 1 as published, 2 or 4, which is
        faster.
      attention: channel attention, by means over the whole picture. Without it pictures can be restored in tiles.
      window: side of the area of these means where pictures are larger, pixels; 0 for the whole picture.
      bf16: compute in bfloat16, except for sums and the result.
      remat: recompute the activations of blocks for the gradient: less memory, more time.
    """

    name: str = 'nafnet'
    width: int = 32
    encoder: str = '2,2,4,8'
    middle: int = 12
    decoder: str = '2,2,2,2'
    fold: int = 1
    attention: bool = True
    window: int = 0
    bf16: bool = False
    remat: bool = False

    def __post_init__(self):
        at_least(self, 1, 'width')
        at_least(self, 0, 'middle', 'window')
        encoder = parse_numbers(self.encoder, 'model.encoder')
        decoder = parse_numbers(self.decoder, 'model.decoder')
        if len(encoder) != len(decoder):
            raise UserError('model.decoder', f'has {len(decoder)} levels, and model.encoder has {len(encoder)}')
        _check_fold(self.fold)

    def net(self, scale: int) -> NAFNet:
        """See `RestorerModel`."""
        return NAFNet(
            self.width,
            parse_numbers(self.encoder, ''),
            self.middle,
            parse_numbers(self.decoder, ''),
            scale,
            self.fold,
            self.attention,
            self.window,
            self.remat,
            DTYPES[self.bf16],
        )


@dataclasses.dataclass(frozen=True)
class EDSRModel:
    """The `model` section of EDSR (Lim et al. 2017).

    Attributes:
      name: `edsr`.
      features: channels.
      blocks: residual blocks.
      residual: factor of their corrections.
      skip: add the enlarged input; not in the paper.
      bf16: compute in bfloat16.
      remat: recompute the activations of blocks for the gradient.
    """

    name: str = 'edsr'
    features: int = 64
    blocks: int = 16
    residual: float = 1.0
    skip: bool = False
    bf16: bool = False
    remat: bool = False

    def __post_init__(self):
        at_least(self, 1, 'features', 'blocks')

    def net(self, scale: int) -> EDSR:
        """See `RestorerModel`."""
        return EDSR(self.features, self.blocks, scale, self.residual, self.skip, self.remat, DTYPES[self.bf16])


@dataclasses.dataclass(frozen=True)
class CompactModel:
    """The `model` section of plain convolutions (the body of Real-ESRGAN's small networks).

    Attributes:
      name: `compact`.
      features: channels.
      layers: convolutions between the first and the last.
      fold: as NAFNet's.
      bf16: compute in bfloat16.
    """

    name: str = 'compact'
    features: int = 64
    layers: int = 16
    fold: int = 1
    bf16: bool = False

    def __post_init__(self):
        at_least(self, 1, 'features')
        at_least(self, 0, 'layers')
        _check_fold(self.fold)

    def net(self, scale: int) -> Compact:
        """See `RestorerModel`."""
        return Compact(self.features, self.layers, scale, self.fold, DTYPES[self.bf16])


@dataclasses.dataclass(frozen=True)
class RRDBModel:
    """The `model` section of ESRGAN's network (Wang et al. 2018).

    Attributes:
      name: `rrdb`.
      features: channels.
      blocks: blocks of three dense blocks each.
      growth: channels that each convolution of a dense block adds.
      bf16: compute in bfloat16.
      remat: recompute the activations of blocks for the gradient.
    """

    name: str = 'rrdb'
    features: int = 64
    blocks: int = 23
    growth: int = 32
    bf16: bool = False
    remat: bool = False

    def __post_init__(self):
        at_least(self, 1, 'features', 'blocks', 'growth')

    def net(self, scale: int) -> RRDBNet:
        """See `RestorerModel`."""
        return RRDBNet(self.features, self.blocks, self.growth, scale, self.remat, DTYPES[self.bf16])


@dataclasses.dataclass(frozen=True)
class ESPCNModel:
    """The `model` section of ESPCN (Shi et al. 2016), which has no settings but `name` and `bf16`."""

    name: str = 'espcn'
    bf16: bool = False

    def net(self, scale: int) -> ESPCN:
        """See `RestorerModel`."""
        return ESPCN(scale, DTYPES[self.bf16])


@dataclasses.dataclass(frozen=True)
class GatedModel:
    """The `model` section of gated convolutions (Yu et al. 2019), for `inpaint`.

    Attributes:
      name: `gated`.
      width: channels at full size.
      stages: 2, or 1 for the coarse network only.
      bf16: compute in bfloat16.
    """

    name: str = 'gated'
    width: int = 48
    stages: int = 2
    bf16: bool = False

    def __post_init__(self):
        if self.width < 4 or self.width % 2:
            raise UserError('model.width', f'{self.width} is not an even number of at least 4')
        if self.stages not in (1, 2):
            raise UserError('model.stages', f'{self.stages} is not 1 or 2')

    def net(self, scale: int) -> GatedNet:
        """See `RestorerModel`."""
        _check_scale(self.name, scale)
        return GatedNet(self.width, self.stages, DTYPES[self.bf16])


@dataclasses.dataclass(frozen=True)
class AutoencoderModel:
    """The `model` section of a denoising autoencoder (Vincent et al. 2008).

    Attributes:
      name: `autoencoder`.
      width: channels at half the size.
      code: channels of the code, at a quarter of the size.
      bf16: compute in bfloat16.
    """

    name: str = 'autoencoder'
    width: int = 32
    code: int = 32
    bf16: bool = False

    def __post_init__(self):
        at_least(self, 1, 'width', 'code')

    def net(self, scale: int) -> Autoencoder:
        """See `RestorerModel`."""
        _check_scale(self.name, scale)
        return Autoencoder(self.width, self.code, DTYPES[self.bf16])


def _check_scale(name: str, scale: int) -> None:
    if scale != 1:
        raise UserError('model.name', f'{name!r} makes pictures of the same size only', 'use compact, edsr or nafnet')


RESTORERS: dict[str, type[RestorerModel]] = {
    'autoencoder': AutoencoderModel,
    'compact': CompactModel,
    'edsr': EDSRModel,
    'espcn': ESPCNModel,
    'gated': GatedModel,
    'nafnet': NAFNetModel,
    'rrdb': RRDBModel,
}
