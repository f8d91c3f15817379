"""A mask of a small copy brought to the size of its photo, along the edges that the photo shows."""

from __future__ import annotations

import cv2
import numpy as np

from productgen.data.native import resized
from productgen.edit.tiles import tiled

RADIUS = 5  # of the guided filter's windows, in pixels of each level
EPSILON = 3e-4  # of the guided filter, in squares of [0, 1]: a contrast of 0.03 is an edge
_REACH = 4  # pixels around soft ones that may change at a level
_CUT = 0.12  # how near alpha has to be to 0 or 1 to become it
_TILES = 96, 160  # small ones, since most of a photo has no edge


def guided_filter(guide: np.ndarray, values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """The guided filter with a guide of colours.

    He, Sun, Tang, "Guided image filtering", TPAMI 2013, with a guide of colours: in each window alpha is a linear
    function of the colour, by ridge regression, and a pixel takes the mean of those of all windows that hold it. Beyond
    the borders pixels are mirrored, the border pixel repeated.

    Args:
      guide: [H, W, 3].
      values: [H, W].
      radius: windows have 2 radius + 1 pixels a side.
      epsilon: weight of the ridge.

    Returns:
      float32 [H, W].
    """
    size = (2 * radius + 1, 2 * radius + 1)
    mean = lambda x: cv2.boxFilter(x, cv2.CV_64F, size, borderType=cv2.BORDER_REFLECT)
    guide, values = np.asarray(guide, np.float64), np.asarray(values, np.float64)
    middle, level = mean(guide), mean(values)
    cross = mean(guide * values[..., None]) - middle * level[..., None]
    pairs = [(i, j) for i in range(3) for j in range(i, 3)]
    products = [mean(guide[..., i] * guide[..., j]) - middle[..., i] * middle[..., j] for i, j in pairs]
    rr, rg, rb, gg, gb, bb = (x + epsilon * (i == j) for x, (i, j) in zip(products, pairs, strict=True))
    # The inverse of a symmetric 3 x 3 matrix by its cofactors.
    cofactors = [
        [gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb],
        [gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb],
        [rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg],
    ]
    determinant = sum(x * c for x, c in zip((rr, rg, rb), cofactors[0], strict=True))
    slope = np.stack([sum(c * cross[..., j] for j, c in enumerate(row)) for row in cofactors], -1)
    slope /= determinant[..., None]
    offset = level - (slope * middle).sum(-1)
    return ((mean(slope) * guide).sum(-1) + mean(offset)).astype(np.float32)


def refined(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Alpha of a photo from a mask of a smaller copy of it.

    From the copy's size to the photo's in steps of two: the mask is enlarged, and in a band around its edge replaced by
    the guided filter's. Windows of a few pixels at each size are wide ones of the photo, as in He and Sun, "Fast guided
    filter", 2015, and find edges that the enlarged mask is several pixels away from, while the last steps keep them
    sharp. Outside of the band alpha is exactly 0 or 1. Everything is done in tiles that equal the whole.

    Args:
      pixels: float32 [H, W, 3].
      mask: float32 [h, w], 0 to 1, of the same shape or smaller.

    Returns:
      float32 [H, W], 0 to 1.
    """
    alpha, size = mask, pixels.shape[:2]
    while True:
        picture = resized(pixels, alpha.shape)
        stacked = np.concatenate([picture, alpha[..., None].astype(np.float32)], -1)
        alpha = tiled(_sharpened, stacked, 1, 2 * RADIUS + _REACH + 2, 1, _TILES)[..., 0]
        if alpha.shape == size:
            return alpha
        larger = tuple(min(full, 2 * side) for full, side in zip(size, alpha.shape, strict=True))
        if any(full < 3 * side for full, side in zip(size, alpha.shape, strict=True)):
            larger = size  # not a last step of a few pixels
        alpha = cv2.resize(alpha, larger[::-1], interpolation=cv2.INTER_LINEAR)


def _sharpened(tile: np.ndarray) -> np.ndarray:
    """Colours and alpha [T, U, 4] -> alpha [T, U, 1] that follows the edges of the colours."""
    alpha = tile[..., 3]
    square = np.ones((2 * _REACH + 1,) * 2, np.uint8)
    most, least = cv2.dilate(alpha, square), cv2.erode(alpha, square)
    band = (most > _CUT) & (least < 1 - _CUT)
    result = (alpha > 0.5).astype(np.float32)
    if band.any():
        found = guided_filter(np.clip(tile[..., :3], 0, 1), alpha, RADIUS, EPSILON)
        result[band] = np.clip((found[band] - _CUT) / (1 - 2 * _CUT), 0, 1)
    return result[..., None]
