"""A folder of product photos as a source: `folder:PATH`.

The class of a picture is its first-level sub-folder. If the folder has metadata tables (see `tables`, `metadata`),
attributes come from these only, and pictures that they do not list stay in the data set without attributes (code -1).

Every file is read, hashed and decoded once before training starts, so that a broken one is found at once and not after
the first hour. It is skipped and listed in `skipped`; only where most files are broken is it an error.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from productgen.config.paths import user_path
from productgen.config.text import counted, examples, printable
from productgen.data import cache, images
from productgen.data.metadata import Metadata, categorical, read_metadata
from productgen.data.scan import Found, scan
from productgen.data.source import DataError
from productgen.data.tables import NAMES, is_missing

_SPLIT_NAMES = frozenset(['train', 'training', 'test', 'testing', 'val', 'valid', 'validation', 'dev'])
_TABULAR = ('.csv', '.tsv', '.json', '.jsonl', '.json1', '.ndjson', '.parquet', '.xls', '.xlsx', '.ods', '.feather')
_SHOWN = 5  # reasons quoted in an error


class Folder:
    """A `Source` over image files.

    Attributes:
      columns, attributes, codes, keys, digest: see `Source`. The key of a picture is its `group` value, else its name.
      names: relative posix path of every picture, sorted; this is the order of the items.
      skipped: (relative path, reason) of every file that cannot be used.
      missing: (relative path, reason) of every row of the tables without a file.
      duplicates: groups of names of pictures with byte-identical files; all are kept.
      usual_conditions: what `data.labels=auto` means: `label`, or the columns of a label that is a vector.
      unused: columns of the tables that are no attributes.
      remarks: how the folder was read, lines for the user.
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
        half: str = '',
    ):
        """Finds, reads and decodes the pictures.

        Args:
          path: the folder; `~` is expanded.
          size: (height, width) of the pictures.
          fit: `pad`, `crop`, `stretch` or `native`, see `images.load_image`.
          background: colour behind transparent pixels and of the bars of `pad`.
          group: metadata column that identifies the product; empty uses `sku` where it exists.
          cache_bytes: fitted pictures stay in memory if all of them fit into this many bytes.
          workers: threads that read and decode.
          half: `left` or `right` of files that hold two pictures side by side, see `images.load_image`.

        Raises:
          DataError: the folder does not exist, has no usable picture, more damaged files than usable ones, a malformed
            table or one that names none of the pictures, or no column `group`.
        """
        self.path = user_path(str(path), 'data.source')
        self.columns = {'image': (*size, 3)}
        self._load = {'size': size, 'fit': fit, 'background': background} | ({'half': half} if half else {})
        images.check_fit(fit)
        images.parse_color(background)
        _check_folder(self.path)
        found = scan(self.path)
        _check_splits(found, self.path)
        table = read_metadata(self.path, found.tables, found.pictures)
        by_name, remark = (table.rows, '') if table.rows is not None else _classes(found.pictures, self.path)
        candidates = sorted(found.pictures | (set(by_name) - {name for name, _ in found.odd}))

        # One slot for each candidate; the slots of unusable ones stay empty.
        self._native = fit == 'native'
        whole = cache.PictureCache(cache_bytes)
        self._pixels = whole if self._native else cache.PixelCache(len(candidates), self.columns, cache_bytes)
        hashes, damaged = self._examine(candidates, workers)
        self._slots = [slot for slot, digest in enumerate(hashes) if digest]
        self._check_usable(len(candidates), damaged, found)
        self.skipped = sorted([*found.odd, *damaged])
        self.missing = [(name, f'no such file, but a row at {place}') for name, place in table.missing]

        self.names = tuple(candidates[slot] for slot in self._slots)
        rows = [by_name.get(name, {}) for name in self.names]
        self.attributes, self.codes = _attributes(rows)
        vector = tuple(name for name in self.attributes if re.fullmatch(r'label_\d+', name))
        self.usual_conditions = ('label',) if 'label' in self.attributes else vector
        self.unused = tuple(dict.fromkeys(c for row in rows for c in row if c not in (*self.attributes, 'text')))
        self.remarks = [*filter(None, [remark]), *table.remarks, *_rest(found)]
        if table.rows is not None:
            self._compare(table, found.pictures)
        self.keys = self._keys(rows, group)
        self._texts = [str(row.get('text') or '') for row in rows]
        files = [hashes[slot] for slot in self._slots]
        self.duplicates = _duplicates(self.names, files)
        content = [self._load, list(zip(self.names, files, rows, strict=True))]
        self.digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def _compare(self, table: Metadata, pictures: set[str]) -> None:
        """Adds remarks on what the tables and the pictures have not in common."""
        absent, bare = [name for name, _ in table.missing], sorted(pictures - set(table.rows))
        self.remarks += [f'{counted(absent, "row")} without a picture: {examples(absent)}'] if absent else []
        self.remarks += [f'{counted(bare, "picture")} without a row: {examples(bare)}'] if bare else []
        folders = sorted({name.split('/')[0] for name in self.names if '/' in name})
        if table.rows and not self.usual_conditions and len(folders) > 1:
            self.remarks.append(
                f'the sub-folders ({examples(folders)}) are not used as classes, since there is a table; add a column '
                '`label` to it'
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`image` uint8 [H, W, 3]; see `drawn`."""
        return self.drawn(index, None)

    def drawn(self, index: int, draw: int | None) -> dict[str, np.ndarray]:
        """`image` uint8 [H, W, 3]; where pictures keep their resolution, the crop that a number decides.

        Raises:
          DataError: the file has been damaged or removed since the start.
        """
        path = self.path / self.names[index]
        try:
            load = lambda: images.load_image(path, **self._load)
            image = self._pixels.get('image', self._slots[index], load)
            return {'image': images.cut(image, self._load['size'], draw) if self._native else image}
        except images.BadImage as error:
            raise DataError(str(path), f'changed after the start: {error}', 'restore the file and resume') from error

    def text(self, index: int) -> str:
        """The `text` column of the item, or ''."""
        return self._texts[index]

    def _examine(self, candidates: list[str], workers: int) -> tuple[list[str], list[tuple[str, str]]]:
        """Content hash of every candidate that can be decoded, '' for the others; (name, reason) of these.

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

        hashes, damaged = [], []
        with ThreadPoolExecutor(max(1, workers)) as pool:
            results = pool.map(attempt, range(len(candidates)))
            # Shown after two seconds; in a log file a line every 20 seconds.
            every = 0.1 if sys.stderr.isatty() else 20
            results = tqdm(results, 'Reading pictures', len(candidates), delay=2, mininterval=every, unit='file')
            for name, (digest, reason) in zip(candidates, results, strict=True):
                hashes.append(digest)
                if reason:
                    damaged.append((name, reason))
        if entries != known:
            cache.write('folders', key, entries)
        return hashes, damaged

    def _check_usable(self, candidates: int, damaged: list[tuple[str, str]], found: Found) -> None:
        """Raises a DataError if no file or fewer than half of the candidates can be used.

        Pictures of kinds that are not read do not count: a folder may have each photo as camera raw too.
        """
        usable = len(self._slots)
        if usable and 2 * usable >= candidates:
            return
        bad = damaged or found.odd
        if not bad:
            kinds = ' '.join(sorted(images.EXTENSIONS))
            raise DataError('data.source', f'no picture in {self.path} or below it (looked for {kinds})')
        reasons = ''.join(f'\n  {printable(name)}: {reason}' for name, reason in bad[:_SHOWN])
        more = f'\n  and {len(bad) - _SHOWN} more' if len(bad) > _SHOWN else ''
        many = 'more than half of them' if usable else 'all of them'
        count = candidates or len(bad)
        raise DataError(
            'data.source', f'{len(bad)} of {count} files of {self.path} cannot be used, {many}:{reasons}{more}'
        )

    def _keys(self, rows: list[dict[str, Any]], group: str) -> tuple[str, ...]:
        columns = sorted({column for row in rows for column in row})
        if group and group not in columns:
            existing = ', '.join(columns) or 'no columns'
            raise DataError('data.group', f'{self.path} has no column {group!r}', f'it has {existing}')
        column = group or 'sku'
        values = [row.get(column) for row in rows]
        return tuple(name if is_missing(v) else str(v) for name, v in zip(self.names, values, strict=True))


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


def _classes(pictures: set[str], path: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """The rows of pictures in sub-folders, and a remark where these may be meant otherwise.

    Where all pictures are in one folder that is named after a split, its sub-folders are the classes.
    """
    parts = {name: name.split('/')[:-1] for name in pictures}
    tops = {folders[0] for folders in parts.values() if folders}
    depth, remark = 0, ''
    if len(tops) == 1:
        (top,) = tops
        below = {folders[1] for folders in parts.values() if len(folders) > 1}
        if len(below) > 1 and top.lower() in _SPLIT_NAMES and all(parts.values()):
            depth, remark = 1, f'all pictures are in {printable(top)}/, so its sub-folders are taken as the classes'
        elif len(below) > 1:
            remark = (
                f'there is one sub-folder, {printable(top)}, so there are no classes; if its '
                f'{len(below)} sub-folders are the classes, use folder:{path / top}'
            )
    return {name: {'label': folders[depth]} for name, folders in parts.items() if len(folders) > depth}, remark


def _check_splits(found: Found, path: Path) -> None:
    """Raises a DataError if the sub-folders are splits and no table describes all of them."""
    tops = {name.split('/')[0] if '/' in name else '' for name in found.pictures}
    if len(tops) > 1 and all(name.lower() in _SPLIT_NAMES for name in tops) and all('/' in t for t in found.tables):
        raise DataError(
            'data.source',
            f'the sub-folders of {path} ({", ".join(sorted(tops))}) are splits, not classes',
            f'name one of them, such as folder:{path / max(tops, key=_is_train)}',
        )


def _is_train(name: str) -> bool:
    return name.lower().startswith('train')


def _rest(found: Found) -> list[str]:
    """Lines on what the folder holds besides its pictures and the tables that are read."""
    tables = {name for name in found.others if name.lower().endswith(_TABULAR)}
    lines = []
    if tables:
        lines.append(f'{examples(sorted(tables))}: not read, since tables of labels are called {", ".join(NAMES)}')
    if found.runs:
        lines.append(f'{examples(found.runs)}: the folder of a run, whose pictures are not used')
    kinds = Counter(os.path.splitext(name)[1].lower() or 'no ending' for name in found.others if name not in tables)
    if kinds:
        listed = ', '.join(f'{count:,} {printable(kind)}' for kind, count in kinds.most_common(5))
        lines.append(f'files that are no pictures: {listed}{", ..." if len(kinds) > 5 else ""}')
    return lines


def _attributes(rows: list[dict[str, Any]]) -> tuple[dict[str, tuple[str, ...]], dict[str, np.ndarray]]:
    attributes, codes = {}, {}
    for column in dict.fromkeys(column for row in rows for column in row):
        values = [row.get(column) for row in rows]
        if column != 'text' and (found := categorical(column, values)):
            _check_label(column, values, found[0])
            attributes[column], codes[column] = found
    return attributes, codes


def _check_label(column: str, values: list[Any], names: tuple[str, ...]) -> None:
    """Raises a DataError for a label that measures something, such as a price."""
    fractions = [value for value in values if isinstance(value, float) and not value.is_integer()]
    if column == 'label' and fractions and 2 * len(names) > len(values):
        raise DataError(
            'data.source',
            f'the labels are numbers such as {fractions[0]}, most of which occur once; a label is a class',
            'give the column another name, or round its values',
        )


def _duplicates(names: tuple[str, ...], hashes: list[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for name, digest in zip(names, hashes, strict=True):
        groups[digest].append(name)
    return [group for group in groups.values() if len(group) > 1]
