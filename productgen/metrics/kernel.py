"""Kernel distance: squared maximum mean discrepancy of features under the kernel (x y / D + 1)^3.

KID is this distance between features of the Inception network (Binkowski et al., ICLR 2018, section 4). The estimators
are unbiased at any N: for equal distributions they are 0 on average, so they may be negative.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from productgen.metrics.arrays import pair

DEGREE = 3
SUBSETS, SIZE = 100, 1000  # as in the common implementations
_BLOCK = 2**23  # kernel values per block


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """An estimate and its standard error."""

    value: float
    standard_error: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Normal confidence interval, value +- z standard errors.

        Too short for sets of a few dozen rows, whose estimates are skewed: for normal sets of 40 rows, the 95 %
        interval covered the distance in 0.86 to 0.99 of simulations.
        """
        half = special.ndtri((1 + level) / 2) * self.standard_error
        return self.value - half, self.value + half


@dataclasses.dataclass(frozen=True)
class SubsetDistance:
    """Estimates from random subsets.

    Attributes:
      value: mean of the estimates.
      deviation: standard deviation of the estimates.
      standard_error: deviation / sqrt(subsets), the error of `value` as an estimate of the mean over all subsets of
        these rows. More subsets reduce it, but not the error with respect to the distributions; for that, see
        `kernel_distance`.
    """

    value: float
    deviation: float
    standard_error: float


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kernel matrix, [N, D], [M, D] -> [N, M]."""
    return (a @ b.T / a.shape[1] + 1) ** DEGREE


def _sums(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel over the rows of b for each row of a, [N], and the reverse, [M]."""
    step = max(1, _BLOCK // len(b))
    rows, columns = [], np.zeros(len(b))
    for start in range(0, len(a), step):
        block = _kernel(a[start : start + step], b)
        rows.append(block.sum(1))
        columns += block.sum(0)
    return np.concatenate(rows), columns


def _sums_to_others(a: np.ndarray) -> np.ndarray:
    """Sums of the kernel over all other rows, [N]."""
    diagonal = (np.einsum('nd,nd->n', a, a) / a.shape[1] + 1) ** DEGREE
    return _sums(a, a)[0] - diagonal


def kernel_distance(a: ArrayLike, b: ArrayLike) -> KernelDistance:
    """Unbiased estimate from all rows of [N, D] and [M, D] (Gretton et al. 2012, lemma 6), in N M kernel values.

    The standard error is that of the jackknife over the rows of both sets: it reuses the sums of the estimate, is never
    negative, and by the inequality of Efron and Stein (1981) is not too small on average. For equal distributions,
    where the first-order variance is 0, it is about sqrt(2) too large. The unbiased variance estimator (Sutherland et
    al. 2017) is more accurate there but may be negative.

    Raises:
      ValueError: a set has fewer than 3 rows, or not [N, D] and [M, D].
    """
    a, b = pair(a, b, ('a', 'b'), least=(3, 3))
    n, m = len(a), len(b)
    within_a, within_b = _sums_to_others(a), _sums_to_others(b)
    across_a, across_b = _sums(a, b)
    mean_a, mean_b = within_a.sum() / (n * (n - 1)), within_b.sum() / (m * (m - 1))
    mean_across = across_a.sum() / (n * m)
    # Terms of the estimate without row i of a, and without row j of b.
    without_a = (within_a.sum() - 2 * within_a) / ((n - 1) * (n - 2)) - 2 * (across_a.sum() - across_a) / ((n - 1) * m)
    without_b = (within_b.sum() - 2 * within_b) / ((m - 1) * (m - 2)) - 2 * (across_b.sum() - across_b) / (n * (m - 1))
    variance = (n - 1) * np.var(without_a) + (m - 1) * np.var(without_b)
    return KernelDistance(float(mean_a + mean_b - 2 * mean_across), float(np.sqrt(variance)))


def _unbiased(a: np.ndarray, b: np.ndarray) -> float:
    n, m = len(a), len(b)
    within = _sums_to_others(a).sum() / (n * (n - 1)) + _sums_to_others(b).sum() / (m * (m - 1))
    return within - 2 * _sums(a, b)[0].sum() / (n * m)


def kernel_distance_of_subsets(
    a: ArrayLike, b: ArrayLike, subsets: int = SUBSETS, size: int = SIZE, seed: int = 0
) -> SubsetDistance:
    """Mean unbiased estimate over random subsets of `size` rows of each set: KID as usually reported.

    Args:
      a: [N, D].
      b: [M, D].
      subsets: number of subsets, at least 2.
      size: rows per subset and set, drawn without replacement.
      seed: random seed.

    Raises:
      ValueError: fewer rows than `size`, a size or number of subsets below 2, or not [N, D] and [M, D].
    """
    if size < 2 or subsets < 2:
        raise ValueError(f'size and subsets must be at least 2, got {size} and {subsets}')
    a, b = pair(a, b, ('a', 'b'), least=(size, size))
    draw = np.random.default_rng(seed)
    subset = lambda x: x[draw.choice(len(x), size, replace=False)]
    values = [_unbiased(subset(a), subset(b)) for _ in range(subsets)]
    deviation = float(np.std(values, ddof=1))
    return SubsetDistance(float(np.mean(values)), deviation, deviation / np.sqrt(subsets))
