"""The small feature network that the project ships: a residual network trained on product pictures (docs/features.md).

Its weights are written by `benchmarks/small_features.py`, in the names of the modules: `block1_0.conv1.kernel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.features.layers import Published
from productgen.nets.resnet import ResNet

WIDTH, BLOCKS, PATCH, SIDE = 16, (1, 1, 1, 1), 2, 64  # SIDE: of the pictures it was trained on


class SmallNet(Published):
    """The residual network of configs/classifier.py, without its linear classifiers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, H, W, 3] in [-1, 1], both sides multiples of 16.

        Returns:
          `level1` to `level4`, maps [B, H / 2, W / 2, 16] to [B, H / 16, W / 16, 128], and `last`, the activation of
          `level4`, whose mean the classifiers see.
        """
        *levels, last = ResNet(WIDTH, BLOCKS, PATCH, name='body').maps(x)
        return {f'level{i}': level for i, level in enumerate(levels, 1)} | {'last': last}

    def convert(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Converts the tensors of the file to float32 variables.

        Raises:
          ValueError: tensors are missing, unexpected or of a wrong shape.
        """
        shapes = jax.eval_shape(self.init, jax.random.key(0), *self.example())['params']['body']
        expected = {name: leaf.shape for name, leaf in named(shapes).items()}
        found = {name: x.shape for name, x in tensors.items()}
        if found != expected:
            wrong = sorted(n for n in expected.keys() | found if expected.get(n) != found.get(n))
            raise ValueError(f'other tensors or shapes than expected: {", ".join(wrong[:6])}')
        body = flax.traverse_util.unflatten_dict(
            {tuple(name.split('.')): np.asarray(x, np.float32) for name, x in tensors.items()}
        )
        return {'params': {'body': body}}

    def example(self) -> tuple[jax.Array, ...]:
        """Arguments of a call."""
        return (jnp.zeros((1, SIDE, SIDE, 3)),)


def named(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the residual network by the names in the file."""
    return flax.traverse_util.flatten_dict(params, sep='.')
