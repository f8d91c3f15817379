"""ResNet-18, 34 and 50 (He et al., CVPR 2016) with torchvision's layout and weights.

Bottlenecks that halve the resolution do so in their 3x3 convolution, not in the first 1x1 one as in the paper.
"""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.features.layers import Conv, Published, max_pool
from productgen.nets.norms import BatchNorm

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class Block(nn.Module):
    """Residual block, [B, H, W, C] -> [B, H / stride, W / stride, width], or 4 width with `bottleneck`."""

    width: int
    stride: int
    bottleneck: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        def layer(y, features, size, stride, conv, norm):
            y = Conv(features, (size, size), stride, (size // 2, size // 2), bias=False, name=conv)(y)
            return BatchNorm(name=norm)(y, train)

        if self.bottleneck:
            features = 4 * self.width
            y = nn.relu(layer(x, self.width, 1, 1, 'conv1', 'bn1'))
            y = nn.relu(layer(y, self.width, 3, self.stride, 'conv2', 'bn2'))
            y = layer(y, features, 1, 1, 'conv3', 'bn3')
        else:
            features = self.width
            y = nn.relu(layer(x, self.width, 3, self.stride, 'conv1', 'bn1'))
            y = layer(y, features, 3, 1, 'conv2', 'bn2')
        if self.stride > 1 or x.shape[-1] != features:
            x = layer(x, features, 1, self.stride, 'downsample.0', 'downsample.1')
        return nn.relu(x + y)


class ResNet(Published):
    """ResNet; see the module docstring.

    Attributes:
      depth: 18, 34 or 50.
      classes: number of classes, 1000 as published; 0 for features only.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('fc.',)

    depth: int = 18
    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3]; published weights expect those of `normalize_imagenet`.

        `train` uses the statistics of the batch and updates the running ones.

        Returns:
          `layer1` to `layer4`, maps [B, H', W', C]; `pool`, the mean of the last map, [B, 512], or 2048 at depth 50;
          with `classes` also `logits` [B, classes].
        """
        x = Conv(64, (7, 7), 2, (3, 3), bias=False, name='conv1')(x)
        x = max_pool(nn.relu(BatchNorm(name='bn1')(x, train)), 3, 2, padding=1)
        features = {}
        for level, count in enumerate(BLOCKS[self.depth]):
            for i in range(count):
                stride = 2 if level and not i else 1
                x = Block(64 << level, stride, self.depth >= 50, name=f'layer{level + 1}.{i}')(x, train)
            features[f'layer{level + 1}'] = x
        features['pool'] = jnp.mean(x, (1, 2))
        if self.classes:
            features['logits'] = nn.Dense(self.classes, name='fc')(features['pool'])
        return features
