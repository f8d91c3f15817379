"""Data sources by name, and what a training run takes from them."""

from __future__ import annotations

import re

import numpy as np

from productgen.config import nearest
from productgen.data.cache import Pictures
from productgen.data.images import check_fit, parse_color
from productgen.data.source import DataConfig, DataError, Source
from productgen.data.split import in_validation

__all__ = ['DataConfig', 'DataError', 'Source', 'conditions', 'open_source', 'parse_resolution', 'split', 'spread']


def parse_resolution(value: int | str) -> tuple[int, int]:
    """`64` or WIDTHxHEIGHT such as `96x128` as (height, width).

    Raises:
      DataError: anything else.
    """
    match = re.fullmatch(r'\s*(\d+)\s*(?:x\s*(\d+)\s*)?', str(value))
    if not match:
        raise DataError('data.resolution', f"{value!r} is neither a size such as 64 nor WIDTHxHEIGHT such as '96x128'")
    width = int(match[1])
    return int(match[2] or width), width


class _Remembered:
    """A source of pictures and masks that are kept in memory once made, if all of them fit."""

    def __init__(self, source: Source, size: tuple[int, int], cache_bytes: int):
        self._source, self._pictures = source, Pictures(len(source), size, cache_bytes, channels=4)

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str):
        return getattr(self._source, name)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        both = self._pictures.get(index, lambda: np.concatenate([*self._source[index].values()], -1))
        return {'image': both[..., :3], 'mask': both[..., 3:]}


def open_source(config: DataConfig) -> Source:
    """The source that `config.source` names, checked and ready to read.

    Raises:
      DataError: it cannot be used; see the sources.
    """
    size = parse_resolution(config.resolution)
    if config.catalog_items < 1 or config.workers < 1 or config.cache_gb < 0:
        raise DataError('data.catalog_items and data.workers must be at least 1 and data.cache_gb at least 0')
    check_fit(config.fit)
    parse_color(config.background)
    kind, _, rest = config.source.partition(':')
    cache_bytes = int(config.cache_gb * 2**30)
    options = {'fit': config.fit, 'background': config.background, 'group': config.group, 'cache_bytes': cache_bytes}
    # Imported where used: each brings libraries of its own.
    if kind == 'catalog' and not rest:
        from productgen.data.catalog import Catalog

        return _Remembered(Catalog(size, config.catalog_items), size, cache_bytes)
    if kind == 'folder' and rest:
        from productgen.data.folder import Folder

        return Folder(rest, size, workers=config.workers, **options)
    if kind == 'tfds' and rest:
        from productgen.data.tfds_source import TfdsSource

        return TfdsSource(rest, size, **options)
    raise DataError('data.source', f"{config.source!r} is none of 'catalog', 'folder:PATH', 'tfds:NAME'")


def conditions(source: Source, labels: str) -> tuple[str, ...]:
    """The attributes to condition on.

    Args:
      source: has the attributes.
      labels: `auto`, `none`, or names separated by commas.

    Raises:
      DataError: a name that the source does not have, or one without at least two values.
    """
    if labels in ('none', ''):
        return ()
    if labels == 'auto':
        usual = getattr(source, 'usual_conditions', ('label',))
        return tuple(name for name in usual if len(source.attributes.get(name, ())) > 1)
    names = tuple(name.strip() for name in labels.split(','))
    for name in names:
        if not source.attributes:
            raise DataError(
                'data.labels', f'{name!r} is not to be had, the data set has no labels', 'use data.labels=none'
            )
        if name not in source.attributes:
            raise DataError('data.labels', f'there is no attribute {name!r}{nearest(name, source.attributes)}')
        if len(source.attributes[name]) < 2:
            raise DataError('data.labels', f'{name!r} has fewer than two values', 'use data.labels=none')
    return names


def split(source: Source, validation: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and of the validation pictures, divided by product.

    Raises:
      DataError: nothing would be left to train on.
    """
    held_out = in_validation(source.keys, validation)
    train, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if not len(train):
        raise DataError('data.validation', f'{validation} leaves no picture to train on')
    return train, valid


def spread(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the items [N], evenly from all over the data set."""
    count = min(count, len(items))
    return items[np.arange(count) * len(items) // count]
