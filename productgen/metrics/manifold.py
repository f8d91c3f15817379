"""Precision, recall, density and coverage of generated features with respect to real ones.

The manifold of a set is the union of balls around its rows, each reaching to the k-th nearest other row.

- precision: fraction of generated rows inside the real manifold; recall: fraction of real rows inside the generated
  manifold (Kynkaanniemi et al., NeurIPS 2019, equations 1 and 2, k = 3).
- density: mean number of real balls containing a generated row, divided by k, 1 for equal distributions; coverage:
  fraction of real balls containing a generated row (Naeem et al., ICML 2020, equations 3 and 4, k = 5). They are less
  sensitive to outliers, whose large balls raise precision and recall.

Balls include their surface, as in the earlier paper; it matters only for repeated rows. All four depend on the sizes of
both sets and on k; for equal distributions and set sizes, coverage tends to 1 - 2^-k.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from productgen.metrics.arrays import pair
from productgen.metrics.neighbours import Progress, nearest, squared_distances

K_PRECISION, K_DENSITY = 3, 5
_SURFACE = 1 + 1e-12  # keeps rows on the surface inside despite rounding


@dataclasses.dataclass(frozen=True)
class Manifold:
    """The four metrics; see the module docstring. Only density may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    real: ArrayLike,
    generated: ArrayLike,
    k_precision: int = K_PRECISION,
    k_density: int = K_DENSITY,
    progress: Progress | None = None,
    distances: np.ndarray | None = None,
) -> Manifold:
    """Computes the metrics of real [N, D] and generated [M, D] features, in N^2 + M^2 + N M distances.

    Args:
      real: [N, D].
      generated: [M, D].
      k_precision: k of precision and recall.
      k_density: k of density and coverage.
      progress: called with (rows done, total rows) after every block.
      distances: distances of each real row to its nearest other rows, [N, max(k)], if already known.

    Raises:
      ValueError: a k below 1, N or M not above k, or not [N, D] and [M, D].
    """
    if min(k_precision, k_density) < 1:
        raise ValueError(f'k must be at least 1, got {k_precision} and {k_density}')
    most = max(k_precision, k_density)
    real, generated = pair(real, generated, ('real', 'generated'), least=(most + 1, most + 1))
    n, m = len(real), len(generated)
    after = lambda before: (lambda done, _: progress(before + done, n + 2 * m)) if progress else None

    if distances is None:
        distances = nearest(real, k=most, progress=after(0)).distance
    radii = distances**2 * _SURFACE  # [N, k]
    real_precision, real_density = radii[:, k_precision - 1], radii[:, k_density - 1]
    generated_radius = nearest(generated, k=k_precision, progress=after(n)).distance[:, -1] ** 2 * _SURFACE

    in_real, balls = 0, 0
    recalled, covered = np.zeros(n, bool), np.zeros(n, bool)
    for rows, block in squared_distances(generated, real, after(n + m)):  # [rows, N]
        in_real += np.count_nonzero((block <= real_precision).any(1))
        recalled |= (block <= generated_radius[rows, None]).any(0)
        inside = block <= real_density
        balls += np.count_nonzero(inside)
        covered |= inside.any(0)
    return Manifold(float(in_real / m), float(recalled.mean()), float(balls / (k_density * m)), float(covered.mean()))
