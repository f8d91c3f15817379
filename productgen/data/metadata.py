"""Finds what the tables of a folder say of its pictures, and turns their columns into categorical attributes."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config.text import counted, examples, printable
from productgen.data.source import DataError
from productgen.data.tables import NAMES, Row, Table, is_missing, read_table

MAX_VALUES = 1000  # a column with more distinct values than this identifies items instead of grouping them


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What the tables of a folder say.

    Attributes:
      rows: {relative posix path of a file: {column: value}}; None if no table was used.
      missing: (path, place) of the rows whose file does not exist.
      remarks: which tables were used and which were not, and what had to be understood; lines for the user.
    """

    rows: Mapping[str, Row] | None
    missing: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]


def read_metadata(folder: Path, tables: Iterable[str], pictures: Iterable[str]) -> Metadata:
    """Reads the tables of a folder and of its sub-folders, and finds the file of every row.

    In each folder one table is read, the first of `tables.NAMES`. A picture that tables of several folders describe has
    the columns of all of them.

    Args:
      folder: the folder.
      tables: relative posix paths of the tables, whose names are in NAMES in any case.
      pictures: relative posix paths of the pictures.

    Raises:
      DataError: a table is malformed, none of its rows has a file, or two tables contradict each other; `field` is the
        file and the line.
    """
    spellings = defaultdict(list)  # names as they are on disk, by the form in which they are compared
    for name in pictures:
        spellings[_normal(name)].append(name)
    rows: dict[str, Row] = {}
    places: dict[str, str] = {}
    missing, remarks, used = [], [], []
    for name, others in sorted(_one_a_folder(tables).items()):
        table = read_table(folder / name)
        remarks += [f'{printable(other)} is not used, since {posixpath.basename(name)} is' for other in others]
        remarks += [f'{printable(name)}: {remark}' for remark in table.remarks]
        if not table.rows and not name.lower().endswith('.json'):  # a dataset.json without labels says so
            remarks.append(f'{printable(name)} is not used, since it has no rows')
            continue
        used.append(name)
        files, lost = _files(table, folder, posixpath.dirname(name), spellings)
        missing += lost
        for path, file in files.items():
            _add(rows.setdefault(file, {}), table.rows[path], file, table.places[path], places.get(file, ''))
            places[file] = table.places[path]
    if used:
        remarks.insert(0, f'labels and texts are from {examples(used)}')
    return Metadata(rows if used else None, tuple(missing), tuple(remarks))


def _one_a_folder(tables: Iterable[str]) -> dict[str, list[str]]:
    """The table of each folder that is read, and the others there."""
    folders = defaultdict(list)
    for name in sorted(tables, key=lambda name: (NAMES.index(posixpath.basename(name).lower()), name)):
        folders[posixpath.dirname(name)].append(name)
    return {names[0]: names[1:] for names in folders.values()}


def _files(
    table: Table, folder: Path, prefix: str, spellings: Mapping[str, list[str]]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """{path in the table: relative path of its file}, and (relative path, place) of the rows without one."""
    files, missing = {}, []
    for path, place in table.places.items():
        name = posixpath.join(prefix, path)
        alike = spellings.get(_normal(name), [])
        if os.path.lexists(folder / name):
            files[path] = name
        elif len(alike) == 1:
            files[path] = alike[0]
        else:
            missing.append((name, place))
    if missing and not files and spellings:
        names = sorted(name for names in spellings.values() for name in names)
        raise DataError(
            str(table.path),
            f'none of its {counted(missing, "row")} has a picture: it names {examples(table.places)}, and the pictures '
            f'are {examples(names)}',
            _advice(next(iter(table.places)), prefix, names),
        )
    return files, missing


def _advice(path: str, prefix: str, names: Sequence[str]) -> str:
    """How a path should have been written, where a picture has its name or stem."""
    for wanted in (posixpath.basename, lambda name: posixpath.splitext(posixpath.basename(name))[0]):
        for name in names:
            if wanted(name) == posixpath.basename(path):
                return f'write {printable(posixpath.relpath(name, prefix or "."))} for {printable(path)}'
    return 'correct its `file_name`, or rename the table if it is not for these pictures'


def _add(known: Row, row: Row, file: str, place: str, before: str) -> None:
    """Adds the columns of a further table to those of a picture.

    Raises:
      DataError: they contradict each other.
    """
    for column, value in row.items():
        if not is_missing(known.get(column)) and not is_missing(value) and known[column] != value:
            raise DataError(
                place,
                f'{printable(column)} of {printable(file)} is {value!r}, and {known[column]!r} in {before}',
                'keep one of them',
            )
        if is_missing(known.get(column)):
            known[column] = value


def _normal(name: str) -> str:
    """A name in the form in which names are compared: macOS composes accents otherwise than other systems."""
    return unicodedata.normalize('NFC', name).strip()


def categorical(column: str, values: Sequence[Any]) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Turns a column into an attribute, if it is one.

    `label` always is one. Another column is one if it holds strings, whole numbers or booleans, at most MAX_VALUES
    different ones, and most items have the same value as another item. So a colour is an attribute; a price, a
    description and an order number are not.

    Args:
      column: its name.
      values: one per item; None, '' and NaN mean that the item has none.

    Returns:
      (value names in code order, int32 [N] codes with -1 for missing), or None where the column is no attribute. Names
      are sorted as numbers if all are integers, else as text.
    """
    present = [value for value in values if not is_missing(value)]
    names = Counter(map(_name, present))
    if column != 'label':
        if not all(isinstance(value, (str, int)) or _is_whole(value) for value in present):
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
    return ordered, np.array([-1 if is_missing(v) else codes[_name(v)] for v in values], np.int32)


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value.is_integer()


def _name(value: Any) -> str:
    """The name of a value; 3.0 is 3, as a column of integers becomes where one is missing."""
    if isinstance(value, str):
        return unicodedata.normalize('NFC', value)
    return str(value).lower() if isinstance(value, bool) else str(int(value) if _is_whole(value) else value)
