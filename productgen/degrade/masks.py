"""Masks of missing parts: free-form strokes, boxes and scratches. 1 where a pixel is missing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

VERTICES = 8  # of a stroke, at most


def _segments(size: tuple[int, int], points: jax.Array, width: jax.Array, used: jax.Array) -> jax.Array:
    """Where a pixel is nearer than `width` / 2 to a segment.

    Args:
      size: (H, W).
      points: [S, V, 2], rows and columns of the corners of S lines.
      width: [S].
      used: number of corners that are used, int [S].

    Returns:
      bool [H, W].
    """
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    pixel = jnp.stack([rows, columns], -1)  # [H, W, 2]

    def covered(start: jax.Array, end: jax.Array, width: jax.Array, valid: jax.Array) -> jax.Array:
        along = end - start
        length = jnp.maximum(jnp.sum(along**2), 1e-6)
        t = jnp.clip(jnp.sum((pixel - start) * along, -1) / length, 0, 1)[..., None]
        return valid & (jnp.sum((pixel - start - t * along) ** 2, -1) <= (width / 2) ** 2)

    lines, corners = points.shape[:2]
    starts, ends = points[:, :-1].reshape(-1, 2), points[:, 1:].reshape(-1, 2)
    widths = jnp.repeat(width, corners - 1)
    valid = (jnp.arange(corners - 1)[None, :] < used[:, None] - 1).reshape(-1)

    return jnp.any(jax.vmap(covered)(starts, ends, widths, valid), 0)


def _free_form(key: jax.Array, size: tuple[int, int], strokes: int = 4) -> jax.Array:
    """Strokes of a brush, bool [H, W]: Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019,
    section 4.3: lines with random corners that alternate in direction, of random length and width."""
    shorter = min(size)
    where, turn, wide, long, many, which = jax.random.split(key, 6)
    start = jax.random.uniform(where, (strokes, 1, 2)) * jnp.asarray(size, jnp.float32)
    angle = 2 * np.pi / 5 + jax.random.uniform(turn, (strokes, VERTICES - 1), minval=-1, maxval=1) * (2 * np.pi / 15)
    # Every second one goes back: the brush scribbles instead of walking away.
    angle = jnp.where(jnp.arange(VERTICES - 1) % 2 == 0, angle + np.pi, angle)
    angle = angle + jax.random.uniform(which, (strokes, 1), maxval=2 * np.pi)
    length = shorter * jax.random.uniform(long, (strokes, VERTICES - 1), minval=0.1, maxval=0.4)
    steps = length[..., None] * jnp.stack([jnp.sin(angle), jnp.cos(angle)], -1)
    points = jnp.concatenate([start, start + jnp.cumsum(steps, 1)], 1)
    points = jnp.clip(points, 0, jnp.asarray(size, jnp.float32) - 1)
    width = shorter * jax.random.uniform(wide, (strokes,), minval=0.03, maxval=0.12)
    used = jax.random.randint(many, (strokes,), 3, VERTICES + 1)
    return _segments(size, points, width, used)


def _boxes(key: jax.Array, size: tuple[int, int], boxes: int = 2) -> jax.Array:
    """Rectangles with sides from an eighth to a half of the picture's, bool [H, W]."""
    where, how_large = jax.random.split(key)
    extent = jnp.asarray(size, jnp.float32)
    side = extent * jax.random.uniform(how_large, (boxes, 2), minval=1 / 8, maxval=1 / 2)
    corner = jax.random.uniform(where, (boxes, 2)) * (extent - side)
    rows, columns = (jnp.arange(side, dtype=jnp.float32) for side in size)
    rows, columns = rows[:, None], columns[None, :]
    inside = [
        (rows >= low[0]) & (rows < low[0] + s[0]) & (columns >= low[1]) & (columns < low[1] + s[1])
        for low, s in zip(corner, side, strict=True)
    ]
    return jnp.any(jnp.stack(inside), 0)


def _scratches(key: jax.Array, size: tuple[int, int], scratches: int = 6) -> jax.Array:
    """Thin lines with a few bends across the picture, bool [H, W]."""
    ends, bends, wide, many = jax.random.split(key, 4)
    extent = jnp.asarray(size, jnp.float32)
    start, end = (jax.random.uniform(k, (scratches, 1, 2)) * extent for k in jax.random.split(ends))
    t = jnp.linspace(0, 1, 4).reshape(1, 4, 1)
    points = start + (end - start) * t + jax.random.normal(bends, (scratches, 4, 2)) * (0.02 * min(size))
    width = 1 + jax.random.uniform(wide, (scratches,), maxval=2)
    shown = jax.random.uniform(many, (scratches,)) < 0.7
    return _segments(size, points, width, jnp.where(shown, 4, 0))


KINDS = {'free_form': _free_form, 'boxes': _boxes, 'scratches': _scratches}


def draw(keys: jax.Array, size: tuple[int, int], kinds: tuple[str, ...] = tuple(KINDS)) -> jax.Array:
    """A mask for each key, of one of the kinds: float32 [B, H, W, 1], 1 where a pixel is missing, never all of them.

    Args:
      keys: [B].
      size: (H, W).
      kinds: of `KINDS`, equally often.
    """

    def one(key: jax.Array) -> jax.Array:
        chosen, shape = jax.random.split(key)
        index = jax.random.randint(chosen, (), 0, len(kinds))
        mask = jax.lax.switch(index, [lambda k, make=KINDS[kind]: make(k, size) for kind in kinds], shape)
        # A tiny picture may be covered whole.
        return mask & ~(jnp.all(mask) & (jnp.arange(size[1])[None, :] < (size[1] + 1) // 2))

    return jax.lax.map(one, keys)[..., None].astype(jnp.float32)
