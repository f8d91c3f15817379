"""EfficientNet-lite0, an EfficientNet without squeeze-and-excitation and swish, with the published layout and weights.

Tan and Le, ICML 2019; the `lite` variants and their weights are Google's (tensorflow/tpu,
models/official/efficientnet/lite), here in the names of their PyTorch conversion.
"""

from __future__ import annotations

import functools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.features.layers import Published, strided_conv
from productgen.nets.norms import BatchNorm

# Of each stage: blocks, stride of the first, channels, expansion, side of the depthwise kernel.
STAGES = ((1, 1, 16, 1, 3), (2, 2, 24, 6, 3), (2, 2, 40, 6, 5), (3, 2, 80, 6, 3), (3, 1, 112, 6, 5))
STAGES += ((4, 2, 192, 6, 5), (1, 1, 320, 6, 3))
EPS = 1e-3  # of batch norm


def normalize(image: jax.Array) -> jax.Array:
    """Images [..., 3] in [-1, 1] as the network expects them: (x - 127) / 128 of values 0 to 255."""
    return (image * 127.5 + 0.5) / 128


def pad_same(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Pads [B, H, W, C] as TensorFlow does for `SAME`: an odd zero goes to the bottom and to the right."""
    beyond = [max((-(-length // stride) - 1) * stride + size - length, 0) for length in x.shape[1:3]]
    return jnp.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in beyond), (0, 0)])


def _every(x: jax.Array, i: int, j: int, stride: int, size: tuple[int, ...]) -> jax.Array:
    """Every `stride`-th pixel of [B, H, W, C] from (i, j) on, `size` of them."""
    h, w = (stride * (n - 1) + 1 for n in size)
    return x[:, i : i + h : stride, j : j + w : stride]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution of each channel by itself without padding, of [B, H, W, C] with [h, w, C]."""
    h, w, _ = kernel.shape
    size = (x.shape[1] - h) // stride + 1, (x.shape[2] - w) // stride + 1
    return sum(_every(x, i, j, stride, size) * kernel[i, j] for i in range(h) for j in range(w))


def _depthwise_forward(x, kernel, stride):
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, residuals, grad):
    """A pixel of x is reached by every `stride`-th tap, so that dx is one convolution for each of stride^2 phases."""
    x, kernel = residuals
    (h, w, c), size, steps = kernel.shape, grad.shape[1:3], range(stride)
    zero, blocks = jnp.zeros((), grad.dtype), [-(-length // stride) for length in x.shape[1:3]]

    def phase(i, j):
        taps = jnp.flip(kernel[i::stride, j::stride], (0, 1))
        margin = [(k - 1, block - n, 0) for k, block, n in zip(taps.shape[:2], blocks, size, strict=True)]
        return _depthwise(jax.lax.pad(grad, zero, [(0, 0, 0), *margin, (0, 0, 0)]), taps, 1)

    dx = jnp.stack([jnp.stack([phase(i, j) for j in steps], 3) for i in steps], 2)  # [B, H / s, s, W / s, s, C]
    dx = dx.reshape(-1, blocks[0] * stride, blocks[1] * stride, c)[:, : x.shape[1], : x.shape[2]]
    tap = lambda i, j: jnp.sum(_every(x, i, j, stride, size) * grad, (0, 1, 2))
    return dx, jnp.stack([tap(i, j) for i in range(h) for j in range(w)]).reshape(h, w, c)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution of each channel by itself, [B, H, W, C] -> [B, H / stride, W / stride, C], padded as `SAME`.

    As a sum of shifted products, which XLA fuses: its own grouped convolution has slow gradients on CPUs. The gradients
    are written out as such sums too, since those of slices are sums of padded arrays, several times slower.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, 1, C].
      stride: of both axes.
    """
    return _depthwise(pad_same(x, kernel.shape[0], stride), kernel[:, :, 0], stride)


class _Conv(nn.Module):
    """Convolution without bias, padded as `SAME`; depthwise where `features` is 0."""

    features: int
    size: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        shape = (self.size, self.size, channels if self.features else 1, self.features or channels)
        kernel = self.param('kernel', nn.initializers.he_normal(), shape)
        if not self.features:
            return depthwise_conv(x, kernel, self.stride)
        return strided_conv(pad_same(x, self.size, self.stride), kernel, self.stride, (0, 0))


class Block(nn.Module):
    """Inverted residual block, [B, H, W, C] -> [B, H / stride, W / stride, features]."""

    features: int
    stride: int
    expansion: int
    size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        if self.expansion > 1:
            y = _Conv(self.expansion * x.shape[-1], name='_expand_conv')(y)
            y = nn.relu6(BatchNorm(eps=EPS, name='_bn0')(y, False))
        y = _Conv(0, self.size, self.stride, name='_depthwise_conv')(y)
        y = nn.relu6(BatchNorm(eps=EPS, name='_bn1')(y, False))
        y = BatchNorm(eps=EPS, name='_bn2')(_Conv(self.features, name='_project_conv')(y), False)
        return x + y if x.shape == y.shape else y


class EfficientNetLite0(Published):
    """EfficientNet-lite0; see the module docstring.

    Attributes:
      classes: number of classes, 1000 as published; 0 for features only.
      head: whether to compute the last convolution, `head` and `pool`.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('_fc.', '_conv_head.', '_bn1.')

    classes: int = 0
    head: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3] of at least 32 pixels, normalised by `normalize`; 224 as published.

        Returns:
          `stem`, a map [B, H / 2, W / 2, 32]; `stage1` to `stage7`, maps of 16, 24, 40, 80, 112, 192 and 320 channels,
          at 1/2, 1/4, 1/8, 1/16, 1/16, 1/32 and 1/32 of the size; with `head` also `head`, [B, H / 32, W / 32, 1280],
          and its mean `pool` [B, 1280]; with `classes` also `logits` [B, classes].
        """
        x = nn.relu6(BatchNorm(eps=EPS, name='_bn0')(_Conv(32, 3, 2, name='_conv_stem')(x), False))
        features, index = {'stem': x}, 0
        for stage, (count, stride, width, expansion, size) in enumerate(STAGES, 1):
            for i in range(count):
                x = Block(width, 1 if i else stride, expansion, size, name=f'_blocks.{index}')(x)
                index += 1
            features[f'stage{stage}'] = x
        if not self.head:
            return features
        x = nn.relu6(BatchNorm(eps=EPS, name='_bn1')(_Conv(1280, name='_conv_head')(x), False))
        features |= {'head': x, 'pool': jnp.mean(x, (1, 2))}
        if self.classes:
            features['logits'] = nn.Dense(self.classes, name='_fc')(features['pool'])
        return features
