"""Nearly equal pictures: copies of training pictures, and near duplicates in the data set."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from productgen.evaluation.sets import SEED, Measured, PictureSet
from productgen.metrics.alignment import align
from productgen.metrics.arrays import unit_length
from productgen.metrics.memorisation import memorisation, near_duplicates
from productgen.metrics.neighbours import Neighbours, Pairs, Progress, nearest

PAIRS = 12  # closest pairs in a report
ALIKE = 3.0  # near duplicates: the root mean square difference of thumbnails is below this, in grey levels of 255
LISTED = 1000  # largest number of near duplicates in report.json
NEIGHBOURS = 3  # pictures by features whose details are compared with those of each picture
COMPARED = 10_000  # largest number of pairs whose details are compared, the nearest by features: some minutes
CORRELATED = 0.88  # near duplicates by details, see `alignment`; benchmarks/duplicates.py measures it
WHOLE = 0.95  # side of the common part, above which a pair is not called cropped


@dataclasses.dataclass(frozen=True)
class Alike:
    """Pairs of nearly equal pictures: equal ones, the nearest first, then those whose details agree, the best first.

    Attributes:
      first, second: indices [P].
      difference: root mean square difference of the thumbnails in grey levels, [P].
      how: `equal` thumbnails; `mirrored`, `cropped` (one shows a part of the other), `mirrored and cropped`; or
        `altered`, in brightness, contrast or bars.
    """

    first: np.ndarray
    second: np.ndarray
    difference: np.ndarray
    how: list[str]

    def counts(self) -> dict[str, int]:
        """Number of pairs by `how`."""
        return dict(collections.Counter(self.how))

    def with_others(self, other: Alike, chosen: Sequence[bool]) -> Alike:
        """These pairs and the chosen ones of others."""
        places = np.flatnonzero(np.asarray(chosen, bool))
        arrays = [
            np.concatenate([getattr(self, name), getattr(other, name)[places]])
            for name in ('first', 'second', 'difference')
        ]
        return Alike(*arrays, self.how + [other.how[i] for i in places])


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
    train_rows: Measured,
    held_out: PictureSet | None,
    held_out_rows: Measured | None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], dict[str, Alike]]:
    """Finds near duplicates among training pictures, and between training and held-out ones.

    The latter make held-out figures too good. Without features only equal pictures are found, with them also mirrored,
    cropped and altered ones, see `Alike`.

    Args:
      train: training pictures, for their names.
      train_rows: what is known of them.
      held_out: held-out pictures; None where there are none.
      held_out_rows: what is known of them.
      progress: called with (rows done, total rows) of each of the searches.

    Returns:
      figures and names for JSON, and the pairs: `training`, among training pictures, and `held_out`, of a held-out and
      a training picture, one for each held-out picture.
    """
    within = duplicates_within(train_rows, progress)
    about = {'limit': ALIKE, 'searched': train.count, 'training': len(within.first)}
    if train_rows.features is not None:
        about |= {'correlation': CORRELATED, 'candidates': NEIGHBOURS}
    about |= {'training_how': within.counts(), 'training_pairs': _names(within, train, train)}
    if held_out is None:
        return about, {'training': within}
    across = duplicates_across(held_out_rows, train_rows, progress)
    about |= {'held_out': len(across.first), 'held_out_share': len(across.first) / held_out.count}
    about |= {'held_out_how': across.counts(), 'held_out_pairs': _names(across, held_out, train)}
    return about, {'training': within, 'held_out': across}


def neighbours(measured: Measured, train: Measured, count: int, rows: int) -> np.ndarray | None:
    """The nearest training pictures of the first measured ones, by the cosine of their features.

    Returns:
      indices [rows, count] into the training pictures, at most as many as there are; None without features.
    """
    if measured.features is None:
        return None
    queries, bank = unit_length(measured.features[:rows]), unit_length(train.features)
    return nearest(queries, bank, min(count, len(bank))).index


def _names(pairs: Alike, first: PictureSet, second: PictureSet) -> list[list[Any]]:
    """The first pairs for JSON: two names, the difference of the thumbnails, and how they were found."""
    rows = zip(*(x[:LISTED] for x in (pairs.first, pairs.second, pairs.difference, pairs.how)), strict=True)
    return [[first.files[a], second.files[b], round(float(d), 3), how] for a, b, d, how in rows]


def duplicates_within(train: Measured, progress: Progress | None = None) -> Alike:
    """Finds near duplicates in one set, see `duplicates`."""
    scale = np.sqrt(train.thumbnails.shape[1])
    near = near_duplicates(train.thumbnails, ALIKE * scale, progress)
    equal = Alike(near.first, near.second, near.distance / scale, ['equal'] * len(near.first))
    if train.features is None:
        return equal
    near = nearest(unit_length(train.features), k=min(NEIGHBOURS, len(train.features) - 1), progress=progress)
    found = _aligned(near, train, train, progress)
    known = set(zip(equal.first.tolist(), equal.second.tolist(), strict=True))
    return equal.with_others(found, [pair not in known for pair in zip(found.first, found.second, strict=True)])


def duplicates_across(queries: Measured, train: Measured, progress: Progress | None = None) -> Alike:
    """Finds the best near duplicate in the training set of each picture of another set, see `duplicates`."""
    scale = np.sqrt(train.thumbnails.shape[1])
    near = nearest(queries.thumbnails, train.thumbnails, progress=progress)
    first = np.flatnonzero(near.distance[:, 0] < ALIKE * scale)
    first = first[np.argsort(near.distance[first, 0], kind='stable')]
    distance = near.distance[first, 0] / scale
    equal = Alike(first, near.index[first, 0], distance, ['equal'] * len(first))
    if queries.features is None:
        return equal
    near = nearest(*(unit_length(x.features) for x in (queries, train)), min(NEIGHBOURS, len(train.features)), progress)
    found = _aligned(near, queries, train, progress)
    known = set(equal.first.tolist())
    # Of the pairs of a picture, `known.add` lets the first pass, whose correlation is the highest.
    return equal.with_others(found, [i not in known and not known.add(i) for i in found.first.tolist()])


def _aligned(near: Neighbours, first: Measured, second: Measured, progress: Progress | None) -> Alike:
    """The pairs of neighbours by features whose details agree, the highest correlation first.

    The nearest `COMPARED` pairs are compared.
    """
    a, b = np.repeat(np.arange(len(near.index)), near.index.shape[1]), near.index.ravel()
    if first is second:
        a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.argsort(near.distance.ravel(), kind='stable')
    _, places = np.unique(np.stack([a, b], 1)[order], axis=0, return_index=True)
    order = order[np.sort(places)][:COMPARED]
    found = align(first.small[a[order]], second.small[b[order]], progress)
    kept = np.flatnonzero(found.correlation >= CORRELATED)
    kept = kept[np.argsort(-found.correlation[kept], kind='stable')]
    how = [
        ' and '.join(word for word, true in (('mirrored', m), ('cropped', s < WHOLE)) if true) or 'altered'
        for m, s in zip(found.mirrored[kept], found.scale[kept], strict=True)
    ]
    a, b = a[order[kept]], b[order[kept]]
    difference = first.thumbnails[a].astype(np.float64) - second.thumbnails[b]
    return Alike(a, b, np.sqrt(np.mean(difference**2, 1)), how)
