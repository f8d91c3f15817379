"""Exact nearest neighbours by brute force, in blocks of distances.

Distances are computed as |x|^2 + |y|^2 - 2 x y, one matrix product. In float32 this difference of large numbers cannot
distinguish a copy from a near neighbour. Here it is computed in float64 on centred features, with an error of about
1e-14 of the squared norms, and the distances of the neighbours found are recomputed by subtraction, so that a copy has
distance 0. Memory is a few blocks of 64 MB plus float64 copies of the features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from productgen.metrics.arrays import features, pair

Progress = Callable[[int, int], None]  # (rows done, total rows)

_BLOCK = 2**23  # distances per block
_EQUAL = 1e-13  # of the squared norms; smaller distances are rounding errors, or below float32 resolution


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The k nearest neighbours of each row, nearest first: Euclidean `distance` [N, k] and `index` [N, k]."""

    distance: np.ndarray
    index: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of rows, nearest first: indices `first` [P] and `second` [P], and their `distance` [P]."""

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray


def squared_distances(
    a: np.ndarray, b: np.ndarray, progress: Progress | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields squared Euclidean distances of float64 [N, D] to [M, D] as blocks (slice of rows of a, [rows, M]).

    Rows that are equal up to rounding have distance exactly 0. The caller may modify the blocks.
    """
    centre = b.mean(0)
    a, b = (a - centre, b - centre) if a is not b else (a - centre,) * 2
    norms_a, norms_b = (np.einsum('nd,nd->n', x, x) for x in (a, b))
    step = max(1, _BLOCK // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        norms = norms_a[rows, None] + norms_b
        block = a[rows] @ b.T
        block *= -2
        block += norms
        block[block < _EQUAL * norms] = 0
        yield rows, block
        if progress:
            progress(rows.stop, len(a))


def nearest(a: ArrayLike, b: ArrayLike | None = None, k: int = 1, progress: Progress | None = None) -> Neighbours:
    """Finds the k rows of b [M, D] nearest to each row of a [N, D]; without b, the nearest other rows of a.

    Raises:
      ValueError: k < 1, fewer than k candidate rows, or not [N, D] and [M, D].
    """
    if k < 1:
        raise ValueError(f'k must be at least 1, got {k}')
    within = b is None
    if within:
        a = b = features(a, 'features', least=k + 1)
    else:
        a, b = pair(a, b, ('a', 'b'), least=(1, k))
    distances, indices = np.empty((len(a), k)), np.empty((len(a), k), np.int64)
    for rows, block in squared_distances(a, b, progress):
        if within:
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        found = np.argpartition(block, k - 1)[:, :k]
        exact = np.stack([np.linalg.norm(a[rows] - b[index], axis=1) for index in found.T], 1)
        order = np.argsort(exact, 1, kind='stable')
        distances[rows], indices[rows] = (np.take_along_axis(x, order, 1) for x in (exact, found))
    return Neighbours(distances, indices)
