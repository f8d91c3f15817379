"""The perceptual distance of two pictures: of their maps in VGG-16."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from productgen.nets.features.vgg import normalize_edges
from productgen.published.networks import EXTRACTORS

# Of the last map of each level: its weight, as in Real-ESRGAN, and the root mean square of its values on photos of
# clothes, which it is divided by, so that the weights mean the same for maps of any scale.
LEVELS = {
    'relu1_2': (0.1, 44.0),
    'relu2_2': (0.1, 17.0),
    'relu3_3': (1.0, 8.2),
    'relu4_3': (1.0, 2.1),
    'relu5_3': (1.0, 4.1),
}


@dataclasses.dataclass(frozen=True)
class Perceptual:
    """L1 distances of maps of VGG-16, weighted by level.

    Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016, with
    the levels and weights of Wang et al., "Real-ESRGAN", ICCVW 2021, section 3.4. They take VGG-19 before the ReLUs;
    these are the weights that a package carries (`requirements-weights.txt`): VGG-16 of HED, after the ReLUs.
    """

    source = EXTRACTORS['vgg']

    def __call__(self, variables: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        """Distances [B] of images [B, H, W, 3] in [-1, 1], of at least 16 pixels a side."""
        maps = [self.source.net.apply(variables, normalize_edges(x)) for x in (a, b)]
        return sum(
            weight / scale * jnp.mean(jnp.abs(maps[0][name] - maps[1][name]), (1, 2, 3))
            for name, (weight, scale) in LEVELS.items()
        )
