"""EfficientNet-lite0, an EfficientNet without squeeze-and-excitation and swish, with the published layout and weights.

Tan and Le, ICML 2019; the `lite` variants and their weights are Google's (tensorflow/tpu,
models/official/efficientnet/lite), here in the names of their PyTorch conversion.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.depthwise import depthwise_conv, pad_same
from productgen.nets.features.layers import Published, strided_conv
from productgen.nets.norms import BatchNorm

# Of each stage: blocks, stride of the first, channels, expansion, side of the depthwise kernel.
STAGES = ((1, 1, 16, 1, 3), (2, 2, 24, 6, 3), (2, 2, 40, 6, 5), (3, 2, 80, 6, 3), (3, 1, 112, 6, 5))
STAGES += ((4, 2, 192, 6, 5), (1, 1, 320, 6, 3))
EPS = 1e-3  # of batch norm


def normalize(image: jax.Array) -> jax.Array:
    """Images [..., 3] in [-1, 1] as the network expects them: (x - 127) / 128 of values 0 to 255."""
    return (image * 127.5 + 0.5) / 128


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
