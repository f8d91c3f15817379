"""Bootstrap confidence intervals for any statistic of features (Efron 1979; Davison and Hinkley 1997, chapter 5).

Which interval to use depends on the bias of the statistic:

- percentile: quantiles of the statistic over the resamples. For unbiased statistics, such as means and fractions.
- basic: the percentile interval reflected about the estimate. For the Frechet distance: resamples repeat rows, so their
  distance has a further upward bias, about as large as that of the distance itself. Percentile intervals are off by
  twice the bias and may not contain the estimate; the basic interval corrects the bias. The correction is of first
  order: where N is not far above D (see `frechet`), or in a class of few images, no bootstrap interval is reliable.
- normal: the estimate +- z standard deviations of the resamples. For the kernel distance, which is unbiased, but not on
  resamples, since its estimator treats repeated rows as different ones. Its jackknife interval is cheaper.

Rows must be independent: of several images of one product, use one, or their average.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """The statistic of a sample, `value`, and of its resamples, `resampled` [R]."""

    value: float
    resampled: np.ndarray

    @property
    def bias(self) -> float:
        """Mean over the resamples minus `value`; compare with `standard_error`."""
        return float(np.mean(self.resampled) - self.value)

    @property
    def standard_error(self) -> float:
        return float(np.std(self.resampled, ddof=1))

    def percentile(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval, for unbiased statistics."""
        low, high = np.quantile(self.resampled, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def basic(self, level: float = 0.95) -> tuple[float, float]:
        """Basic interval, for statistics as biased as their resamples, such as the Frechet distance."""
        low, high = self.percentile(level)
        return 2 * self.value - high, 2 * self.value - low

    def normal(self, level: float = 0.95) -> tuple[float, float]:
        """Normal interval, for unbiased statistics with biased resamples, such as the kernel distance."""
        half = float(special.ndtri((1 + level) / 2)) * self.standard_error
        return self.value - half, self.value + half


def bootstrap(statistic: Callable[..., float], *sets: ArrayLike, resamples: int = 1000, seed: int = 0) -> Bootstrap:
    """Computes a statistic on resamples: the rows of each set are drawn independently, with replacement.

    Args:
      statistic: `(*sets) -> float`.
      *sets: arrays [N, ...]; N may differ between sets.
      resamples: number of resamples; a few hundred for a standard error, 1000 for an interval.
      seed: random seed.

    Raises:
      ValueError: no sets, a set of fewer than 2 rows, or fewer than 2 resamples.
    """
    arrays = [np.asarray(x) for x in sets]
    if not arrays or any(x.ndim < 1 or len(x) < 2 for x in arrays):
        raise ValueError('a bootstrap needs sets of at least 2 rows each')
    if resamples < 2:
        raise ValueError(f'resamples must be at least 2, got {resamples}')
    draw = np.random.default_rng(seed)
    resample = lambda x: x[draw.integers(len(x), size=len(x))]
    values = [statistic(*map(resample, arrays)) for _ in range(resamples)]
    return Bootstrap(float(statistic(*arrays)), np.asarray(values, np.float64))
