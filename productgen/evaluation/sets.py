"""The sets of pictures that an evaluation measures, and their features."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import json
import logging
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from productgen import data
from productgen.config import UserError
from productgen.data import cache
from productgen.metrics.alignment import SIDE, small
from productgen.model.ensemble import Ensemble
from productgen.model.features import FeatureNet
from productgen.train.run import Run

_log = logging.getLogger('productgen')
SEED = 0  # of all random choices of evaluations, whatever the seed of the run, so that runs can be compared
SEARCHED = 50_000  # largest number of training pictures in which copies are searched for
LOOKED_AT = 200  # largest number of pictures of each set whose pixels are measured
LISTED = 5  # unreadable files that a report names
PREDICTED = 'predicted/'  # before the name of an attribute, among the cached arrays
THUMBNAIL = 16  # side of the thumbnails that are compared to find copies


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """A set of pictures that is loaded in parts, in random order: the first n are a random sample.

    Attributes:
      name: in the plural, for messages.
      load: indices -> uint8 [n, H, W, 3]; from several threads if `workers` is above 0.
      label: int32 [count, A] of the run's attributes, -1 where unknown.
      files: a name for each picture; empty where they have none.
      workers: threads that load ahead; 0 to load in the calling thread, which sampling needs.
      key: identifies these pictures in the cache; empty where their features are not cached.
    """

    name: str
    load: Callable[[np.ndarray], np.ndarray]
    label: np.ndarray
    files: tuple[str, ...] = ()
    workers: int = 0
    key: str = ''

    @property
    def count(self) -> int:
        """Number of pictures."""
        return len(self.label)

    def first(self, count: int) -> PictureSet:
        """The first `count` pictures, whose features are not cached."""
        return dataclasses.replace(self, label=self.label[:count], files=self.files[:count], key='')

    def parts(self, size: int) -> Iterator[np.ndarray]:
        """All pictures, uint8 [size, H, W, 3] at a time; the next parts are loaded while one is used."""
        indices = (np.arange(start, min(start + size, self.count)) for start in range(0, self.count, size))
        if not self.workers:
            yield from map(self.load, indices)
            return
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            for index in indices:
                waiting.append(pool.submit(self.load, index))
                if len(waiting) > self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@dataclasses.dataclass(frozen=True)
class Measured:
    """Pictures with their features.

    Attributes:
      features: [N, D]; None without a feature network.
      label: int32 [N, A].
      predicted: probabilities [N, K] of the values of each attribute that the feature network classifies.
      thumbnails: uint8 [N, THUMBNAIL * THUMBNAIL * 3].
      some: the first pictures, uint8 [n, H, W, 3].
      small: pictures without bars, to compare details, uint8 [N, SIDE, SIDE, 3]; None without a feature network.
    """

    features: np.ndarray | None
    label: np.ndarray
    predicted: dict[str, np.ndarray]
    thumbnails: np.ndarray
    some: np.ndarray
    small: np.ndarray | None = None

    def first(self, count: int) -> Measured:
        """Those of the first `count` pictures."""
        return dataclasses.replace(self.take(np.arange(min(count, len(self.label)))), some=self.some[:count])

    def take(self, index: np.ndarray) -> Measured:
        """Those of the pictures at these indices; `some` does not change."""
        predicted = {name: x[index] for name, x in self.predicted.items()}
        features, small = (None if x is None else x[index] for x in (self.features, self.small))
        return Measured(features, self.label[index], predicted, self.thumbnails[index], self.some, small)


def measure(net: FeatureNet | None, pictures: PictureSet, batch_size: int) -> Measured:
    """Computes the features of all pictures of a set, with a progress bar; those of a set with a key are cached.

    Without a network only what needs none: thumbnails and the pictures to look at.
    """
    about = net.about if net else {'weights': None}
    known = [about['weights'], about.get('protocol'), THUMBNAIL, SIDE, pictures.count, PREDICTED]
    key = json.dumps([pictures.key, *known])
    arrays = cache.read_arrays('features', key) if pictures.key else None
    some: list[np.ndarray] = []
    if arrays is None:
        parts: dict[str, list[np.ndarray]] = collections.defaultdict(list)
        what = f'Features of {pictures.name}' if net else pictures.name.capitalize()
        bar = tqdm(total=pictures.count, desc=what, unit='picture', delay=2)
        with bar:
            for images in pictures.parts(batch_size):
                parts['thumbnails'].append(thumbnails(images))
                if net:
                    features, predicted = net(images)
                    parts['features'].append(features)
                    parts['small'].append(small(images))
                    for name, x in predicted.items():
                        parts[PREDICTED + name].append(x)
                if bar.n < LOOKED_AT:
                    some.append(images)
                bar.update(len(images))
        arrays = {name: np.concatenate(x) for name, x in parts.items()}
        if pictures.key:
            cache.write_arrays('features', key, arrays)
    predicted = {name.removeprefix(PREDICTED): x for name, x in arrays.items() if name.startswith(PREDICTED)}
    first = np.concatenate(some or list(pictures.first(LOOKED_AT).parts(batch_size)))[:LOOKED_AT]
    return Measured(arrays.get('features'), pictures.label, predicted, arrays['thumbnails'], first, arrays.get('small'))


def thumbnails(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 3] -> uint8 [N, THUMBNAIL * THUMBNAIL * 3]: means over areas."""
    side = (THUMBNAIL, THUMBNAIL)
    small = [np.asarray(Image.fromarray(x).resize(side, Image.Resampling.BOX)) for x in images]
    return np.stack(small).reshape(len(images), -1)


