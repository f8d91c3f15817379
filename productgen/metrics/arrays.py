"""Checks of feature arrays, shared by the metrics."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def features(x: ArrayLike, name: str, least: int = 1) -> np.ndarray:
    """Converts features [N, D] to NumPy float64.

    Args:
      x: anything `numpy.asarray` accepts.
      name: name of the array in error messages.
      least: minimum number of rows.

    Raises:
      ValueError: not [N, D], too few rows, or values that are not finite.
    """
    array = np.asarray(x, np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f'{name}: features must be [N, D], got {array.shape}')
    if len(array) < least:
        raise ValueError(f'{name}: {len(array)} rows are too few, at least {least} are needed')
    if not np.isfinite(array).all():
        raise ValueError(f'{name}: features must be finite')
    return array


def pair(
    a: ArrayLike, b: ArrayLike, names: tuple[str, str], least: tuple[int, int] = (1, 1)
) -> tuple[np.ndarray, np.ndarray]:
    """Applies `features` to two sets, which must have the same width D.

    Raises:
      ValueError: as `features`, or the widths differ.
    """
    a, b = features(a, names[0], least[0]), features(b, names[1], least[1])
    if a.shape[1] != b.shape[1]:
        raise ValueError(f'{names[0]} and {names[1]} differ in width: {a.shape[1]} and {b.shape[1]}')
    return a, b


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Divides rows [N, D] by their Euclidean norms; zero rows stay zero."""
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
