"""Memorisation: whether generated samples are closer to the training images than held-out real images are.

Samples and held-out images are compared by the distance to their nearest training image. Rows of each set must be
independent: held-out images must show other products than the training images, not other views of the same ones.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy.cluster import vq

from productgen.metrics.arrays import pair
from productgen.metrics.neighbours import Pairs, Progress, nearest

LEAST = 20  # minimum rows of each set in a cell, for the normal approximation


@dataclasses.dataclass(frozen=True)
class RankTest:
    """One-sided Mann-Whitney test that the first distances tend to be smaller than the second.

    Attributes:
      u: number of pairs in which the first distance is larger; ties count half.
      z: standardised u, far below 0 for copies, far above 0 for samples off the data.
      p: p-value, the probability of such a small z if both have the same distribution.
    """

    u: float
    z: float
    p: float


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """Result of a test for copies of training images.

    Attributes:
      share: fraction of samples whose distance to a training image is at most the `quantile` of the held-out images'
        distances; about `quantile` if the generator does not copy.
      quantile: value to compare `share` with.
      test: rank test of all distances together.
      c_t: mean z of the cells, weighted by their number of held-out images: C_T of Meehan et al. 2020. With one cell,
        test.z.
      p: p-value of `c_t` under the hypothesis that samples are distributed as the held-out images; with one cell,
        test.p.
      cells: number of cells with enough rows to be used in `c_t`.
      distance: distance of each sample to its nearest training image, [S].
      index: index of that training image, [S].
      held_out: distance of each held-out image to its nearest training image, [H].
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
        """Returns the `count` nearest (sample, training image) pairs, for inspection."""
        order = np.argsort(self.distance, kind='stable')[:count]
        return Pairs(order, self.index[order], self.distance[order])


def rank_test(first: ArrayLike, second: ArrayLike) -> RankTest:
    """Mann-Whitney test of [S] against [H] values, by the normal approximation corrected for ties and continuity.

    Raises:
      ValueError: either is empty.
    """
    first, second = np.asarray(first, np.float64), np.sort(np.asarray(second, np.float64))
    n, m = len(first), len(second)
    if not n or not m:
        raise ValueError(f'a rank test needs at least one value on both sides, got {n} and {m}')
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
    """Tests whether samples are closer to the training images than held-out images are.

    The test is that of Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
    Models", AISTATS 2020. Copying in one region may be hidden by samples that are too far off in another; with `cells`
    above 1, the feature space is partitioned by k-means on the training features and each cell is tested separately.
    Cells with fewer than 20 samples or held-out images are skipped. p assumes that the z of the cells are independent
    normal values, as they are under the null hypothesis.

    Args:
      samples: features of generated images, [S, D].
      training: features of the training images, [N, D].
      held_out: features of real images that were not trained on, [H, D].
      quantile: quantile of the held-out distances, for `share`.
      cells: number of cells.
      seed: random seed of k-means.
      progress: called with (rows done, total rows) after every block.

    Raises:
      ValueError: fewer than 20 samples or held-out images, too few of them in every cell, fewer training images
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
                f'none of the {cells} cells has {LEAST} samples and {LEAST} held-out images; use fewer cells'
            )
        tests, weights = [rank_test(*both) for both in inside], [len(real) for _, real in inside]
    c_t = float(np.average([t.z for t in tests], weights=weights))
    deviation = np.linalg.norm(weights) / np.sum(weights)  # of c_t, since each z has variance 1
    fraction = float(np.mean(near <= np.quantile(real, quantile)))
    p = float(special.ndtr(c_t / deviation))
    return Memorisation(fraction, quantile, test, c_t, p, len(tests), near, found.index[:, 0], real)


def near_duplicates(rows: ArrayLike, threshold: float, progress: Progress | None = None) -> Pairs:
    """Finds pairs of rows of [N, D] closer than `threshold`, each row paired with its nearest other row only.

    So a collapsed set gives at most N pairs; three equal rows give two pairs, not three.

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
