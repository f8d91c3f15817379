"""JPEG compression without its lossless part: baseline JPEG's loss, differentiable."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# ITU-T T.81, annex K.1: quantisation tables for luminance and chrominance at quality 50, in rows of vertical frequency.
LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMINANCE = np.full((8, 8), 99, np.float32)
CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

# ITU-T T.871: RGB to YCbCr.
_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_RGB = np.linalg.inv(_YCBCR.astype(np.float64)).astype(np.float32)

_K = np.arange(8)
_DCT = np.cos((2 * _K[None, :] + 1) * _K[:, None] * np.pi / 16) * np.where(_K[:, None] == 0, np.sqrt(1 / 8), 0.5)
_DCT = _DCT.astype(np.float32)  # [frequency, position], orthonormal


def tables(quality: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """The tables of the Independent JPEG Group's `quality`, 1 to 100, a number or [B]: [B, 8, 8] each."""
    quality = jnp.asarray(quality, jnp.float32).reshape(-1, 1, 1)
    percent = jnp.where(quality < 50, jnp.floor(5000 / quality), 200 - 2 * quality)
    table = lambda base: jnp.clip(jnp.floor((base * percent + 50) / 100), 1, 255)
    return table(LUMINANCE), table(CHROMINANCE)


def _round(x: jax.Array) -> jax.Array:
    """Rounds; its gradient is that of the identity (the straight-through estimator, Bengio et al. 2013)."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def _quantised(plane: jax.Array, table: jax.Array) -> jax.Array:
    """A plane [B, 8h, 8w] of values around 0 after the quantisation [B, 8, 8] of its blocks."""
    b, height, width = plane.shape
    blocks = plane.reshape(b, height // 8, 8, width // 8, 8)  # [B, h, 8, w, 8]
    transform = lambda x, u: jnp.einsum('ui,bhiwj,vj->bhuwv', u, x, u, precision='highest')
    steps = jnp.broadcast_to(table, (b, 8, 8))[:, None, :, None, :]
    found = _round(transform(blocks, _DCT) / steps) * steps
    return _round(jnp.clip(transform(found, _DCT.T), -128, 127)).reshape(b, height, width)


def compress(x: jax.Array, quality: jax.Array | float, subsample: bool = True) -> jax.Array:
    """Compresses and decodes pictures.

    Chrominance is averaged over 2 x 2 pixels (4:2:0), as nearly all encoders do, and enlarged with libjpeg's triangle
    filter. Pillow's files differ by the rounding of libjpeg's integer transforms.

    Args:
      x: [B, H, W, 3] in [0, 1].
      quality: 1 to 100, a number or [B].
      subsample: 4:2:0; False for 4:4:4.

    Returns:
      [B, H, W, 3], 8-bit values over 255. The gradient passes through roundings (`_round`).
    """
    b, height, width, _ = x.shape
    unit = 16 if subsample else 8
    margin = [(0, 0), (0, -height % unit), (0, -width % unit), (0, 0)]
    x = _round(jnp.clip(x, 0, 1) * 255)
    # Values around 0, in whole numbers as libjpeg has them on the way in and on the way out.
    planes = _round(jnp.pad(x, margin, mode='edge') @ _YCBCR.T - np.array([128, 0, 0], np.float32))
    luma, chroma = tables(quality)
    y, *rest = (planes[..., i] for i in range(3))
    y = _quantised(y, luma)
    size = planes.shape[1:3]
    if subsample:
        half = lambda p: _round(jnp.mean(p.reshape(b, size[0] // 2, 2, size[1] // 2, 2), (2, 4)))
        rest = [_round(_doubled(_doubled(_quantised(half(p), chroma), 1), 2)) for p in rest]
    else:
        rest = [_quantised(p, chroma) for p in rest]
    rgb = jnp.stack([y + 128, *rest], -1) @ _RGB.T
    return jnp.clip(_round(rgb[:, :height, :width]), 0, 255) / 255


def _doubled(x: jax.Array, axis: int) -> jax.Array:
    """Twice as many samples along an axis: 3/4 of the nearer and 1/4 of the further one."""
    margin = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
    wide, size = jnp.pad(x, margin, mode='edge'), x.shape[axis]
    part = lambda start: jax.lax.slice_in_dim(wide, start, start + size, axis=axis)
    both = jnp.stack([0.25 * part(0) + 0.75 * x, 0.75 * x + 0.25 * part(2)], axis + 1)
    shape = list(x.shape)
    shape[axis] *= 2
    return both.reshape(shape)
