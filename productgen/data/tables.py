"""Reads one metadata table: what its rows say of which file.

The formats, by the name of the file: `metadata.jsonl` (an object a line), `metadata.csv` and `metadata.tsv` (a header;
commas, semicolons, tabs or bars), and `dataset.json` as StyleGAN's tools write it. The column `file_name` holds paths
relative to the folder of the table.

What has one obvious meaning is understood: spaces around names and values, blank rows, an index column without a name,
a byte order mark, `NaN` for a missing value, a column `Label` or `File Name`.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import json
import math
import posixpath
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from productgen.config.text import printable
from productgen.data import images
from productgen.data.source import DataError

Row = dict[str, Any]

# In a folder with several, the first is read.
NAMES = ('metadata.jsonl', 'metadata.csv', 'metadata.tsv', 'dataset.json')
_FILE_NAMES = ('file_name', 'filename', 'file', 'file_path', 'filepath', 'path')
_FILE_NAMES += ('image_name', 'image_file', 'image_path', 'image', 'img')
_OTHER_NAMES = ('label', 'text', 'sku')  # of columns with a meaning
_DELIMITERS = ',;\t|'
_MISSING = frozenset(['nan', '<na>', '#n/a', 'null'])  # in CSV, as pandas and Excel write a missing value
_MARKS = {codecs.BOM_UTF8: 'utf-8-sig', codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16'}

csv.field_size_limit(2**27)  # descriptions may be longer than the 128 KiB that Python allows


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of a table.

    Attributes:
      path: of the table.
      rows: {path relative to the table's folder: {column: value}}, without the column of the file names.
      places: the line of each of them, such as `metadata.csv:3`.
      remarks: what had to be understood, for the user.
    """

    path: Path
    rows: Mapping[str, Row]
    places: Mapping[str, str]
    remarks: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Reads a table by its name, which is one of NAMES, in any case.

    Raises:
      DataError: it is malformed; `field` is the file and the line.
    """
    reader = {'.jsonl': _jsonl, '.csv': _csv, '.tsv': _csv, '.json': _dataset_json}[path.suffix.lower()]
    entries = [(place, row) for place, row in reader(path) if not all(map(is_missing, row.values()))]
    names = _meanings(path, list(dict.fromkeys(column for _, row in entries for column in row)))
    rows, places = {}, {}
    for place, entry in entries:
        row = {names[column]: value for column, value in entry.items()}
        file = _relative(row.pop('file_name', None), place)
        row.pop('', None)  # an index column
        if file in rows:
            if row == rows[file]:
                continue
            raise DataError(place, f'{printable(file)} appears before, at {places[file]}', 'keep one of them')
        rows[file], places[file] = row, place
    remarks = tuple(
        f'the column {printable(column)!r} is taken as {name!r}' if column else 'a column without a name is left out'
        for column, name in names.items()
        if column != name or not column
    )
    return Table(path, _expand_vectors(rows, path), places, remarks)


def is_missing(value: Any) -> bool:
    """Whether a value means that there is none."""
    return value is None or value == '' or (isinstance(value, float) and math.isnan(value))


def _meanings(path: Path, columns: list[str]) -> dict[str, str]:
    """The name that each column is known by: `file_name` and the columns with a meaning however they are spelled.

    Raises:
      DataError: no column holds file names.
    """
    names = {column: column for column in columns}
    spelled: dict[str, str] = {}
    for column in columns:
        spelled.setdefault(_spelling(column), column)
    for name, ways in {'file_name': _FILE_NAMES, **{name: (name,) for name in _OTHER_NAMES}}.items():
        found = next((spelled[way] for way in ways if way in spelled), None)
        if name not in names and found is not None:
            names[found] = name
    if columns and 'file_name' not in names.values():
        known = ', '.join(printable(column) or '(no name)' for column in columns)
        raise DataError(str(path), 'no column `file_name`', f'its columns are {known}; rename that of file names')
    return names


def _spelling(column: str) -> str:
    """The form in which names of columns are compared: `file_name` of ` File-Name`."""
    return '_'.join(column.lower().replace('-', ' ').replace('_', ' ').split())


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    # str.splitlines would also cut at the line separators that texts may contain.
    for number, line in enumerate(_text(path).split('\n'), 1):
        if not line.strip():
            continue
        place = f'{path}:{number}'
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(place, f'not a line of JSON ({error})') from error
        if not isinstance(row, dict):
            raise DataError(place, f'a JSON object with `file_name` is expected, not {line[:60]!r}')
        yield place, {name.strip(): _clean(value) for name, value in row.items()}


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    text = _text(path)
    skipped = 0
    delimiters = _DELIMITERS
    if text[:4].lower() == 'sep=' and text[4:5].strip('\r\n') and text[5:6] in '\r\n':  # a hint for Excel
        delimiters, skipped = text[4], 1
        text = text[5:].removeprefix('\r').removeprefix('\n')
    lines = csv.reader(io.StringIO(text, newline=''), delimiter=_delimiter(text, delimiters), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(lines, [])]
        if double := next((name for name in header if name and header.count(name) > 1), None):
            raise DataError(f'{path}:{lines.line_num + skipped}', f'two columns are called {double!r}', 'rename one')
        for fields in lines:
            place = f'{path}:{lines.line_num + skipped}'
            values = [_clean(field) for field in fields]
            values = [None if str(value).lower() in _MISSING else value for value in values]
            if all(map(is_missing, values)):
                continue
            if len(values) < len(header) or not all(map(is_missing, values[len(header) :])):
                raise DataError(place, f'{len(header)} fields are expected, as in the header, not {len(values)}')
            yield place, dict(zip(header, values, strict=False))
    except csv.Error as error:
        raise DataError(f'{path}:{lines.line_num + skipped}', str(error)) from error


def _delimiter(text: str, delimiters: str) -> str:
    """The delimiter that gives the header a column of file names; else the first."""
    for delimiter in delimiters:
        try:
            header = next(csv.reader(io.StringIO(text, newline=''), delimiter=delimiter), [])
        except csv.Error:
            continue
        if any(_spelling(name) in _FILE_NAMES for name in header):
            return delimiter
    return delimiters[0]


def _text(path: Path) -> str:
    data = _bytes(path)
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b'\n') + 1
        raise DataError(f'{path}:{line}', f'not UTF-8 ({error.reason})', 'save it as UTF-8') from error
    if '\0' in text:
        line = text[: text.index('\0')].count('\n') + 1
        raise DataError(f'{path}:{line}', 'it contains a NUL character', 'save it again as text in UTF-8')
    return text


def _dataset_json(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        content = json.loads(_bytes(path))
    except json.JSONDecodeError as error:
        raise DataError(f'{path}:{error.lineno}', f'not JSON ({error.msg})') from error
    except (ValueError, RecursionError) as error:
        raise DataError(str(path), f'not JSON ({error})') from error
    if not isinstance(content, dict) or not isinstance(content.get('labels', 0), (list, type(None))):
        raise DataError(str(path), '{"labels": [["picture.png", label], ...]} or {"labels": null} is expected')
    for number, entry in enumerate(content['labels'] or ()):
        place = f'{path}: labels[{number}]'
        if not isinstance(entry, list) or len(entry) != 2:
            raise DataError(place, f'["picture.png", label] is expected, not {str(entry)[:60]}')
        yield place, {'file_name': entry[0], 'label': _clean(entry[1])}


def _bytes(path: Path) -> bytes:
    try:
        return images.read_file(path)
    except images.BadImage as error:
        raise DataError(str(path), f'it cannot be read: {error}') from error


def _clean(value: Any) -> Any:
    """A value without spaces around it; None for a NaN."""
    if isinstance(value, str):
        return value.strip()
    return None if isinstance(value, float) and math.isnan(value) else value


def _relative(file: Any, place: str) -> str:
    if not isinstance(file, str) or not file:
        raise DataError(place, 'no `file_name`')
    if '\0' in file:
        raise DataError(place, f'the file name {printable(file)} contains a NUL character')
    path = posixpath.normpath(file.replace('\\', '/'))
    if path.startswith(('/', '../')) or path in ('.', '..'):
        raise DataError(place, f'{printable(file)} lies outside the folder', 'give paths relative to that of the table')
    return path


def _expand_vectors(rows: dict[str, Row], path: Path) -> dict[str, Row]:
    """Replaces labels that are vectors: one-hot ones by their index, others by the attributes label_0, label_1, ..."""
    labels: Mapping[str, Any] = {file: row['label'] for file, row in rows.items() if row.get('label') is not None}
    if not any(isinstance(label, (list, dict)) for label in labels.values()):
        return rows
    width = len(next(iter(labels.values()))) if isinstance(next(iter(labels.values())), list) else 0
    for file, label in labels.items():
        integers = isinstance(label, list) and all(map(_is_whole, label))
        if not integers or len(label) != width or not width:
            raise DataError(
                str(path),
                f'the label of {printable(file)} is {str(label)[:60]}, not a string, an integer, or for all pictures a '
                'list of equally many integers',
                'put other values into columns of their own',
            )
    one_hot = all(set(label) <= {0, 1} and sum(label) == 1 for label in labels.values())
    for file, label in labels.items():
        row = rows[file]
        del row['label']
        row |= {'label': label.index(1)} if one_hot else {f'label_{i}': int(x) for i, x in enumerate(label)}
    return rows


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
