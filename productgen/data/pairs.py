"""Pairs of pictures, what is given and what it should become, as a source: `pairs:PATH`.

Two layouts:

- `PATH/input/` and `PATH/target/` hold the two pictures of a pair under the same name, in any sub-folders; the endings
  may differ.
- Without these, every file below PATH holds both side by side, as in the data sets of pix2pix: the left half is the
  input. For the other order exchange the columns: `data.input=target` and `data.target=input`.

Both pictures are read, fitted and cached as those of a folder (`Folder`), and cropped at the same place. Classes,
metadata tables and keys are those of the targets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from productgen.config.paths import user_path
from productgen.config.text import counted, examples
from productgen.data import images
from productgen.data.folder import Folder
from productgen.data.source import DataError, Item

SIDES = ('input', 'target')
_SHAPE = 0.01  # by how much the aspect ratios of the two pictures of a pair may differ


class Pairs:
    """A `Source` over pairs of image files: columns `input`, `target` and `image`, which is the target.

    Attributes:
      columns, attributes, codes, keys, digest: see `Source`.
      names: names of the targets, relative to their folder.
      skipped: (name, reason) of every file that cannot be used, and of pairs whose pictures do not fit each other.
      missing: (name, reason) of every picture without its counterpart.
      duplicates, usual_conditions, unused, remarks: see `Folder`.
    """

    def __init__(self, path: str | os.PathLike, size: tuple[int, int], **options: Any):
        """Finds, reads and decodes the pictures.

        Args:
          path: the folder; `~` is expanded.
          size: (height, width) of the pictures.
          options: those of `Folder`.

        Raises:
          DataError: a folder that does not exist or cannot be used, see `Folder`; only one of the two sub-folders; or
            no pair at all.
        """
        self.path = user_path(str(path), 'data.source')
        there = [side for side in SIDES if (self.path / side).is_dir()]
        if len(there) == 1:
            other = next(side for side in SIDES if side not in there)
            raise DataError(
                'data.source',
                f'{self.path} has {there[0]}/ but no {other}/',
                f'put the counterpart of every picture into {self.path / other}, under the same name',
            )
        options['cache_bytes'] = options.get('cache_bytes', 0) // 2
        native = options.get('fit') == 'native'
        if there:
            given = Folder(self.path / 'input', size, **options | {'group': ''})
            target = Folder(self.path / 'target', size, **options)
            found = _matched(given, target)
            self.skipped = [
                (f'{side}/{name}', why)
                for side, f in zip(SIDES, (given, target), strict=True)
                for name, why in f.skipped
            ]
            self.missing = [*found.missing, *target.missing]
            pairs, odd = _of_one_shape(given, target, found.pairs, native)
            self.skipped += odd
        else:
            given = Folder(self.path, size, half='left', **options)
            target = Folder(self.path, size, half='right', **options)
            pairs = [(i, i) for i in range(len(target))]
            self.skipped, self.missing = target.skipped, target.missing
        if not pairs:
            lines = ''.join(f'\n  {name}: {why}' for name, why in [*self.missing, *self.skipped][:5])
            raise DataError('data.source', f'{self.path} has no pair of pictures:{lines}', 'give both the same name')
        self._folders = given, target
        self._pairs = np.asarray(pairs, int)
        chosen = self._pairs[:, 1]
        self.columns = {name: (*size, 3) for name in ('image', *SIDES)}
        self.attributes, self.usual_conditions, self.unused = target.attributes, target.usual_conditions, target.unused
        self.codes = {name: codes[chosen] for name, codes in target.codes.items()}
        self.keys = tuple(target.keys[i] for i in chosen)
        self.names = tuple(target.names[i] for i in chosen)
        self.duplicates = target.duplicates
        self.remarks = list(target.remarks)
        if not there:
            self.remarks.append('every file holds two pictures side by side: the left half is the input')
        if self.missing:
            self.remarks.append(
                f'{counted(self.missing, "picture")} without a counterpart: {examples(n for n, _ in self.missing)}'
            )
        content = repr([given.digest, target.digest, pairs])
        self.digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Item:
        """`input`, `target` and `image` uint8 [H, W, 3]; see `drawn`."""
        return self.drawn(index, None)

    def drawn(self, index: int, draw: int | None) -> Item:
        """The pair, both cropped at the place that a number decides where pictures keep their resolution."""

        def reader(folder: Folder, item: int) -> Callable[[], np.ndarray]:
            return lambda: folder.drawn(item, draw)['image']

        given, target = (reader(f, int(i)) for f, i in zip(self._folders, self._pairs[index], strict=True))
        return Item({'input': given, 'target': target, 'image': target})

    def text(self, index: int) -> str:
        """The `text` column of the target, or ''."""
        return self._folders[1].text(int(self._pairs[index, 1]))


@dataclasses.dataclass(frozen=True)
class _Found:
    """Pairs of indices of inputs and targets, and (name, reason) of pictures without a counterpart."""

    pairs: list[tuple[int, int]]
    missing: list[tuple[str, str]]


def _matched(given: Folder, target: Folder) -> _Found:
    """Matches pictures by their names without endings."""
    by_name = []
    for folder in (given, target):
        places = defaultdict(list)
        for i, name in enumerate(folder.names):
            places[str(PurePosixPath(name).with_suffix(''))].append(i)
        by_name.append(places)
    pairs, missing = [], []
    for name in sorted({*by_name[0], *by_name[1]}):
        places = [found.get(name, []) for found in by_name]
        if all(len(found) == 1 for found in places):
            pairs.append((places[0][0], places[1][0]))
            continue
        for side, other, folder, found in zip(SIDES, SIDES[::-1], (given, target), places, strict=True):
            many = max(map(len, places)) > 1 and all(places)
            why = 'several files of this name' if many else f'no picture of this name in {other}/'
            missing += [(f'{side}/{folder.names[i]}', why) for i in found]
    return _Found(pairs, missing)


def _of_one_shape(
    given: Folder, target: Folder, pairs: list[tuple[int, int]], native: bool
) -> tuple[list[tuple[int, int]], list[tuple[str, str]]]:
    """The pairs whose pictures have one shape, or one size where they keep theirs; (name, reason) of the others."""
    kept, odd = [], []
    for i, j in pairs:
        files = given.path / given.names[i], target.path / target.names[j]
        try:
            (h, w), (height, width) = map(images.upright_size, files)
        except images.BadImage as error:
            odd.append((f'target/{target.names[j]}', error.reason))
            continue
        same = (h, w) == (height, width) if native else abs(h * width / (w * height) - 1) <= _SHAPE
        if same:
            kept.append((i, j))
        else:
            odd.append((f'target/{target.names[j]}', f'it is {width}x{height}, and its input {w}x{h}'))
    return kept, odd
