"""Sources that add to another source: a cache in memory, other names for columns."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from productgen.config import nearest
from productgen.data.cache import PixelCache
from productgen.data.source import DataError, Item, Source, read_item


class Wrapper:
    """A source that delegates what it does not define to another source."""

    def __init__(self, source: Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        if name == '_source':  # not set yet, as in the middle of a copy
            raise AttributeError(name)
        return getattr(self._source, name)


class Cached(Wrapper):
    """Keeps in memory the columns that are read of a source, such as the catalog, that renders them together.

    Columns that are never read take no memory: training a generator keeps no masks. Columns of one item that are read
    together come from one rendering; a column that is first read later in a run needs another rendering of each item.

    Args:
      source: its items are dicts of all columns.
      columns: see `Source`.
      cache_bytes: memory to use at most.
    """

    def __init__(self, source: Source, columns: Mapping[str, tuple[int, int, int]], cache_bytes: int):
        super().__init__(source)
        self.columns = dict(columns)
        self._pixels = PixelCache(len(source), self.columns, cache_bytes)

    def __getitem__(self, index: int) -> Item:
        rendered = functools.cache(lambda: self._source[index])

        def read(name: str) -> np.ndarray:
            return self._pixels.get(name, index, lambda: rendered()[name])

        return Item({name: functools.partial(read, name) for name in self.columns})


class Renamed(Wrapper):
    """A source with some of its columns under further names as well; their pixels are not copied.

    Args:
      source: any source.
      names: the column that each new name stands for, such as {'input': 'mask', 'target': 'image'}.

    Raises:
      DataError: `data.NAME` is not a column of the source.
    """

    def __init__(self, source: Source, names: Mapping[str, str]):
        super().__init__(source)
        for name, column in names.items():
            if column not in source.columns:
                reason = f'the data set has no column {column!r}{nearest(column, source.columns)}'
                raise DataError(f'data.{name}', reason)
        self._names = {name: name for name in source.columns} | dict(names)
        self.columns = {name: source.columns[column] for name, column in self._names.items()}

    def __getitem__(self, index: int) -> Item:
        return self.drawn(index, None)

    def drawn(self, index: int, draw: int | None) -> Item:
        """See `Source`."""
        item = read_item(self._source, index, draw)
        return Item({name: functools.partial(item.__getitem__, column) for name, column in self._names.items()})
