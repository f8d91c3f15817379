"""NAFNet, a network for image restoration without nonlinear activations.

Chen et al., "Simple Baselines for Image Restoration", ECCV 2022; for super-resolution Chu et al., "NAFSSR", CVPRW 2022
(one picture instead of two); with windows Chu et al., "Improving Image Restoration by Revisiting Global Information
Aggregation" (TLC), ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conv import add_bias, conv_same, scale_channels
from productgen.nets.depthwise import depthwise_conv
from productgen.nets.layers import recomputed
from productgen.nets.norms import TORCH_INIT, Linear
from productgen.nets.resample import enlarge
from productgen.nets.strided import fold, to_depth, to_space, unfold


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with gain and bias (`LayerNorm2d` of the paper's code)."""

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1:]
        gain = self.param('gain', nn.initializers.ones, channels)
        bias = self.param('bias', nn.initializers.zeros, channels)
        wide = x.astype(jnp.float32)
        centred = wide - jnp.mean(wide, -1, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + self.eps)
        return add_bias(scale_channels((centred * scale).astype(x.dtype), gain), bias)


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., C] @ kernel [C, D], over rows: the gradient of the kernel is one product too, not a sum of products."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def pixels(features: int, bias: bool = True, name: str | None = None) -> Linear:
    """A 1x1 convolution."""
    return Linear(features, product=product, bias=bias, kernel_init=TORCH_INIT, name=name)


class Depthwise(nn.Module):
    """A 3x3 convolution of each channel by itself."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        # The fan-in of a kernel [3, 3, 1, C] is 9.
        kernel = self.param('kernel', TORCH_INIT, (3, 3, 1, channels)).astype(x.dtype)
        return add_bias(depthwise_conv(x, kernel, 1), self.param('bias', nn.initializers.zeros, (channels,)))


def local_mean(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Mean of [B, H, W, C] over a window around each pixel, which near the border is moved inside (TLC).

    A window at least as large as the picture gives the mean of all of it, [B, 1, 1, C].
    """
    height, width = (min(side, length) for side, length in zip(window, x.shape[1:3], strict=True))
    if (height, width) == x.shape[1:3]:
        return jnp.mean(x, (1, 2), keepdims=True)
    inside = jax.lax.reduce_window(x, jnp.zeros((), x.dtype), jax.lax.add, (1, height, width, 1), (1, 1, 1, 1), 'VALID')
    margin = [((n - 1) // 2, n - 1 - (n - 1) // 2) for n in (height, width)]
    return jnp.pad(inside / (height * width), [(0, 0), *margin, (0, 0)], mode='edge')


class Block(nn.Module):
    """A block of NAFNet, [B, H, W, C] -> [B, H, W, C] (the paper's figure 3d).

    Attributes:
      attention: weigh the channels by their means over the picture (simplified channel attention, section 3.3).
      window: sides of the area of these means, in pixels of x; (0, 0) for all of it.
    """

    attention: bool = True
    window: tuple[int, int] = (0, 0)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        scaled = lambda y, name: scale_channels(y, self.param(name, nn.initializers.zeros, (channels,)))
        y = pixels(2 * channels, name='conv1')(PixelNorm(name='norm1')(x))
        y = Depthwise(name='conv2')(y)
        y = y[..., :channels] * y[..., channels:]  # the gate
        if self.attention:
            means = local_mean(y, self.window if any(self.window) else y.shape[1:3])
            y = y * pixels(channels, name='attention')(means)
        x = x + scaled(pixels(channels, name='conv3')(y), 'beta')
        y = pixels(2 * channels, name='conv4')(PixelNorm(name='norm2')(x))
        return x + scaled(pixels(channels, name='conv5')(y[..., :channels] * y[..., channels:]), 'gamma')


class NAFNet(nn.Module):
    """A U-Net of `Block`s that adds a correction to its input.

    Attributes:
      width: channels of the first level; each further level has twice as many, at half the size.
      encoder: blocks of each level on the way down.
      middle: blocks of the coarsest level.
      decoder: blocks of each level on the way up, from the coarsest.
      scale: the output is this many times as large: 1, 2 or 4.
      fold: move blocks of so many pixels squared to channels before the first level, 1, 2 or 4: the network works at a
        fraction of the size (FFDNet, Zhang et al. 2018). The paper has 1.
      attention: see `Block`. Without it the output at a pixel depends on its surroundings only, so that pictures can be
        restored in tiles.
      window: side of the area of the attention's means, pixels of the input; 0 for the whole picture.
      remat: recompute the activations of blocks for the gradient.
      dtype: of the activations.
    """

    width: int = 32
    encoder: Sequence[int] = (2, 2, 4, 8)
    middle: int = 12
    decoder: Sequence[int] = (2, 2, 2, 2)
    scale: int = 1
    fold: int = 1
    attention: bool = True
    window: int = 0
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def stride(self) -> int:
        """Sides of the input are multiples of this."""
        return self.fold * 2 ** len(self.encoder)

    @property
    def reach(self) -> int:
        """How far away pixels of the input can change the output, without attention."""
        blocks = zip(self.encoder, reversed(self.decoder), strict=True)
        levels = sum((down + up + 1) << level for level, (down, up) in enumerate(blocks))
        return self.fold * (levels + ((self.middle + 1) << len(self.encoder)) + 2)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C], of which the first three channels are the picture, -> [B, scale H, scale W, 3]."""
        image, x = x[..., :3], x.astype(self.dtype)
        convolution = lambda features, name: Linear(features, (3, 3), conv_same, kernel_init=TORCH_INIT, name=name)
        x = convolution(self.width, 'intro')(fold(x, self.fold))
        skips = []
        for level, blocks in enumerate(self.encoder):
            x = self._blocks(x, blocks, f'encoder{level}')
            skips.append(x)
            x = pixels(2 * x.shape[-1], name=f'down{level}')(to_depth(x))
        x = self._blocks(x, self.middle, 'middle')
        for level, blocks in enumerate(self.decoder):
            x = to_space(pixels(2 * x.shape[-1], bias=False, name=f'up{level}')(x)) + skips.pop()
            x = self._blocks(x, blocks, f'decoder{level}')
        side = self.fold * self.scale
        x = convolution(3 * side**2, 'ending')(x).astype(jnp.float32)
        return enlarge(image, self.scale) + unfold(x, side)

    def _blocks(self, x: jax.Array, count: int, name: str) -> jax.Array:
        level = (x.shape[-1] // self.width).bit_length() - 1  # how often x has been halved since the first one
        side = -(-self.window // (self.fold << level))
        for i in range(count):

            def block(module: nn.Module, x: jax.Array, name: str = f'{name}_{i}') -> jax.Array:
                return Block(self.attention, (side, side), name=name)(x)

            x = recomputed(self, block, self.remat, x)
        return x
