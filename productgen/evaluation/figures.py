"""Figures of a set of pictures: compared with real ones, of the products shown, by label, and of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from productgen.core.pixels import to_float
from productgen.data.labels import LabelTable
from productgen.evaluation.sets import SEED, Measured, PictureSet
from productgen.metrics.distribution import Reference, intervals_of_class
from productgen.metrics.inception_score import SPLITS, inception_score
from productgen.metrics.memorisation import LEAST
from productgen.metrics.neighbours import Progress
from productgen.metrics.pairwise import PAIRWISE, ms_ssim, ms_ssim_diversity, ms_ssim_levels
from productgen.metrics.product import product_figures
from productgen.metrics.swd import SlicedWasserstein
from productgen.model.features import Predicted

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Comparison:
    """Compares sets with real pictures; what depends on the real pictures only is computed once.

    Args:
      real: the reference.
    """

    def __init__(self, real: Measured):
        self._real = real
        self._features = None if real.features is None else Reference(real.features)
        self._swd: dict[int, SlicedWasserstein] = {}  # by the number of pictures

    def distribution(self, other: Measured, progress: Progress | None = None) -> dict[str, float]:
        """The figures that need the features only, see `Reference.figures`; none where there are no features."""
        return dict(self._features.figures(other.features, progress)) if self._features else {}

    def __call__(self, other: Measured, progress: Progress | None = None) -> dict[str, float]:
        """All figures. Smaller is better, except for precision, recall, density, coverage and the Inception Score."""
        count = min(len(self._real.some), len(other.some))
        if count not in self._swd:
            self._swd[count] = SlicedWasserstein([self._real.some[:count]], count, SEED)
        found = self.distribution(other, progress)
        found['sliced_wasserstein'] = self._swd[count]([other.some[:count]])['swd']
        levels = ms_ssim_levels(other.some.shape[1:3])
        if levels:
            found['ms_ssim_of_pairs'] = ms_ssim_diversity(other.some, seed=SEED, levels=levels)
        for probabilities in list(other.predicted.values())[:1]:
            if len(probabilities) >= SPLITS:
                score = inception_score(probabilities)
                found |= {'inception_score': score.mean, 'inception_score_deviation': score.std}
        rows = [product_figures(image) for image in tqdm(other.some, 'Products', unit='picture', delay=2)]
        for name in rows[0]:
            values = np.asarray([row[name] for row in rows])
            if np.isfinite(values).any():
                found[f'product/{name}'] = float(np.nanmean(np.abs(values)))
        return found


def predictions(
    label: np.ndarray, predicted: Predicted, table: LabelTable, known: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """True and predicted codes of each attribute that the pictures are labelled with and the features classify.

    Args:
      label: int32 [N, A] of `table`.
      predicted: probabilities by attribute.
      table: names of the labels.
      known: the values of the features' attributes, in the order of their probabilities.

    Yields:
      name, true codes [n] and predicted codes [n] of the labelled pictures; a prediction is -1 where the table does not
      have the value.
    """
    for column, (name, values) in enumerate(table.attributes.items()):
        true = label[:, column]
        if name in predicted and name in known and (true >= 0).any():
            code = np.asarray([values.index(v) if v in values else -1 for v in known[name]])
            yield name, true[true >= 0], code[np.argmax(predicted[name], 1)[true >= 0]]


def accuracies(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Accuracy of the predicted labels, of each attribute of `predictions`."""
    found = predictions(other.label, other.predicted, table, known)
    return {f'accuracy/{name}': float(np.mean(predicted == true)) for name, true, predicted in found}


def confusion(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
    """Counts [true, predicted] of the first attribute of `predictions`; None without one.

    The last column counts predictions of values that the table does not have.
    """
    for name, true, predicted in predictions(other.label, other.predicted, table, known):
        values = table.attributes[name]
        counts = np.zeros((len(values), len(values) + 1), int)
        np.add.at(counts, (true, predicted), 1)
        return {'attribute': name, 'values': list(values), 'counts': counts.tolist()}
    return None


def by_class(reference: Measured, other: Measured, table: LabelTable) -> dict[str, dict[str, Any]]:
    """Distances of the pictures of each value of the first attribute, with their errors.

    Values with fewer than 20 pictures in either set are left out; all of them where there are no features.
    """
    found = {}
    if other.features is None:
        return found
    for code, value in enumerate(next(iter(table.attributes.values()), ())):
        ours, real = (m.features[m.label[:, 0] == code] for m in (other, reference))
        if min(len(ours), len(real)) >= LEAST:
            found[value] = {'pictures': len(ours), **intervals_of_class(ours, real, SEED)}
    return found


def pair_distances(size: tuple[int, int], lpips: Distance | None) -> dict[str, Distance]:
    """The pairwise figures that exist for pictures of (H, W): functions of two uint8 [B, H, W, 3], with results [B].

    MS-SSIM has as many scales as fit; small pictures have neither SSIM nor MS-SSIM. `lpips` is added where given.
    """
    levels, found = ms_ssim_levels(size), {}
    for name, distance in PAIRWISE.items():
        if name == 'ms_ssim':
            distance = lambda a, b: ms_ssim(a, b, levels)
        if levels or name not in ('ssim', 'ms_ssim'):
            found[name] = jax.jit(lambda a, b, distance=distance: distance(to_float(a), to_float(b)))
    return found | ({'lpips': lpips} if lpips else {})


class PairFigures:
    """Means of the pairwise figures of pictures and their targets, a batch at a time.

    Args:
      distances: of `pair_distances`, for pictures of one size.
    """

    def __init__(self, distances: Mapping[str, Distance]):
        self._distances = distances
        self._rows: dict[str, list[np.ndarray]] = {}

    def add(self, a: np.ndarray, b: np.ndarray, **others: np.ndarray) -> None:
        """Measures pictures and their targets, uint8 [B, H, W, 3]; `others` are further figures by name, [B]."""
        for name, distance in self._distances.items():
            values = np.array(distance(a, b), np.float64)
            if name == 'psnr':
                values[(a == b).all((1, 2, 3))] = np.inf  # exactly, where rounding may give a finite value
            self._rows.setdefault(name, []).append(values)
        for name, values in others.items():
            self._rows.setdefault(name, []).append(values)

    def means(self) -> dict[str, float]:
        """By name, over the pairs where a figure is finite; so that of PSNR is over the pairs that differ."""
        values = {name: np.concatenate(parts) for name, parts in self._rows.items()}
        return {name: float(x[np.isfinite(x)].mean()) for name, x in values.items() if np.isfinite(x).any()}


def pairwise(first: PictureSet, second: PictureSet, batch_size: int, lpips: Distance | None) -> dict[str, float]:
    """`PairFigures` of two sets of pictures."""
    found = None
    for a, b in zip(first.parts(batch_size), second.parts(batch_size), strict=True):
        found = found or PairFigures(pair_distances(a.shape[1:3], lpips))
        found.add(a, b)
    return found.means() if found else {}
