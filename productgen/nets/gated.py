"""Gated convolutions for holes of any form, and the denoising autoencoder as the classical baseline of restoration."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conv import conv_same
from productgen.nets.norms import TORCH_INIT, Linear
from productgen.nets.strided import conv_halve, up_conv

DILATIONS = 2, 4, 8, 16


def _dilated(rate: int):
    """A 3x3 convolution of pixels `rate` apart."""

    def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        pad, layout = [(rate, rate)] * 2, ('NHWC', 'HWIO', 'NHWC')
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, None, (rate, rate), dimension_numbers=layout)

    return product


class Gated(nn.Module):
    """A gated convolution: elu(features) times sigmoid(gates), both convolutions of x (Yu et al. 2019, equation 3).

    Attributes:
      features: output channels.
      size: side of the kernel.
      product: see `Linear`.
    """

    features: int
    size: int = 3
    product: object = conv_same

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Linear(2 * self.features, (self.size, self.size), self.product, kernel_init=TORCH_INIT, name='conv')(x)
        return nn.elu(y[..., : self.features]) * nn.sigmoid(y[..., self.features :])


class GatedNet(nn.Module):
    """The coarse and the refinement network of free-form inpainting.

    Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019, section 3. Both are of gated convolutions
    with a bottleneck of dilated ones at a quarter of the size; the second is given the first one's picture where there
    is a hole. The contextual attention in a branch of the second is left out: its memory grows with the square of the
    area, and with it a picture could not be filled in tiles. Strided convolutions have kernels of 4 instead of 3.

    Attributes:
      width: channels at full size, 48 in the paper.
      stages: 2, or 1 for the coarse network only.
      dtype: of the activations.
    """

    width: int = 48
    stages: int = 2
    dtype: jnp.dtype = jnp.float32

    stride = 4

    @property
    def reach(self) -> int:
        """How far away pixels of the input can change the output."""
        return self.stages * (2 + 3 + 6 + 4 * (3 + sum(DILATIONS)) + 8)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, 4], a picture, whose values in the hole do not matter, and its mask -> [B, H, W, 3]."""
        image, hole = x[..., :3] * (1 - x[..., 3:]), x[..., 3:]
        x = jnp.concatenate([image, hole], -1)
        for stage in range(self.stages):
            made = self._stage(x.astype(self.dtype), f'stage{stage}').astype(jnp.float32)
            x = jnp.concatenate([jnp.where(hole > 0.5, made, image), hole], -1)
        return made

    def _stage(self, x: jax.Array, name: str) -> jax.Array:
        width, layers = self.width, iter(range(99))
        gated = lambda x, scale, size=3, product=conv_same: Gated(
            scale * width // 2, size, product, name=f'{name}_{next(layers)}'
        )(x)
        x = gated(x, 1, 5)
        x = gated(x, 2, 4, conv_halve)
        x = gated(x, 2)
        x = gated(x, 4, 4, conv_halve)
        x = gated(gated(x, 4), 4)
        for rate in DILATIONS:
            x = gated(x, 4, product=_dilated(rate))
        x = gated(gated(x, 4), 4)
        x = gated(gated(x, 2, product=up_conv), 2)
        x = gated(gated(x, 1, product=up_conv), 1)
        x = Linear(3, (3, 3), conv_same, kernel_init=TORCH_INIT, name=f'{name}_last')(x)
        return jnp.tanh(x)


class Autoencoder(nn.Module):
    """A convolutional denoising autoencoder: the baseline that networks with skip connections are compared with.

    Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008, of convolutions:
    the picture passes through a code at a quarter of its size, so detail that the code does not hold is lost.

    Attributes:
      width: channels at half the size, twice as many at a quarter.
      code: channels of the code.
      dtype: of the activations.
    """

    width: int = 32
    code: int = 32
    dtype: jnp.dtype = jnp.float32

    stride = 4
    reach = 24

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> [B, H, W, 3]."""
        layer = lambda features, size, product, name: Linear(
            features, (size, size), product, kernel_init=nn.initializers.he_normal(), name=name
        )
        x = nn.relu(layer(self.width, 4, conv_halve, 'down1')(x.astype(self.dtype)))
        x = nn.relu(layer(2 * self.width, 4, conv_halve, 'down2')(x))
        x = nn.relu(layer(self.code, 3, conv_same, 'code')(x))
        x = nn.relu(layer(2 * self.width, 3, up_conv, 'up2')(x))
        x = nn.relu(layer(self.width, 3, up_conv, 'up1')(x))
        return layer(3, 3, conv_same, 'last')(x).astype(jnp.float32)
