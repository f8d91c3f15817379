"""AlexNet with torchvision's layout and weights: the single-column network of Krizhevsky, "One weird trick", 2014."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax

from productgen.nets.features.layers import Conv, Published, adaptive_avg_pool, flatten, max_pool


class AlexNet(Published):
    """AlexNet; see the module docstring.

    Attributes:
      classes: number of classes, 1000 as published; 0 for features only.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('classifier.',)

    classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3] of at least 31 pixels (63 with classes), normalised by `normalize_imagenet`.

        Returns:
          `relu1` to `relu5`, the maps [B, H', W', C] after each convolution's ReLU; with `classes` also `logits`
          [B, classes].
        """
        features = {'relu1': nn.relu(Conv(64, (11, 11), 4, (2, 2), name='features.0')(x))}
        x = max_pool(features['relu1'], 3, 2)
        features['relu2'] = nn.relu(Conv(192, (5, 5), padding=(2, 2), name='features.3')(x))
        x = max_pool(features['relu2'], 3, 2)
        for i, (width, index) in enumerate(((384, 6), (256, 8), (256, 10)), 3):
            x = features[f'relu{i}'] = nn.relu(Conv(width, padding=(1, 1), name=f'features.{index}')(x))
        if self.classes:
            x = flatten(adaptive_avg_pool(max_pool(x, 3, 2), 6))
            for name in ('classifier.1', 'classifier.4'):
                x = nn.relu(nn.Dense(4096, name=name)(x))
            features['logits'] = nn.Dense(self.classes, name='classifier.6')(x)
        return features
