"""Resizing as Pillow does it: antialiased, its window as wide as the pixels of the smaller picture."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def _cubic(t: jax.Array) -> jax.Array:
    """Keys' cubic with a = -0.5."""
    t = jnp.abs(t)
    near = (1.5 * t - 2.5) * t * t + 1
    far = ((-0.5 * t + 2.5) * t - 4) * t + 2
    return jnp.where(t < 1, near, jnp.where(t < 2, far, 0.0))


def _lanczos(t: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(t) < 3, jnp.sinc(t) * jnp.sinc(t / 3), 0.0)


# The filters, and how far they reach in pixels of the source where it is enlarged. Pillow's box covers (-0.5, 0.5].
FILTERS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'box': lambda t: jnp.where((t > -0.5) & (t <= 0.5), 1.0, 0.0),
    'bilinear': lambda t: jnp.maximum(1 - jnp.abs(t), 0),
    'bicubic': _cubic,
    'lanczos': _lanczos,
}


def weights(
    target: int,
    source: int,
    method: str = 'bicubic',
    *,
    scale: jax.Array | float | None = None,
    valid: jax.Array | int | None = None,
) -> jax.Array:
    """The matrix [target, source] that resizes one axis.

    Args:
      target: pixels of the result.
      source: pixels of the array that is resized.
      method: of `FILTERS`.
      scale: pixels of the result to one of the source; `target / source` by default.
      valid: how many of the first pixels of the source are the picture; all by default. The rest is not read.
    """
    scale = jnp.asarray(target / source if scale is None else scale, jnp.float32)
    stretch = jnp.maximum(1 / scale, 1.0)
    position = np.arange(source, dtype=np.float32)
    centre = (jnp.arange(target, dtype=jnp.float32) + 0.5) / scale - 0.5
    values = FILTERS[method]((position[None, :] - centre[:, None]) / stretch)
    if valid is not None:
        values = jnp.where(position[None, :] < valid, values, 0.0)
    total = jnp.sum(values, 1, keepdims=True)
    return values / jnp.where(jnp.abs(total) < 1e-6, 1.0, total)


def resize(x: jax.Array, size: tuple[int, int], method: str = 'bicubic') -> jax.Array:
    """Resizes pictures [B, H, W, C] to `size` (height, width), [B, H', W', C], clipped to [0, 1].

    Equal within 1/255 to Pillow's `Image.resize`, which rounds and clips between the two axes and at the end.
    """
    return _apply(x, weights(size[0], x.shape[1], method), weights(size[1], x.shape[2], method))


def _apply(x: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """x [B, H, W, C] with matrices [H', H] and [W', W], clipped after each."""
    x = jnp.clip(jnp.einsum('wv,bhvc->bhwc', columns, x, precision='highest'), 0, 1)
    return jnp.clip(jnp.einsum('hg,bgwc->bhwc', rows, x, precision='highest'), 0, 1)


def rescale(
    x: jax.Array, size: tuple[int, int], scale: jax.Array, valid: tuple[jax.Array, jax.Array], method: jax.Array
) -> jax.Array:
    """Resizes one picture by factors that are known only when the program runs.

    Args:
      x: [H, W, C], the picture in its first rows and columns.
      size: (height, width) of the result, which must hold the picture.
      scale: factors of rows and of columns, [2].
      valid: rows and columns of `x` that are the picture.
      method: index into `FILTERS`.

    Returns:
      [*size, C], the picture in its first `valid` x `scale` rows and columns, beyond which its border is repeated.
    """

    def matrix(axis: int) -> jax.Array:
        make = lambda name: weights(size[axis], x.shape[axis], name, scale=scale[axis], valid=valid[axis])
        rows = jnp.stack([make(name) for name in FILTERS])[method]
        last = jnp.maximum(jnp.round(valid[axis] * scale[axis]).astype(jnp.int32) - 1, 0)
        return rows[jnp.minimum(jnp.arange(size[axis]), last)]

    return _apply(x[None], matrix(0), matrix(1))[0]
