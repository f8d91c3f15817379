"""Networks for super-resolution and, with scale 1, other restoration: EDSR, RRDB and ESPCN."""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conv import conv_same
from productgen.nets.layers import recomputed
from productgen.nets.norms import TORCH_INIT, Linear
from productgen.nets.resample import enlarge
from productgen.nets.strided import fold, to_space, unfold, up_conv

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's pictures, in [0, 1]


def convolution(
    features: int, size: int = 3, init: nn.initializers.Initializer = TORCH_INIT, name: str | None = None
) -> Linear:
    """A convolution that keeps H and W."""
    return Linear(features, (size, size), conv_same, kernel_init=init, name=name)


class EDSR(nn.Module):
    """Residual blocks without normalisation at the size of the input, then pixel shuffling.

    Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017, section 3. The paper's
    range of 255 is the one of its learning rate; here pictures are in [-1, 1].

    Attributes:
      features: channels.
      blocks: residual blocks.
      scale: 1, 2 or 4.
      residual: factor of each block's correction, 0.1 in the large model.
      skip: add the enlarged input, so that a network of few steps starts from it; the paper does not.
      remat: recompute the activations of blocks for the gradient.
      dtype: of the activations.
    """

    features: int = 64
    blocks: int = 16
    scale: int = 2
    residual: float = 1.0
    skip: bool = False
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    stride = 1

    @property
    def reach(self) -> int:
        """How far away pixels of the input can change the output."""
        return 2 * self.blocks + 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C], of which the first three channels are the picture, -> [B, scale H, scale W, 3]."""
        image, width = x[..., :3], self.features
        mean = jnp.pad(2 * jnp.asarray(MEAN) - 1, (0, x.shape[-1] - 3))
        first = x = convolution(width, name='first')((x - mean).astype(self.dtype))
        for i in range(self.blocks):

            def block(module: nn.Module, x: jax.Array, i: int = i) -> jax.Array:
                y = convolution(width, name=f'block{i}_2')(nn.relu(convolution(width, name=f'block{i}_1')(x)))
                return x + self.residual * y

            x = recomputed(self, block, self.remat, x)
        x = first + convolution(width, name='body')(x)
        for i in range(int(math.log2(self.scale))):
            x = to_space(convolution(4 * width, name=f'up{i}')(x))
        x = convolution(3, name='last')(x).astype(jnp.float32) + mean[:3]
        return x - mean[:3] + enlarge(image, self.scale) if self.skip else x


class Compact(nn.Module):
    """Plain convolutions at the size of the input, then one pixel shuffle, on top of the enlarged input.

    The body of Real-ESRGAN's small networks (Wang et al. 2021, `SRVGGNetCompact` in its code), with leaky ReLU of slope
    0.2 instead of a learned one, and bicubic instead of nearest enlargement.

    Attributes:
      features: channels.
      layers: convolutions between the first and the last.
      scale: 1, 2 or 4.
      fold: move blocks of pixels of this side to channels before the first convolution, 1, 2 or 4.
      dtype: of the activations.
    """

    features: int = 64
    layers: int = 16
    scale: int = 2
    fold: int = 1
    dtype: jnp.dtype = jnp.float32

    @property
    def stride(self) -> int:
        """Sides of the input are multiples of this."""
        return self.fold

    @property
    def reach(self) -> int:
        """How far away pixels of the input can change the output."""
        return self.fold * (self.layers + 2) + 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C], of which the first three channels are the picture, -> [B, scale H, scale W, 3]."""
        image, x, side = x[..., :3], fold(x.astype(self.dtype), self.fold), self.scale * self.fold
        for i in range(self.layers + 1):
            x = nn.leaky_relu(convolution(self.features, init=nn.initializers.he_normal(), name=f'conv{i}')(x), 0.2)
        x = convolution(3 * side**2, name='last')(x).astype(jnp.float32)
        return enlarge(image, self.scale) + unfold(x, side)


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks.

    Wang et al., "ESRGAN", ECCVW 2018, section 3.1; with pixels folded into channels for scales below 4 as in
    "Real-ESRGAN", ICCVW 2021, section 3.4.

    Attributes:
      features: channels.
      blocks: blocks, of three dense blocks each.
      growth: channels that each convolution of a dense block adds.
      scale: 1, 2 or 4.
      remat: recompute the activations of blocks for the gradient.
      dtype: of the activations.
    """

    features: int = 64
    blocks: int = 23
    growth: int = 32
    scale: int = 4
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def stride(self) -> int:
        """Sides of the input are multiples of this."""
        return 4 // self.scale

    @property
    def reach(self) -> int:
        """How far away pixels of the input can change the output."""
        return self.stride * (15 * self.blocks + 6)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> [B, scale H, scale W, 3]."""
        first = x = convolution(self.features, name='first')(fold(x.astype(self.dtype), self.stride))
        for i in range(self.blocks):
            part = lambda module, x, i=i: self._block(x, f'block{i}')
            x = recomputed(self, part, self.remat, x)
        x = first + convolution(self.features, name='body')(x)
        for i in (1, 2):
            enlarged = Linear(self.features, (3, 3), up_conv, kernel_init=TORCH_INIT, name=f'up{i}')
            x = nn.leaky_relu(enlarged(x), 0.2)
        x = nn.leaky_relu(convolution(self.features, name='high')(x), 0.2)
        return convolution(3, name='last')(x).astype(jnp.float32)

    def _block(self, x: jax.Array, name: str) -> jax.Array:
        small = nn.initializers.variance_scaling(2 * 0.1**2, 'fan_in', 'normal')  # He's times 0.1
        start = x
        for dense in range(3):
            maps = [x]
            for i in range(4):
                y = convolution(self.growth, init=small, name=f'{name}_{dense}_{i}')(jnp.concatenate(maps, -1))
                maps.append(nn.leaky_relu(y, 0.2))
            y = convolution(self.features, init=small, name=f'{name}_{dense}_4')(jnp.concatenate(maps, -1))
            x = x + 0.2 * y
        return start + 0.2 * x


class ESPCN(nn.Module):
    """Three convolutions at the size of the input and a pixel shuffle.

    Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
    Network", CVPR 2016, section 3: widths 64 and 32, kernels 5, 3 and 3, tanh. The paper enlarges luma only; here all
    three colours.

    Attributes:
      scale: 1, 2 or 4.
      dtype: of the activations.
    """

    scale: int = 2
    dtype: jnp.dtype = jnp.float32

    stride = 1
    reach = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> [B, scale H, scale W, 3]."""
        x = jnp.tanh(convolution(64, 5, name='first')(x.astype(self.dtype)))
        x = jnp.tanh(convolution(32, name='second')(x))
        x = convolution(3 * self.scale**2, name='last')(x).astype(jnp.float32)
        return unfold(x, self.scale)
