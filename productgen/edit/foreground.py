"""Colours of a product at its soft edges, without those of the ground that shows through."""

from __future__ import annotations

import numpy as np

from productgen.data.native import resized

_REGULAR, _GRADIENT = 1e-5, 1.0  # weights of the smoothness: everywhere, and by the change of alpha
_SMALL, _MANY, _FEW = 32, 10, 3  # iterations of levels up to 32 pixels a side, and of larger ones
_CHUNK = 2**19  # pixels solved at once


def foreground(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours F of a product where a photo is alpha F + (1 - alpha) B.

    Germer, Uelwer, Conrad, Harmeling, "Fast multi-level foreground estimation", ICPR 2020: F and B minimise the squared
    error of the composite plus the squared differences of neighbours, weighted by the change of alpha between them.
    Each level, from one pixel to the whole, starts from the one before and solves for F and B of a pixel given its
    neighbours, a few times. Two things differ from the paper: levels are halves, averaged, and only soft pixels are
    solved for: F is the photo's colour where alpha is 1, to the bit, and B where it is 0.

    Args:
      pixels: float32 [H, W, 3].
      alpha: float32 [H, W] in [0, 1].

    Returns:
      float32 [H, W, 3] within the range of [0, 1] and the photo's own colours; where alpha is 0 those of the product
      nearby, so that filters draw no fringe.
    """
    sizes = [alpha.shape]
    while max(sizes[-1]) > 1:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    limits = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    front = back = None
    for size in reversed(sizes):
        whole = size == alpha.shape
        picture, opacity = (pixels, alpha) if whole else (resized(pixels, size), resized(alpha, size))
        if front is None:
            front, back = (picture.reshape(*size, 3).copy() for _ in range(2))
        else:
            front, back = (_enlarged(x, size) for x in (front, back))
        np.copyto(front, picture, where=(opacity == 1)[..., None])
        np.copyto(back, picture, where=(opacity == 0)[..., None])
        _solve(front, back, picture, opacity, limits, _MANY if max(size) <= _SMALL else _FEW)
    return front


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel as two by two, cut to a size; a new array."""
    rows, columns = (np.arange(side) // 2 for side in size)
    return values[rows[:, None], columns]


def _solve(
    front: np.ndarray,
    back: np.ndarray,
    picture: np.ndarray,
    alpha: np.ndarray,
    limits: tuple[float, float],
    times: int,
) -> None:
    """Solves for the soft pixels of F and B [H, W, 3] given their neighbours, in place."""
    height, width = alpha.shape
    places = np.flatnonzero((alpha > 0) & (alpha < 1))
    flat, colours, fronts, backs = alpha.reshape(-1), *(x.reshape(-1, 3) for x in (picture, front, back))
    for _ in range(times):
        for start in range(0, len(places), _CHUNK):
            at = places[start : start + _CHUNK]
            row, column = np.divmod(at, width)
            near = [
                np.where(row > 0, at - width, at),  # a border pixel is its own neighbour
                np.where(row < height - 1, at + width, at),
                np.where(column > 0, at - 1, at),
                np.where(column < width - 1, at + 1, at),
            ]
            a = flat[at]
            total, f, b = np.zeros_like(a), np.zeros((len(at), 3), np.float32), np.zeros((len(at), 3), np.float32)
            for other in near:
                weight = _REGULAR + _GRADIENT * np.abs(a - flat[other])
                total += weight
                f += weight[:, None] * fronts[other]
                b += weight[:, None] * backs[other]
            # The system with the matrix [a^2 + s, a (1 - a); a (1 - a), (1 - a)^2 + s]: its solution is a step from the
            # neighbours' means along (a, 1 - a).
            a, total = a[:, None], total[:, None]
            f, b = f / total, b / total
            gap = (colours[at] - a * f - (1 - a) * b) / (total + a**2 + (1 - a) ** 2)
            fronts[at] = np.clip(f + a * gap, *limits)
            backs[at] = np.clip(b + (1 - a) * gap, *limits)
