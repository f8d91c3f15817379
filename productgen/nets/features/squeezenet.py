"""SqueezeNet 1.1 (Iandola et al. 2016; version 1.1 of the authors' code) with torchvision's layout and weights."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.features.layers import Conv, Published, max_pool

POOLS = (2, 5, 8)  # torchvision's indices of the pools; the others are fire modules


class Fire(nn.Module):
    """1x1 convolution of width `narrow`, then parallel 1x1 and 3x3 ones, [B, H, W, C] -> [B, H, W, 2 wide]."""

    narrow: int
    wide: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(Conv(self.narrow, (1, 1), name='squeeze')(x))
        sides = Conv(self.wide, (1, 1), name='expand1x1')(x), Conv(self.wide, padding=(1, 1), name='expand3x3')(x)
        return nn.relu(jnp.concatenate(sides, -1))


class SqueezeNet(Published):
    """SqueezeNet 1.1; see the module docstring.

    Attributes:
      classes: number of classes, 1000 as published; 0 for features only.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('classifier.',)

    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3] of at least 17 pixels, normalised by `normalize_imagenet`.

        Returns:
          maps [B, H', W', C]: `relu1` after the first convolution and `fire2` to `fire9`; with `classes` also `logits`
          [B, classes].
        """
        x = nn.relu(Conv(64, stride=2, name='features.0')(x))
        features, index = {'relu1': x}, 2
        for i, narrow in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
            if index in POOLS:
                x, index = max_pool(x, 3, 2, ceil=True), index + 1
            x = features[f'fire{i}'] = Fire(narrow, 4 * narrow, name=f'features.{index}')(x)
            index += 1
        if self.classes:
            x = nn.relu(Conv(self.classes, (1, 1), name='classifier.1')(x))
            features['logits'] = jnp.mean(x, (1, 2))
        return features
