"""Reads the metadata table of a folder of pictures and turns its columns into categorical attributes.

Three formats are supported; the first file that exists is read: `metadata.jsonl` (one object with `file_name` a line),
`metadata.csv` (a header with `file_name`), and `dataset.json` as StyleGAN's tools write it.
"""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from productgen.data.source import DataError

MAX_VALUES = 1000  # a column with more distinct values than this identifies items instead of grouping them

Row = dict[str, Any]


def read_metadata(folder: Path) -> dict[str, Row] | None:
    """Reads the columns of every file that a folder's table lists.

    Returns:
      {relative posix path: {column: value}}, without `file_name`; None if the folder has no table.

    Raises:
      DataError: a table is malformed; `field` is the file and the line.
    """
    for name, reader in (('metadata.jsonl', _jsonl), ('metadata.csv', _csv), ('dataset.json', _dataset_json)):
        path = folder / name
        if not path.exists():
            continue
        rows, places = {}, {}
        for place, row in reader(path):
            file = _relative(row.pop('file_name', None), place)
            if file in rows:
                raise DataError(place, f'{file} appears before, at {places[file]}', 'keep one of them')
            rows[file], places[file] = row, place
        return _expand_vectors(rows, path)
    return None


def categorical(column: str, values: Sequence[Any]) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Turns a column into an attribute, if it is one.

    `label` always is one. Another column is one if it holds strings, integers or booleans, at most MAX_VALUES different
    ones, and most items have the same value as another item. So a colour is an attribute; a price, a description and an
    order number are not.

    Args:
      column: its name.
      values: one per item; None and '' mean that the item has none.

    Returns:
      (value names in code order, int32 [N] codes with -1 for missing), or None where the column is no attribute. Names
      are sorted as numbers if all are integers, else as text.
    """
    present = [value for value in values if value is not None and value != '']
    names = Counter(map(_name, present))
    if column != 'label':
        if not all(isinstance(value, (str, int)) for value in present):
            return None
        repeated = sum(count for count in names.values() if count > 1)
        if len(names) > MAX_VALUES or 2 * repeated <= len(present):
            return None
    if not names:
        return None
    try:
        ordered = tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        ordered = tuple(sorted(names))
    codes = {name: code for code, name in enumerate(ordered)}
    missing = {None: -1, '': -1}
    return ordered, np.array([missing[v] if v is None or v == '' else codes[_name(v)] for v in values], np.int32)


def _name(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    # Split as bytes: str.splitlines would also cut at the line separators that texts may contain.
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        place = f'{path}:{number}'
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(place, f'not a line of JSON ({error})') from error
        if not isinstance(row, dict):
            raise DataError(place, f'a JSON object with `file_name` is expected, not {line[:60]!r}')
        yield place, row


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        text = _bytes(path).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise DataError(str(path), f'not UTF-8 ({error})', 'save it as UTF-8') from error
    rows = csv.DictReader(io.StringIO(text, newline=''), restkey='')
    try:
        for row in rows:
            place = f'{path}:{rows.line_num}'
            if '' in row or None in row.values():
                raise DataError(place, f'{len(rows.fieldnames)} fields are expected, as in the header')
            yield place, row
    except csv.Error as error:
        raise DataError(f'{path}:{rows.line_num}', str(error)) from error


def _dataset_json(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        content = json.loads(_bytes(path))
    except json.JSONDecodeError as error:
        raise DataError(f'{path}:{error.lineno}', f'not JSON ({error.msg})') from error
    except ValueError as error:
        raise DataError(str(path), f'not JSON ({error})') from error
    if not isinstance(content, dict) or not isinstance(content.get('labels', 0), (list, type(None))):
        raise DataError(str(path), '{"labels": [["picture.png", label], ...]} or {"labels": null} is expected')
    for number, entry in enumerate(content['labels'] or ()):
        place = f'{path}: labels[{number}]'
        if not isinstance(entry, list) or len(entry) != 2:
            raise DataError(place, f'["picture.png", label] is expected, not {str(entry)[:60]}')
        yield place, {'file_name': entry[0], 'label': entry[1]}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(str(path), f'it cannot be read: {error.strerror}') from error


def _relative(file: Any, place: str) -> str:
    if not isinstance(file, str) or not file:
        raise DataError(place, 'no `file_name`')
    path = posixpath.normpath(file.replace('\\', '/'))
    if path.startswith(('/', '../')):
        raise DataError(place, f'{file} lies outside the folder')
    return path


def _expand_vectors(rows: dict[str, Row], path: Path) -> dict[str, Row]:
    """Replaces labels that are vectors: one-hot ones by their index, others by the attributes label_0, label_1, ..."""
    labels: Mapping[str, Any] = {file: row['label'] for file, row in rows.items() if row.get('label') is not None}
    if not any(isinstance(label, (list, dict)) for label in labels.values()):
        return rows
    width = len(next(iter(labels.values()))) if isinstance(next(iter(labels.values())), list) else 0
    for file, label in labels.items():
        integers = isinstance(label, list) and all(isinstance(x, (int, float)) and float(x).is_integer() for x in label)
        if not integers or len(label) != width or not width:
            raise DataError(
                str(path),
                f'the label of {file} is {str(label)[:60]}, not a string, an integer, or for all pictures a list of '
                'equally many integers',
                'put other values into columns of their own',
            )
    one_hot = all(set(label) <= {0, 1} and sum(label) == 1 for label in labels.values())
    for file, label in labels.items():
        row = rows[file]
        del row['label']
        row |= {'label': label.index(1)} if one_hot else {f'label_{i}': int(x) for i, x in enumerate(label)}
    return rows
