"""Bootstrap intervals for any figure of features (Efron 1979; Davison and Hinkley 1997, chapter 5).

Which interval to use depends on the figure's bias:

- percentile: the quantiles of the figures of the resamples. For figures without bias, such as means and shares.
- basic: the same, reflected about the figure. For the Frechet distance: a resample repeats rows, so its distance is
  biased upwards once more, by about as much as the distance itself is. Percentile intervals are wrong by twice the bias
  and may not even hold the figure; the basic interval takes the bias off. It does so to first order: with N not far
  above D (see `frechet`), or in a class of few pictures, no bootstrap interval of it is to be trusted.
- normal: the figure +- z standard deviations of the resamples. For the kernel distance, which is unbiased, but not in
  resamples, since its estimator takes repeated rows for different ones. Its own jackknife interval is cheaper.

Rows must be independent: of several pictures of one product, take one, or average them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """A figure, and the figures of the resamples [R]."""

    value: float
    resampled: np.ndarray

    @property
    def bias(self) -> float:
        """Mean of the resamples' figures less the figure; compare with `standard_error`."""
        return float(np.mean(self.resampled) - self.value)

    @property
    def standard_error(self) -> float:
        return float(np.std(self.resampled, ddof=1))

    def percentile(self, level: float = 0.95) -> tuple[float, float]:
        """For figures without bias."""
        low, high = np.quantile(self.resampled, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def basic(self, level: float = 0.95) -> tuple[float, float]:
        """For figures with as much bias as their resamples have, such as the Frechet distance."""
        low, high = self.percentile(level)
        return 2 * self.value - high, 2 * self.value - low

    def normal(self, level: float = 0.95) -> tuple[float, float]:
        """For figures without bias whose resamples have some, such as the kernel distance."""
        half = float(special.ndtri((1 + level) / 2)) * self.standard_error
        return self.value - half, self.value + half


def bootstrap(statistic: Callable[..., float], *sets: ArrayLike, resamples: int = 1000, seed: int = 0) -> Bootstrap:
    """Resamples the rows of each set by itself, with replacement, and takes the figure of each resample.

    Args:
      statistic: `(*sets) -> float`.
      *sets: arrays [N, ...], each of its own N.
      resamples: number of resamples; a few hundred for a standard error, 1000 for an interval.
      seed: of the draws.

    Raises:
      ValueError: no sets, a set of fewer than 2 rows, or fewer than 2 resamples.
    """
    arrays = [np.asarray(x) for x in sets]
    if not arrays or any(x.ndim < 1 or len(x) < 2 for x in arrays):
        raise ValueError('a bootstrap needs sets of at least 2 rows each')
    if resamples < 2:
        raise ValueError(f'resamples must be at least 2, got {resamples}')
    draw = np.random.default_rng(seed)
    again = lambda x: x[draw.integers(len(x), size=len(x))]
    figures = [statistic(*map(again, arrays)) for _ in range(resamples)]
    return Bootstrap(float(statistic(*arrays)), np.asarray(figures, np.float64))
