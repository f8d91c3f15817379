"""Residual generator and discriminator of SNGAN.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, appendix B.4, with conditional
batch norm and projection of Miyato and Koyama, "cGANs with Projection Discriminator", ICLR 2018. H x W is any base x
2^n. The generator's convolutions have no bias where only batch norm follows, which would cancel it (the authors' code
has one).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conditioning import Head, Judgement
from productgen.nets.conv import conv_same
from productgen.nets.norms import BatchNorm, Linear
from productgen.nets.strided import conv_pool, pool, up_conv, upsample

EPS = 2e-5  # of batch norm, as in the authors' code
RESIDUAL = nn.initializers.variance_scaling(2.0, 'fan_avg', 'uniform')
SHORTCUT = nn.initializers.glorot_uniform()


class UpBlock(nn.Module):
    """Residual block of the generator, [B, H, W, C] -> [B, 2H, 2W, features]."""

    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, label: jax.Array | None, label_weight: jax.Array | float
    ) -> jax.Array:
        conv = lambda name, size, product, init: Linear(
            self.features, (size, size), product, bias=False, kernel_init=init, name=name
        )
        norm = lambda name, x: jax.nn.relu(BatchNorm(eps=EPS, name=name)(x, train, label, label_weight))
        # The 1x1 convolution commutes with upsampling.
        skip = upsample(conv('skip', 1, conv_same, SHORTCUT)(x))
        x = conv('conv0', 3, up_conv, RESIDUAL)(norm('norm0', x))
        return skip + conv('conv1', 3, conv_same, RESIDUAL)(norm('norm1', x))


class DownBlock(nn.Module):
    """Residual block of the discriminator, [B, H, W, C] -> [B, H / 2, W / 2, features] or [B, H, W, features].

    Attributes:
      features: output channels.
      down: halve H and W.
      first: the block sees the image: no activation first, and `features` hidden channels instead of C.
      spectral: apply spectral normalisation.
    """

    features: int
    down: bool
    first: bool
    spectral: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def conv(name, features, size, product, init, x):
            layer = Linear(features, (size, size), product, spectral=self.spectral, kernel_init=init, name=name)
            return layer(x, train)

        hidden = self.features if self.first else x.shape[-1]
        y = conv('conv0', hidden, 3, conv_same, RESIDUAL, x if self.first else jax.nn.relu(x))
        y = conv('conv1', self.features, 3, conv_pool if self.down else conv_same, RESIDUAL, jax.nn.relu(y))
        if self.down:
            x = pool(x)  # pooling commutes with the 1x1 convolution
        if self.down or x.shape[-1] != self.features:
            x = conv('skip', self.features, 1, conv_same, SHORTCUT, x)
        return x + y


class Generator(nn.Module):
    """z [B, Z] and one-hot label [B, N] -> images [B, H, W, 3] in [-1, 1].

    Attributes:
      base: (h, w) = (H, W) / 2^n.
      widths: channels of the n + 1 levels, coarsest first; 256, 256, 256, 256 in the paper (32 x 32).
    """

    base: tuple[int, int]
    widths: tuple[int, ...]

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        (h, w), width = self.base, self.widths[0]
        x = Linear(h * w * width, kernel_init=SHORTCUT, name='dense')(z).reshape(-1, h, w, width)
        for i, width in enumerate(self.widths[1:], 1):
            x = UpBlock(width, name=f'block{i}')(x, train, label, label_weight)
        x = jax.nn.relu(BatchNorm(eps=EPS, name='norm')(x, train))
        return jnp.tanh(Linear(3, (3, 3), conv_same, kernel_init=SHORTCUT, name='image')(x))


class Discriminator(nn.Module):
    """Image [B, H, W, 3] and one-hot label [B, N] -> `Judgement`.

    Attributes:
      widths: channels of the blocks, finest first; 128, 128, 128, 128 in the paper (32 x 32).
      down_blocks: number of blocks, counted from the image, that halve H and W, at least 1; 2 in the paper (32 x 32).
      condition: `projection` or `classes`, see `Head`.
      sizes: number of values of each attribute, for `classes`.
      spectral: apply spectral normalisation to every layer.
      plain_head: add an unconditional logit.
    """

    widths: tuple[int, ...]
    down_blocks: int
    condition: str = 'projection'
    sizes: tuple[int, ...] = ()
    spectral: bool = True
    plain_head: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = False
    ) -> Judgement:
        x = image
        for i, width in enumerate(self.widths):
            x = DownBlock(width, i < self.down_blocks, i == 0, self.spectral, name=f'block{i}')(x, train)
        x = jnp.sum(jax.nn.relu(x), (1, 2))  # [B, C]
        head = Head(self.condition, self.sizes, self.plain_head, self.spectral, SHORTCUT, name='head')
        return head(x, label, train)
