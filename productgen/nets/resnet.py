"""Residual network that classifies small images; its pooled features are used to measure images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the form of section 4.2 (a 3x3 stem, three
levels) with blocks in the order of "Identity Mappings in Deep Residual Networks", ECCV 2016. Group normalisation (Wu
and He 2018) replaces batch normalisation, so that the output for an image does not depend on the rest of the batch, and
strided shortcuts average their input first (He et al., "Bag of Tricks", CVPR 2019, ResNet-D).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.layers import Conv, dropout
from productgen.nets.norms import GroupNorm
from productgen.nets.strided import halve, to_depth

INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class Block(nn.Module):
    """Pre-activation residual block, [B, H, W, C] -> [B, H, W, features] or [B, H / 2, W / 2, features].

    Attributes:
      features: output channels.
      halving: the first convolution has stride 2.
    """

    features: int
    halving: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.relu(GroupNorm(name='norm0')(x))
        if self.halving or x.shape[-1] != self.features:
            # As nn.avg_pool, whose integer divisor fails under strict dtype promotion.
            x = nn.pool(y, 0.0, jax.lax.add, (2, 2), (2, 2), 'VALID') / 4 if self.halving else y
            x = nn.Dense(self.features, use_bias=False, kernel_init=INIT, name='skip')(x)
        if self.halving:
            y = halve(y, self.param('halve', INIT, (3, 3, y.shape[-1], self.features)))
        else:
            y = Conv(self.features, bias=False, kernel_init=INIT, name='conv0')(y)
        y = nn.relu(GroupNorm(name='norm1')(y))
        return x + Conv(self.features, bias=False, kernel_init=INIT, name='conv1')(y)


class ResNet(nn.Module):
    """Residual network, images [B, H, W, 3] -> pooled features; see the module docstring.

    Attributes:
      width: channels of the first level; each next level has twice as many.
      blocks: number of residual blocks of each level.
      patch: the stem reads blocks of this many pixels squared, a power of two; 4 makes the first map H / 4 x W / 4.
    """

    width: int
    blocks: tuple[int, ...]
    patch: int = 1

    @property
    def halvings(self) -> int:
        """Number of times H and W are halved."""
        return len(self.blocks) - 1 + self.patch.bit_length() - 1

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] -> features [B, width * 2 ** (levels - 1)], the mean over the last map."""
        return jnp.mean(self.maps(x)[-1], (1, 2))

    @nn.compact
    def maps(self, x: jax.Array) -> list[jax.Array]:
        """Images [B, H, W, 3] in [-1, 1] -> the output of each level, and that of the last one after its activation."""
        for _ in range(self.patch.bit_length() - 1):
            x = to_depth(x)
        x = Conv(self.width, bias=False, kernel_init=INIT, name='stem')(x)
        levels = []
        for level, count in enumerate(self.blocks):
            for i in range(count):
                x = Block(self.width << level, halving=level > 0 and i == 0, name=f'block{level}_{i}')(x)
            levels.append(x)
        return [*levels, nn.relu(GroupNorm(name='norm')(x))]


class Classifier(nn.Module):
    """Feature network followed by a linear classifier per attribute.

    Attributes:
      body: images -> features [B, D].
      sizes: number of values of each attribute.
      dropout: dropout rate of the features.
    """

    body: nn.Module
    sizes: tuple[int, ...]
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None = None) -> tuple[jax.Array, list[jax.Array]]:
        """[B, H, W, 3] -> features [B, D] and logits [B, n] per attribute; `keys` [B] are for dropout."""
        features = self.body(x)
        x = dropout(features, self.dropout, keys)
        return features, [nn.Dense(n, name=f'classes{a}')(x) for a, n in enumerate(self.sizes)]


class Projector(nn.Module):
    """Feature network followed by the two-layer projection head of SimCLR (Chen et al. 2020, section 4.2).

    Attributes:
      body: images -> features [B, D].
      features: width of the projection.
    """

    body: nn.Module
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, 3] -> features [B, D] and projections [B, features]."""
        features = self.body(x)
        hidden = nn.relu(nn.Dense(features.shape[-1], name='projection0')(features))
        return features, nn.Dense(self.features, use_bias=False, name='projection1')(hidden)
