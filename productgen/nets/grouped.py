"""The grouped convolution of ResNeXt (Xie et al. 2017)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.conv import conv_same

WIDTH = 64  # channels of one dense convolution


def _diagonal(kernel: jax.Array) -> jax.Array:
    """The kernel of a dense convolution that keeps groups apart, [h, w, C, G C] -> [h, w, G C, G C]."""
    _, _, group, channels = kernel.shape
    groups = channels // group
    apart = np.kron(np.eye(groups), np.ones((group, group)))
    return jnp.tile(kernel, (1, 1, groups, 1)) * apart.astype(kernel.dtype)


def _dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    _, _, group, channels = kernel.shape
    width = group * max(WIDTH // group, 1)
    parts = [slice(start, start + width) for start in range(0, channels, width)]
    return jnp.concatenate([conv_same(x[..., part], _diagonal(kernel[..., part])) for part in parts], -1)


def _native(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        [(k // 2, k // 2) for k in kernel.shape[:2]],
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def grouped_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 1 of each group of channels by itself, keeping the image's size.

    On CPUs a few groups at a time go through a dense convolution whose kernel is zero between them: gradients of XLA's
    own grouped one ran ten to forty times slower there, and whole steps with one dense convolution of all groups, or a
    product of matrices for each, 1.2 to 1.5 times. Elsewhere the zeros of wide nets would cost more than they spare,
    and the libraries underneath have kernels for groups.

    Args:
      x: [B, H, W, G C], groups of C neighbouring channels.
      kernel: [h, w, C, G C], of odd size; a group has as many outputs as inputs.

    Returns:
      [B, H, W, G C].
    """
    return (_dense if jax.default_backend() == 'cpu' else _native)(x, kernel)
