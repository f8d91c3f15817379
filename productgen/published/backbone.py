"""A published network as the first, untrained part of another one, such as a discriminator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from productgen.nets.features.efficientnet import normalize
from productgen.published.networks import EXTRACTORS, Extractor


@dataclasses.dataclass(frozen=True)
class Backbone:
    """Maps of a published network.

    Attributes:
      source: the network and its weights.
      normalize: images in [-1, 1] -> input of the network.
      maps: names of the maps, finest first.
      size: (H, W) that images are resized to, bilinearly.
    """

    source: Extractor
    normalize: Callable[[jax.Array], jax.Array]
    maps: tuple[str, ...]
    size: tuple[int, int]

    def __call__(self, variables: Any, image: jax.Array) -> list[jax.Array]:
        """Maps [B, h, w, C] of images [B, H, W, 3] in [-1, 1]."""
        if image.shape[1:3] != self.size:
            image = jax.image.resize(image, (len(image), *self.size, 3), 'bilinear')
        found = self.source.net.apply(variables, self.normalize(image))
        return [found[name] for name in self.maps]


def efficientnet_scales(size: tuple[int, int]) -> Backbone:
    """Maps of EfficientNet-lite0 at 1/4, 1/8, 1/16 and 1/32 of the size (H, W), the last of each scale."""
    return Backbone(EXTRACTORS['efficientnet'], normalize, ('stage2', 'stage3', 'stage5', 'stage7'), size)
