"""LPIPS, a learned perceptual distance between images.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, equation 1, in
version 0.1 of the authors' code: a fixed trunk with trained linear heads ("lin").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.features.alexnet import AlexNet
from productgen.nets.features.layers import Published
from productgen.nets.features.squeezenet import SqueezeNet
from productgen.nets.features.vgg import VGG

# ImageNet's mean and standard deviation for images in [-1, 1], rounded as in the authors' code.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10

TRUNKS: dict[str, tuple[type[Published], tuple[str, ...]]] = {
    'alex': (AlexNet, ('relu1', 'relu2', 'relu3', 'relu4', 'relu5')),
    'vgg': (VGG, ('relu1_2', 'relu2_2', 'relu3_3', 'relu4_3', 'relu5_3')),
    'squeeze': (SqueezeNet, ('relu1', 'fire3', 'fire5', 'fire6', 'fire7', 'fire8', 'fire9')),
}


def unit_normalize(x: jax.Array) -> jax.Array:
    """Scales the vectors of [..., C] to length 1; zero vectors stay zero and have finite gradients."""
    squares = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x / (jnp.sqrt(jnp.maximum(squares, 1e-30)) + EPS)


class LPIPS(Published):
    """LPIPS; see the module docstring.

    Attributes:
      net: trunk: `alex`, which the authors recommend as a metric, `vgg`, as a loss, or `squeeze`.
    """

    HEADS: ClassVar[tuple[str, ...]] = ('net.classifier.',)

    net: str = 'alex'

    @nn.compact
    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        """Computes distances [B] between images [B, H, W, 3] in [-1, 1], averaged over H and W; 0 for equal images.

        Computes in float32 or wider; matrix products have full float32 precision on all devices.

        Raises:
          ValueError: the shapes differ or are not [B, H, W, 3].
        """
        if a.ndim != 4 or a.shape != b.shape:
            raise ValueError(f'images must both be [B, H, W, 3], got {a.shape} and {b.shape}')
        trunk, layers = TRUNKS[self.net]
        x = jnp.concatenate([a, b])
        x = x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
        x = (x - jnp.asarray(SHIFT, x.dtype)) / jnp.asarray(SCALE, x.dtype)
        with jax.default_matmul_precision('float32'):
            features = trunk(name='net')(x)  # [2B, H', W', C]
            total = 0.0
            for i, layer in enumerate(layers):
                first, second = jnp.split(unit_normalize(features[layer]), 2)
                head = nn.Dense(1, use_bias=False, name=f'lin{i}.model.1')
                total += jnp.mean(head(jnp.square(first - second)), (1, 2, 3))
        return total

    def convert(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Converts the tensors of two files: torchvision's trunk, and heads `lin0.model.1.weight`, ... [1, C, 1, 1].

        Raises:
          ValueError: as `Published.convert`.
        """
        heads = {name: value[..., 0, 0] for name, value in tensors.items() if name.startswith('lin')}
        return super().convert({f'net.{name}': tensors[name] for name in tensors if name not in heads} | heads)

    def example(self) -> tuple[jax.Array, ...]:
        return super().example() * 2
