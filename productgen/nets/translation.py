"""What networks that translate pictures share: norms by name, dropout of a strength, antialiased resampling."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets import resample
from productgen.nets.dcgan import gains
from productgen.nets.layers import dropout
from productgen.nets.norms import BatchNorm, InstanceNorm


class Norm(nn.Module):
    """Normalisation by name, [B, H, W, C] -> the same shape.

    Attributes:
      kind: `batch`; `own`, batch norm as it is for one image at a time: its own statistics, and a gain and a bias;
        `instance`, without these; or `none`.
      running: `batch` keeps running statistics for use outside training.
    """

    kind: str
    running: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if self.kind == 'batch':
            return BatchNorm(running=self.running, gain=gains, name='batch')(x, train)
        if self.kind == 'none':
            return x
        return InstanceNorm(affine=self.kind == 'own', gain=gains, name='instance')(x)


def varied(x: jax.Array, rate: float, keys: jax.Array | None, strength: jax.Array | float = 1.0) -> jax.Array:
    """Dropout by `keys` [B] whose effect is scaled by `strength`, 0 to 1, a number or [B]; none without keys."""
    if not rate or keys is None or (isinstance(strength, float | int) and strength == 0):
        return x
    dropped = dropout(x, rate, keys)
    if isinstance(strength, float | int) and strength == 1:
        return dropped
    strength = jnp.reshape(jnp.asarray(strength, x.dtype), (-1, *[1] * (x.ndim - 1)))
    return x + strength * (dropped - x)


def mirrored(x: jax.Array, margin: int) -> jax.Array:
    """Pads [B, H, W, C] by reflection without repeating the border; H and W are larger than the margin."""
    return jnp.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)], mode='reflect')


def blur_halve(x: jax.Array) -> jax.Array:
    """Filters by [1, 2, 1] / 4 and takes every second sample, [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C].

    Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019; the border is reflected.
    """
    x = mirrored(x, 1)
    for axis in (1, 2):
        size = x.shape[axis]
        take = lambda start, stop, x=x, axis=axis: jax.lax.slice_in_dim(x, start, stop, 2, axis)
        x = 0.25 * (take(0, size - 2) + take(2, size)) + 0.5 * take(1, size - 1)
    return x


def blur_double(x: jax.Array) -> jax.Array:
    """Upsamples by [1, 3, 3, 1] / 4, the border repeated, [B, H, W, C] -> [B, 2H, 2W, C]."""
    x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode='edge')
    return resample.upsample(x)[:, 2:-2, 2:-2]
