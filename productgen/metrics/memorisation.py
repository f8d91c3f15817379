"""Whether a generator copies its training pictures: are its samples nearer to them than new real pictures are?

Both samples and held-out pictures are measured by the distance to their nearest training picture. Rows of each set must
be independent: held-out pictures must show other products than the training pictures do, not other views of them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.cluster import vq

from productgen.metrics.arrays import pair
from productgen.metrics.neighbours import Pairs, Progress, nearest

LEAST = 20  # rows of either set in a cell, for the normal approximation


@dataclasses.dataclass(frozen=True)
class RankTest:
    """One-sided Mann-Whitney test that the first distances tend to be smaller than the second.

    Attributes:
      u: number of pairs in which the first distance is larger, ties counting half.
      z: standardised u, far below 0 for copies, far above for samples that lie off the data.
      p: chance of so small a z if both were drawn alike.
    """

    u: float
    z: float
    p: float


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """Copying in figures.

    Attributes:
      share: share of the samples as near to a training picture as the nearest `quantile` of the held-out pictures;
        about `quantile` if the generator does not copy.
      quantile: what `share` is to be compared with.
      test: of all distances together.
      c_t: mean of the cells' z, weighted by their held-out pictures: C_T of Meehan et al. 2020. With one cell, test.z.
      p: chance of so small a `c_t` if samples were drawn like the held-out pictures; with one cell, test.p.
      cells: cells with enough rows to be counted in `c_t`.
      distance: of each sample to its nearest training picture, [S].
      index: of that training picture, [S].
      held_out: distance of each held-out picture to its nearest training picture, [H].
    """

    share: float
    quantile: float
    test: RankTest
    c_t: float
    p: float
    cells: int
    distance: np.ndarray
    index: np.ndarray
    held_out: np.ndarray

    def closest(self, count: int) -> Pairs:
        """The nearest (sample, training picture) pairs, for a look at them."""
        order = np.argsort(self.distance, kind='stable')[:count]
        return Pairs(order, self.index[order], self.distance[order])


def rank_test(first: ArrayLike, second: ArrayLike) -> RankTest:
    """Mann-Whitney test of [S] against [H] values, normal approximation with corrections for ties and continuity.

    Raises:
      ValueError: either is empty.
    """
    first, second = np.asarray(first, np.float64), np.sort(np.asarray(second, np.float64))
    n, m = len(first), len(second)
    if not n or not m:
        raise ValueError(f'a rank test needs values on both sides, got {n} and {m}')
    smaller, not_larger = (np.searchsorted(second, first, side) for side in ('left', 'right'))
    u = float(np.sum(smaller + not_larger)) / 2
    ties = np.unique(np.concatenate([first, second]), return_counts=True)[1].astype(np.float64)
    variance = n * m / 12 * (n + m + 1 - np.sum(ties**3 - ties) / ((n + m) * max(n + m - 1, 1)))
    z = float((u - n * m / 2 + 0.5) / np.sqrt(variance)) if variance > 0 else 0.0
    return RankTest(u, z, float(special.ndtr(z)))


def memorisation(
    samples: ArrayLike,
    training: ArrayLike,
    held_out: ArrayLike,
    quantile: float = 0.05,
    cells: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> Memorisation:
    """Compares distances to training pictures of samples and of held-out pictures.

    The test is that of Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
    Models", AISTATS 2020. Copying in one region may be hidden by samples that are too far off in another; with `cells`
    above 1, training features are divided by k-means and each cell is tested by itself. Cells in which there are fewer
    than 20 samples or held-out pictures are left out. p assumes that the cells' z are independent normal values, which
    they are under the null hypothesis.

    Args:
      samples: features of generated pictures, [S, D].
      training: features of the training pictures, [N, D].
      held_out: features of real pictures that were not trained on, [H, D].
      quantile: of the held-out distances, for `share`.
      cells: number of cells.
      seed: of k-means.
      progress: called with (rows done, rows in all) after every block.

    Raises:
      ValueError: fewer than 20 samples or held-out pictures, too few of them in every cell, fewer training pictures
        than cells, a quantile outside (0, 1), or features that are not [N, D] of one width.
    """
    if not 0 < quantile < 1:
        raise ValueError(f'quantile must be between 0 and 1, got {quantile}')
    if cells < 1:
        raise ValueError(f'cells must be at least 1, got {cells}')
    samples, held_out = pair(samples, held_out, ('samples', 'held_out'), least=(LEAST, LEAST))
    samples, training = pair(samples, training, ('samples', 'training'), least=(LEAST, cells))
    rows = len(samples)
    total = rows + len(held_out)
    after = lambda before: (lambda done, _: progress(before + done, total)) if progress else None
    found = nearest(samples, training, progress=after(0))
    near, real = found.distance[:, 0], nearest(held_out, training, progress=after(rows)).distance[:, 0]

    test = rank_test(near, real)
    tests, weights = [test], [1.0]
    if cells > 1:
        centres, _ = vq.kmeans2(training, cells, minit='++', rng=np.random.default_rng(seed))
        of_samples, of_real = (nearest(x, centres).index[:, 0] for x in (samples, held_out))
        inside = [(near[of_samples == c], real[of_real == c]) for c in range(cells)]
        inside = [both for both in inside if min(map(len, both)) >= LEAST]
        if not inside:
            raise ValueError(
                f'none of {cells} cells has {LEAST} samples and {LEAST} held-out pictures; use fewer cells'
            )
        tests, weights = [rank_test(*both) for both in inside], [len(real) for _, real in inside]
    c_t = float(np.average([t.z for t in tests], weights=weights))
    deviation = np.linalg.norm(weights) / np.sum(weights)  # of c_t, since each z has variance 1
    share = float(np.mean(near <= np.quantile(real, quantile)))
    p = float(special.ndtr(c_t / deviation))
    return Memorisation(share, quantile, test, c_t, p, len(tests), near, found.index[:, 0], real)


def near_duplicates(rows: ArrayLike, threshold: float, progress: Progress | None = None) -> Pairs:
    """Pairs of rows of one set [N, D] that are nearer than `threshold`, each row with its nearest other one.

    So that a set that has collapsed gives no more than N pairs, of three alike two pairs are listed, not three.

    Raises:
      ValueError: fewer than 2 rows, or not [N, D].
    """
    found = nearest(rows, progress=progress)
    first, second, distance = np.arange(len(found.index)), found.index[:, 0], found.distance[:, 0]
    listed = distance < threshold
    ends = np.sort(np.stack([first, second], 1)[listed], 1)
    ends, places = np.unique(ends, axis=0, return_index=True)
    distance = distance[listed][places]
    order = np.argsort(distance, kind='stable')
    return Pairs(ends[order, 0], ends[order, 1], distance[order])
