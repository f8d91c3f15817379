"""A folder of product photos as a source: `folder:PATH`.

The class of a picture is its first-level sub-folder. If the folder has a metadata table (see `metadata`), attributes
come from the table only, and pictures that it does not list stay in the data set without attributes (code -1).

Every file is read, hashed and decoded once before training starts, so that a broken one is found at once and not after
the first hour. It is skipped and listed in `skipped`; only where most files are broken is it an error.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from productgen.data import cache, images
from productgen.data.metadata import categorical, read_metadata
from productgen.data.source import DataError

_SPLIT_NAMES = frozenset(['train', 'training', 'test', 'testing', 'val', 'valid', 'validation', 'dev'])
_SHOWN = 5  # reasons quoted in an error


class Folder:
    """A `Source` over image files.

    Attributes:
      columns, attributes, codes, keys, digest: see `Source`. The key of a picture is its `group` value, else its name.
      names: relative posix path of every picture, sorted; this is the order of the items.
      skipped: (relative path, reason) of every file that cannot be used.
      duplicates: groups of names of pictures with byte-identical files; all are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        size: tuple[int, int],
        *,
        fit: str = 'pad',
        background: str = 'white',
        group: str = '',
        cache_bytes: int = 0,
        workers: int = 2,
    ):
        """Finds, reads and decodes the pictures.

        Args:
          path: the folder; `~` is expanded.
          size: (height, width) of the pictures.
          fit: `pad`, `crop` or `stretch`, see `images.load_image`.
          background: colour behind transparent pixels and of the bars of `pad`.
          group: metadata column that identifies the product; empty uses `sku` where it exists.
          cache_bytes: fitted pictures stay in memory if all of them fit into this many bytes.
          workers: threads that read and decode.

        Raises:
          DataError: the folder does not exist, has no usable picture, more unusable files than usable ones, a malformed
            table, or no column `group`.
        """
        self.path = Path(path).expanduser()
        self.skipped: list[tuple[str, str]] = []
        self.columns = {'image': (*size, 3)}
        self._load = {'size': size, 'fit': fit, 'background': background}
        images.check_fit(fit)
        images.parse_color(background)
        _check_folder(self.path)
        found, rows = self._scan(), read_metadata(self.path)
        if rows is None:
            rows = _rows_from_folders(found, self.path)
        candidates = sorted(found | set(rows))

        # One slot for each candidate; the slots of unusable ones stay empty.
        self._pixels = cache.PixelCache(len(candidates), self.columns, cache_bytes)
        hashes = self._examine(candidates, workers)
        self._slots = [slot for slot, digest in enumerate(hashes) if digest]
        self._check_usable(len(candidates))

        self.names = tuple(candidates[slot] for slot in self._slots)
        rows = [rows.get(name, {}) for name in self.names]
        self.attributes, self.codes = _attributes(rows)
        self.keys = self._keys(rows, group)
        self._texts = [str(row.get('text') or '') for row in rows]
        files = [hashes[slot] for slot in self._slots]
        self.duplicates = _duplicates(self.names, files)
        content = [self._load, list(zip(self.names, files, rows, strict=True))]
        self.digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`image` uint8 [H, W, 3].

        Raises:
          DataError: the file has been damaged or removed since the start.
        """
        path = self.path / self.names[index]
        try:
            load = lambda: images.load_image(path, **self._load)
            return {'image': self._pixels.get('image', self._slots[index], load)}
        except images.BadImage as error:
            raise DataError(str(path), f'changed after the start: {error}', 'restore the file and resume') from error

    def text(self, index: int) -> str:
        """The `text` column of the item, or ''."""
        return self._texts[index]

    def _scan(self) -> set[str]:
        """Relative posix paths of all files with the extension of an image format."""
        found = set()

        def unreadable(error: OSError):
            self.skipped.append((_posix(error.filename, self.path), f'unreadable folder: {error.strerror}'))

        for root, folders, files in os.walk(self.path, onerror=unreadable, followlinks=True):
            # Linked folders are followed, except links back to a folder that is being walked, which would never end.
            folders[:] = [name for name in folders if _visible(name) and not _is_loop(root, name, self.path)]
            for name in files:
                if _visible(name) and os.path.splitext(name)[1].lower() in images.EXTENSIONS:
                    found.add(_posix(os.path.join(root, name), self.path))
        return found

    def _examine(self, candidates: list[str], workers: int) -> list[str]:
        """Content hash of every candidate that can be decoded; '' for the others, which are added to `skipped`.

        Files that have not changed since an earlier run (same size and modification time) are not opened again.
        """
        key = str(self.path.resolve())
        known = cache.read('folders', key) or {}
        entries: dict[str, Any] = {}

        def examine(slot: int) -> str:
            name = candidates[slot]
            path = self.path / name
            try:
                stat = path.stat()
                stamp = [stat.st_size, stat.st_mtime_ns]
            except OSError:
                stamp = None  # reading it gives the reason
            if stamp and known.get(name, ())[:2] == stamp:
                entries[name] = known[name]
                return known[name][2]
            data = images.read_file(path)
            self._pixels.get('image', slot, lambda: images.load_image(data, **self._load))
            entries[name] = [*stamp, hashlib.blake2b(data, digest_size=16).hexdigest()]
            return entries[name][2]

        def attempt(slot: int) -> tuple[str, str]:
            try:
                return examine(slot), ''
            except images.BadImage as error:
                return '', error.reason

        hashes = []
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = pool.map(attempt, range(len(candidates)))
            # Shown after two seconds; in a log file a line every 20 seconds.
            every = 0.1 if sys.stderr.isatty() else 20
            results = tqdm(results, 'Reading pictures', len(candidates), delay=2, mininterval=every, unit='file')
            for name, (digest, reason) in zip(candidates, results, strict=True):
                hashes.append(digest)
                if reason:
                    self.skipped.append((name, reason))
        if entries != known:
            cache.write('folders', key, entries)
        return hashes

    def _check_usable(self, candidates: int) -> None:
        usable, bad = len(self._slots), self.skipped
        if usable and 2 * usable >= candidates:
            return
        if not candidates and not bad:
            kinds = ' '.join(sorted(images.EXTENSIONS))
            raise DataError('data.source', f'no picture in {self.path} or below it (looked for {kinds})')
        reasons = ''.join(f'\n  {name}: {reason}' for name, reason in bad[:_SHOWN])
        more = f'\n  and {len(bad) - _SHOWN} more' if len(bad) > _SHOWN else ''
        many = 'more than half of them' if usable else 'all of them'
        raise DataError(
            'data.source', f'{len(bad)} of {candidates} files of {self.path} cannot be used, {many}:{reasons}{more}'
        )

    def _keys(self, rows: list[dict[str, Any]], group: str) -> tuple[str, ...]:
        columns = sorted({column for row in rows for column in row})
        if group and group not in columns:
            existing = ', '.join(columns) or 'no columns'
            raise DataError('data.group', f'{self.path} has no column {group!r}', f'it has {existing}')
        column = group or 'sku'
        values = [row.get(column) for row in rows]
        return tuple(name if v is None or v == '' else str(v) for name, v in zip(self.names, values, strict=True))


def _check_folder(path: Path) -> None:
    if path.is_dir():
        return
    if path.exists():
        raise DataError('data.source', f'{path} is a file, not a folder', 'unpack it if it is an archive')
    parent = path.absolute().parent
    missing = path.name
    while not parent.is_dir():
        parent, missing = parent.parent, parent.name
    siblings = [entry.name for entry in parent.iterdir() if entry.is_dir()] if os.access(parent, os.R_OK) else []
    close = difflib.get_close_matches(missing, siblings, n=1)
    hint = f'did you mean {parent / close[0]}?' if close else f'{parent} exists, but has no {missing}'
    raise DataError('data.source', f'there is no folder {path}', hint)


def _rows_from_folders(found: set[str], path: Path) -> dict[str, dict[str, Any]]:
    rows = {name: {'label': name.split('/', 1)[0]} for name in found if '/' in name}
    classes = {row['label'] for row in rows.values()}
    if len(classes) > 1 and all(name.lower() in _SPLIT_NAMES for name in classes):
        raise DataError(
            'data.source',
            f'the sub-folders of {path} ({", ".join(sorted(classes))}) are splits, not classes',
            f'name one of them, such as folder:{path / max(classes, key=_is_train)}',
        )
    return rows


def _is_train(name: str) -> bool:
    return name.lower().startswith('train')


def _attributes(rows: list[dict[str, Any]]) -> tuple[dict[str, tuple[str, ...]], dict[str, np.ndarray]]:
    attributes, codes = {}, {}
    for column in dict.fromkeys(column for row in rows for column in row):
        if column != 'text' and (found := categorical(column, [row.get(column) for row in rows])):
            attributes[column], codes[column] = found
    return attributes, codes


def _duplicates(names: tuple[str, ...], hashes: list[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for name, digest in zip(names, hashes, strict=True):
        groups[digest].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _visible(name: str) -> bool:
    return not name.startswith('.') and name != '__MACOSX'


def _is_loop(root: str, name: str, top: Path) -> bool:
    link = Path(root, name)
    if not link.is_symlink():
        return False
    walked = [parent for parent in link.parents if parent.is_relative_to(top)]
    return any(parent.resolve().is_relative_to(link.resolve()) for parent in walked)


def _posix(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