def real_pictures(run: Run) -> tuple[PictureSet, PictureSet, np.ndarray]:
    """Training pictures, at most `SEARCHED`; held-out pictures; indices of one held-out picture of each product."""
    batches, config = run.batches(), run.config.data
    names = getattr(run.source, 'names', ())

    def pictures(items: np.ndarray, name: str) -> PictureSet:
        source = [run.source.digest, *run.problem.resolution, config.fit, config.background, zlib.crc32(items)]
        return PictureSet(
            name,
            lambda i: batches.load(items[i], ['image'])['image'],
            batches.label(items),
            tuple(names[i] for i in items) if names else tuple(f'picture {i}' for i in items),
            config.workers,
            json.dumps(list(map(str, source))),
        )

    held_out = mixed(run.held_out)
    _, first = np.unique([run.source.keys[i] for i in held_out], return_index=True)
    train = pictures(mixed(run.items)[:SEARCHED], 'training pictures')
    return train, pictures(held_out, 'held-out pictures'), np.sort(first)


def generated_pictures(ensemble: Ensemble, count: int, knobs: Mapping[str, float]) -> PictureSet:
    """Pictures of trained generators, with labels as frequent as in the training set.

    Args:
      ensemble: the generators.
      count: number of pictures.
      knobs: values by name, such as truncation.
    """
    seeds = np.arange(count, dtype=np.int32)
    label = ensemble.first.model.facts.labels.draw(seeds)

    def make(index: np.ndarray) -> np.ndarray:
        return np.stack(list(ensemble.iterate(seeds[index], label[index], knobs)))

    return PictureSet('generated pictures', make, label, tuple(f'seed {i}' for i in seeds))


def folder_pictures(field: str, path: str, run: Run, count: int | None) -> tuple[PictureSet, dict[str, Any]]:
    """The pictures of a folder, read as a data set, and a description of them for the report.

    Labels from sub-folders or metadata are used where the run has the same attribute and value. Files that cannot be
    read are left out, and a warning is logged.

    Raises:
      UserError: `eval.FIELD` cannot be read.
    """
    try:
        changes = {'source': f'folder:{path}', 'group': '', 'input': '', 'target': ''}
        source = data.open_source(dataclasses.replace(run.config.data, **changes))
    except data.DataError as error:
        raise error.at(f'eval.{field}={path}', 'data.source') from None
    chosen = mixed(np.arange(len(source)))[:count]
    label = np.full((len(chosen), len(run.labels)), -1, np.int32)
    for column, (name, values) in enumerate(run.facts.labels.attributes.items()):
        if name in source.attributes:
            codes = np.asarray([values.index(v) if v in values else -1 for v in source.attributes[name]] + [-1])
            label[:, column] = codes[np.asarray(source.codes[name])[chosen]]
    load = lambda index: np.stack([source[int(i)]['image'] for i in chosen[index]])
    files = tuple(source.names[i] for i in chosen)
    about = {'folder': path, 'digest': source.digest, 'pictures': len(source), **unreadable(source, path)}
    return PictureSet(f'pictures of {path}', load, label, files, run.config.data.workers), about


def unreadable(source: data.Source, name: str) -> dict[str, Any]:
    """For a report and the log: how many files of a source cannot be read, the first of them and why; empty if none."""
    skipped = getattr(source, 'skipped', ())
    if not skipped:
        return {}
    listed = '; '.join(f'{path}: {reason}' for path, reason in skipped[:LISTED])
    listed += f'; and {len(skipped) - LISTED} more' if len(skipped) > LISTED else ''
    _log.warning('%d files of %s cannot be read and are left out: %s', len(skipped), name, listed)
    return {'unreadable': len(skipped), 'unreadable files': listed}


def mixed(items: np.ndarray) -> np.ndarray:
    """Items in a random order that depends on their number only."""
    return items[np.random.RandomState(SEED).permutation(len(items))]


def check_not_generated(run: Run, workdir: Path, fields: Sequence[str]) -> None:
    """Checks what reports on held-out pictures have in common.

    Args:
      run: the run, whose method is measured on held-out pictures.
      workdir: its folder.
      fields: settings of `eval` that apply to generators only.

    Raises:
      UserError: one of these is set, or no picture is held out.
    """
    for field in fields:
        if getattr(run.config.eval, field):
            raise UserError(f'eval.{field}', f'it applies to generators, and the run in {workdir} is none')
    if not len(run.held_out):
        reason = f'{run.config.data.validation} held no picture out to measure'
        raise UserError('data.validation', reason, 'train again with a larger one')
