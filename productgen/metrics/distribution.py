"""All metrics that compare sets of features with a reference set of real features."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from productgen.metrics.arrays import features
from productgen.metrics.bootstrap import bootstrap
from productgen.metrics.frechet import Moments, frechet_distance
from productgen.metrics.kernel import kernel_distance
from productgen.metrics.manifold import K_DENSITY, K_PRECISION, manifold
from productgen.metrics.neighbours import Progress, nearest

DISTANCES = ('frechet_distance', 'kernel_distance')  # lower is better; for the other metrics, higher
LEAST = max(K_PRECISION, K_DENSITY) + 1  # minimum number of rows of each set
RESAMPLES = 200  # bootstrap resamples of a class
WIDEST = 512  # most features for which the Frechet distance is bootstrapped


class Reference:
    """Reference set of real features, whose moments and neighbours are computed once.

    Args:
      real: [N, D].

    Raises:
      ValueError: fewer than `LEAST` rows, not [N, D], or not finite.
    """

    def __init__(self, real: ArrayLike):
        self._real = features(real, 'real', least=LEAST)
        self._moments = Moments.of(self._real)
        self._distances = nearest(self._real, k=max(K_PRECISION, K_DENSITY)).distance

    def figures(self, generated: ArrayLike, progress: Progress | None = None) -> Mapping[str, float]:
        """Computes `DISTANCES`, `kernel_distance_error` (standard error), precision, recall, density and coverage.

        Args:
          generated: features [M, D].
          progress: called with (rows done, total rows) during the neighbour search.

        Raises:
          ValueError: fewer than `LEAST` rows, a different width, or not finite.
        """
        generated = features(generated, 'generated', least=LEAST)
        kernel = kernel_distance(generated, self._real)
        return {
            'frechet_distance': frechet_distance(Moments.of(generated), self._moments),
            'kernel_distance': kernel.value,
            'kernel_distance_error': kernel.standard_error,
            **dataclasses.asdict(manifold(self._real, generated, progress=progress, distances=self._distances)),
        }


def intervals_of_class(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> dict[str, float | list[float]]:
    """Distances between two small sets, with error estimates.

    The kernel distance comes with its standard error. The Frechet distance, with its basic bootstrap interval of 95 %,
    is included only if both sets have more rows than features, since otherwise it is mostly bias (see `bootstrap`), and
    if there are at most `WIDEST` features, since more take minutes to resample.

    Args:
      generated: [N, D].
      real: [M, D].
      seed: random seed of the resamples.

    Returns:
      `kernel_distance`, `kernel_distance_error`, and where included `frechet_distance` and
      `frechet_distance_interval`, [low, high].
    """
    kernel = kernel_distance(generated, real)
    found = {'kernel_distance': kernel.value, 'kernel_distance_error': kernel.standard_error}
    if real.shape[1] <= WIDEST and min(len(generated), len(real)) > real.shape[1]:
        distance = lambda a, b: frechet_distance(Moments.of(a), Moments.of(b))
        resampled = bootstrap(distance, generated, real, resamples=RESAMPLES, seed=seed)
        found |= {'frechet_distance': resampled.value, 'frechet_distance_interval': list(resampled.basic())}
    return found
