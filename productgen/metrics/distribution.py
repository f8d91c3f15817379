"""How far sets of features are from one set of real ones: all the figures that are taken of features alone."""

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

DISTANCES = ('frechet_distance', 'kernel_distance')  # smaller is better; of the other figures, larger
LEAST = max(K_PRECISION, K_DENSITY) + 1  # rows that either set needs
RESAMPLES = 200  # of the figures of a class
WIDEST = 512  # features of which a distance is resampled


class Reference:
    """Real features that others are compared with; their moments and neighbours are taken once.

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
        """`DISTANCES`, `kernel_distance_error` (one standard error), precision, recall, density and coverage.

        Args:
          generated: features [M, D].
          progress: called with (rows done, rows in all) while neighbours are searched.

        Raises:
          ValueError: fewer than `LEAST` rows, another width, or not finite.
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
    """Distances of two small sets, with what can be said of their error.

    The kernel distance always has its standard error. The Frechet distance is given only where both sets have more rows
    than features, with its basic bootstrap interval of 95 %: below that it is mostly bias (see `bootstrap`). Of more
    than `WIDEST` features, whose resamples take minutes, it is not given.

    Args:
      generated: [N, D].
      real: [M, D].
      seed: of the resamples.
    """
    kernel = kernel_distance(generated, real)
    found = {'kernel_distance': kernel.value, 'kernel_distance_error': kernel.standard_error}
    if real.shape[1] <= WIDEST and min(len(generated), len(real)) > real.shape[1]:
        distance = lambda a, b: frechet_distance(Moments.of(a), Moments.of(b))
        resampled = bootstrap(distance, generated, real, resamples=RESAMPLES, seed=seed)
        found |= {'frechet_distance': resampled.value, 'frechet_distance_interval': list(resampled.basic())}
    return found
