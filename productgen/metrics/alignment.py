"""Whether two pictures are copies of each other up to mirroring, cropping, shifting and brightness.

All parts of one picture are compared with the whole other one, mirrored or not, by the correlation of their small
versions. That of pixels is high for any two products of one shape, that of details for copies only.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from PIL import Image
from scipy import ndimage

from productgen.metrics.neighbours import Progress

SIDE = 32  # of small pictures
LEAST = 25  # side of the smallest part that is compared with the whole of the other: 0.78
EDGE = 8  # grey levels; a border within these of its corner is a bar
NOISE = 4.0  # grey levels; details below this count less
FINE, COARSE = 0.7, 1.5  # pixels: details are between these widths of Gaussians
_PAIRS = 16  # compared at a time, in about 50 MB


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How well pairs of pictures agree, at the best of all alignments.

    Attributes:
      correlation: of their details, [P], 1 for equal pictures.
      mirrored: whether one of them is mirrored, bool [P].
      scale: side of the part of one that shows the whole other, [P], 1 where both show the same.
    """

    correlation: np.ndarray
    mirrored: np.ndarray
    scale: np.ndarray


def small(images: np.ndarray) -> np.ndarray:
    """Small versions without bars: uint8 [N, H, W, 3] -> uint8 [N, SIDE, SIDE, 3], means over areas."""
    return np.stack(
        [
            np.asarray(Image.fromarray(x).resize((SIDE, SIDE), Image.Resampling.BOX, _inside(x)))
            for x in np.asarray(images)
        ]
    )


def _inside(image: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a picture [H, W, 3] without borders of one colour; all of a picture of one."""
    box = []
    for axis in (1, 0):  # columns, rows
        lines = np.moveaxis(image, axis, 0).astype(np.int16)
        first, last = (
            (np.abs(lines - corner).max((1, 2)) > EDGE).nonzero()[0] for corner in (image[0, 0], image[-1, -1])
        )
        if not len(first) or not len(last):
            return 0, 0, image.shape[1], image.shape[0]
        box.append((int(first[0]), int(last[-1]) + 1))
    (left, right), (top, bottom) = box
    return left, top, right, bottom


@functools.cache
def _shrinking(side: int) -> np.ndarray:
    """The matrix [side, SIDE] that resamples one axis by triangles, which antialias."""
    scale = SIDE / side
    places = (np.arange(side) + 0.5) * scale - 0.5
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(SIDE)) / scale, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _details(x: np.ndarray) -> np.ndarray:
    """Differences from the local mean, in local standard deviations, float32 [P, S, S, 3] -> the same.

    Without the division, outlines would hide what is inside them: two shirts have much the same outline.
    """
    blur = lambda x, width: ndimage.gaussian_filter(x, (0, width, width, 0), mode='nearest', truncate=2)
    x = blur(x, FINE)
    x = x - blur(x, COARSE)
    deviation = np.sqrt(blur(np.mean(x * x, -1, keepdims=True), COARSE))
    return x / (deviation + NOISE)


def _best(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The highest correlations of parts of `whole` with all of `part`: [2, SIDE - LEAST + 1, P], plain and mirrored.

    Args:
      whole: float32 [P, SIDE, SIDE, 3].
      part: as `whole`.
    """
    count, details, found = len(whole), _details(whole), []
    for side in range(LEAST, SIDE + 1):
        matrix = _shrinking(side)
        shrunk = _details(
            np.matmul(matrix, np.matmul(matrix, part.reshape(count, SIDE, -1)).reshape(count, side, SIDE, 3))
        )
        targets = np.stack([x.reshape(count, -1) for x in (shrunk, shrunk[:, :, ::-1])], -1)
        windows = np.lib.stride_tricks.sliding_window_view(details, (side, side), (1, 2))  # [P, y, x, 3, side, side]
        windows = np.moveaxis(windows, 3, -1).reshape(count, -1, side * side * 3)
        norms = (
            np.sqrt(np.einsum('pwd,pwd->pw', windows, windows))[..., None] * np.linalg.norm(targets, axis=1)[:, None]
        )
        found.append((windows @ targets / np.maximum(norms, 1e-6)).max(1).T)  # [2, P]
    return np.stack(found, 1)


def align(first: np.ndarray, second: np.ndarray, progress: Progress | None = None) -> Alignment:
    """Compares pairs of small pictures, about a hundred a second on one core.

    Args:
      first: uint8 [P, SIDE, SIDE, 3], see `small`.
      second: as `first`.
      progress: called with (pairs done, total pairs).
    """
    parts = []
    for start in range(0, len(first), _PAIRS):
        a, b = (x[start : start + _PAIRS].astype(np.float32) for x in (first, second))
        parts.append(np.maximum(_best(a, b), _best(b, a)))
        if progress:
            progress(min(start + _PAIRS, len(first)), len(first))
    scores = np.concatenate(parts, -1) if parts else np.zeros((2, SIDE - LEAST + 1, 0), np.float32)
    flat = scores.reshape(2 * scores.shape[1], len(first))
    place = np.argmax(flat, 0)
    mirrored, side = np.divmod(place, scores.shape[1])
    return Alignment(flat.max(0), mirrored == 1, (side + LEAST) / SIDE)
