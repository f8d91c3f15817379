"""VGG-16 and VGG-19 without batch norm (Simonyan and Zisserman, ICLR 2015), with torchvision's layout and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.features.layers import Conv, Published, adaptive_avg_pool, flatten, max_pool

WIDTHS = (64, 128, 256, 512, 512)
EDGES_MEAN = (122.67892, 116.66877, 104.00699)  # of red, green and blue, for the weights of HED
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions of each level


class VGG(Published):
    """VGG; see the module docstring.

    Attributes:
      depth: 16 or 19 layers with weights.
      classes: number of classes, 1000 as published; 0 for features only.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('classifier.',)

    depth: int = 16
    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3] of at least 16 pixels, normalised by `normalize_imagenet`.

        Returns:
          `relu1_1`, `relu1_2`, `relu2_1`, ..., the maps [B, H', W', C] after each ReLU, halved in size at each level;
          with `classes` also `logits` [B, classes].
        """
        features, index = {}, 0  # torchvision's indices count convolutions, ReLUs and pools
        for level, (width, count) in enumerate(zip(WIDTHS, DEPTHS[self.depth], strict=True), 1):
            for i in range(1, count + 1):
                x = nn.relu(Conv(width, padding=(1, 1), name=f'features.{index}')(x))
                features[f'relu{level}_{i}'] = x
                index += 2
            if level < len(WIDTHS) or self.classes:
                x = max_pool(x, 2, 2)
            index += 1
        if self.classes:
            x = flatten(adaptive_avg_pool(x, 7))
            for name in ('classifier.0', 'classifier.3'):
                x = nn.relu(nn.Dense(4096, name=name)(x))
            features['logits'] = nn.Dense(self.classes, name='classifier.6')(x)
        return features


def normalize_edges(image: jax.Array) -> jax.Array:
    """Images [..., 3] in [-1, 1] as the weights of HED expect them: blue first, 0 to 255 less the mean of ImageNet."""
    return (image * 127.5 + 127.5 - jnp.asarray(EDGES_MEAN, image.dtype))[..., ::-1]


def from_edges(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The convolutions of VGG-16 in the weights of HED, by their published names.

    HED (Xie and Tu, ICCV 2015) is VGG-16, trained on ImageNet, fine-tuned to find edges. Its heads are left out.

    Args:
      tensors: as Keras wrote them, `block1/layers/conv2d_1/vars/0` is [h, w, C, D].

    Raises:
      KeyError: one of them is missing.
    """
    found, index = {}, 0
    for level, count in enumerate(DEPTHS[16], 1):
        for i in range(count):
            layer = f'block{level}/layers/conv2d{f"_{i}" if i else ""}/vars'
            found[f'features.{index}.weight'] = tensors[f'{layer}/0'].transpose(3, 2, 0, 1)
            found[f'features.{index}.bias'] = tensors[f'{layer}/1']
            index += 2
        index += 1
    return found
