"""Networks on pictures of any size: in overlapping tiles, in memory that does not grow with the picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDES = 96, 160, 288, 384, 512, 640  # of tiles: the smallest that hold the picture; each pair is a program
MARGIN = 64  # of a tile, at most: what is computed and thrown away


def margin_of(reach: int, stride: int) -> int:
    """Margin of a tile for a network that sees so far and whose input has sides of multiples of `stride`.

    Up to `MARGIN` pixels, beyond which what a U-Net's coarsest level sees changes no grey level.
    """
    return min(-(-reach // stride) * stride, -(-MARGIN // stride) * stride)


def tiled(
    function: Callable[[np.ndarray], np.ndarray],
    image: np.ndarray,
    scale: int,
    margin: int,
    stride: int = 1,
    sides: tuple[int, ...] = SIDES,
) -> np.ndarray:
    """Passes a picture through a function of small pictures, tile by tile.

    Beyond its borders the picture is mirrored, so that borders are as good as the middle. All tiles lie on the same
    grid of `stride` pixels, so that tiles equal the whole.

    Args:
      function: from float32 [T, U, C] to [scale T, scale U, D], with T and U among `sides`.
      image: [H, W, C].
      scale: see `function`.
      margin: pixels around each tile that are computed and thrown away, a multiple of `stride`.
      stride: of the network.
      sides: of tiles, multiples of `stride`, rising.

    Returns:
      float32 [scale H, scale W, D].
    """
    height, width = image.shape[:2]
    sizes = [next((s for s in sides if s - 2 * margin >= length), sides[-1]) for length in (height, width)]
    inner = [(size - 2 * margin) // stride * stride for size in sizes]
    result: np.ndarray | None = None
    for top in range(0, height, inner[0]):
        rows = _mirrored(np.arange(top - margin, top - margin + sizes[0]), height)
        for left in range(0, width, inner[1]):
            columns = _mirrored(np.arange(left - margin, left - margin + sizes[1]), width)
            made = function(image[rows[:, None], columns])
            if result is None:
                result = np.empty((scale * height, scale * width, made.shape[-1]), np.float32)
            bottom, right = min(top + inner[0], height), min(left + inner[1], width)
            first, size = scale * margin, (scale * (bottom - top), scale * (right - left))
            part = made[first : first + size[0], first : first + size[1]]
            result[scale * top : scale * bottom, scale * left : scale * right] = part
    return result


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    """Positions beyond 0 to length - 1 mirrored at the borders, the border pixel repeated."""
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)
