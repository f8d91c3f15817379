"""Nearly equal pictures: copies of training pictures, and near duplicates in the data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from productgen.evaluation.sets import SEED, Measured, PictureSet
from productgen.metrics.memorisation import memorisation, near_duplicates
from productgen.metrics.neighbours import Pairs, Progress, nearest

PAIRS = 12  # closest pairs in a report
ALIKE = 3.0  # near duplicates: the root mean square difference of thumbnails is below this, in grey levels of 255
LISTED = 1000  # largest number of near duplicates in report.json


def copying(
    measured: Measured, train: Measured, independent: Measured, progress: Progress | None = None
) -> tuple[dict[str, dict[str, float]], dict[str, Pairs]]:
    """Tests whether pictures are nearer to training pictures than new real ones are, by features and by pixels.

    Args:
      measured: the pictures.
      train: training pictures.
      independent: held-out pictures of different products, since the test assumes independent samples.
      progress: see `memorisation`.

    Returns:
      the figures of `features`, where there are some, and of `pixels`, and for each the closest pairs of a picture and
      a training picture.
    """
    figures, closest = {}, {}
    for name in ('features', 'thumbnails') if measured.features is not None else ('thumbnails',):
        rows = [getattr(x, name) for x in (measured, train, independent)]
        found = memorisation(*rows, seed=SEED, progress=progress)
        word = 'pixels' if name == 'thumbnails' else name
        figures[word] = {'share': found.share, 'expected_share': found.quantile, 'c_t': found.c_t, 'p': found.p}
        closest[word] = found.closest(PAIRS)
    return figures, closest


def duplicates(
    train: PictureSet,
    train_rows: np.ndarray,
    held_out: PictureSet | None,
    held_out_rows: np.ndarray | None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, Pairs]]:
    """Finds near duplicates among training pictures, and between training and held-out ones.

    The latter make held-out figures too good.

    Args:
      train: training pictures, for their names.
      train_rows: their thumbnails [N, T].
      held_out: held-out pictures; None where there are none.
      held_out_rows: their thumbnails [M, T].
      progress: called with (rows done, total rows) of each of the two searches.

    Returns:
      figures and names for JSON, and the pairs: `training`, among training pictures, and `held_out`, of a held-out and
      a training picture.
    """
    limit = ALIKE * np.sqrt(train_rows.shape[1])
    within = near_duplicates(train_rows, limit, progress)
    names = lambda pairs, first: [
        [first.files[a], train.files[b], round(float(d / np.sqrt(train_rows.shape[1])), 3)]
        for a, b, d in zip(*(x[:LISTED] for x in (pairs.first, pairs.second, pairs.distance)), strict=True)
    ]
    about = {'limit': ALIKE, 'searched': train.count, 'training': len(within.first)}
    about['training_pairs'] = names(within, train)
    if held_out is None:
        return about, {'training': within}
    found = nearest(held_out_rows, train_rows, progress=progress)
    near = np.flatnonzero(found.distance[:, 0] < limit)
    near = near[np.argsort(found.distance[near, 0], kind='stable')]
    across = Pairs(near, found.index[near, 0], found.distance[near, 0])
    about |= {'held_out': len(across.first), 'held_out_share': len(across.first) / held_out.count}
    about['held_out_pairs'] = names(across, held_out)
    return about, {'training': within, 'held_out': across}
