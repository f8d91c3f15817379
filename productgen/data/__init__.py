"""Opening a data source by name, and selecting from it: attributes to condition on, training and validation items."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from productgen.config import nearest
from productgen.config.sections import MAX_SIDE
from productgen.data.images import check_fit, parse_color
from productgen.data.source import DataConfig, DataError, Source
from productgen.data.split import in_validation
from productgen.data.unpaired import Unpaired
from productgen.data.wrappers import Cached, Renamed

__all__ = ['DataConfig', 'DataError', 'Source', 'conditions', 'open_source', 'parse_resolution', 'split', 'spread']


def parse_resolution(value: int | str) -> tuple[int, int]:
    """`64` or WIDTHxHEIGHT such as `96x128` as (height, width).

    Raises:
      DataError: anything else.
    """
    match = re.fullmatch(r'\s*(\d+)\s*(?:x\s*(\d+)\s*)?', str(value))
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not width or not height:
        raise DataError('data.resolution', f"{value!r} is neither a size such as 64 nor WIDTHxHEIGHT such as '96x128'")
    if max(height, width) > MAX_SIDE:
        raise DataError('data.resolution', f'{value} is too large, the largest side is {MAX_SIDE} pixels')
    return height, width


def open_source(config: DataConfig) -> Source:
    """The source that `config.source` names, ready to read; with `input` and `target` where the config names them.

    Raises:
      DataError: it cannot be used, see the sources; or it has no column `config.input` or `config.target`.
    """
    source = _open(config)
    if config.unpaired:
        kind, _, rest = config.target.partition(':')
        column = rest if kind == 'catalog' else 'image'
        text = kind if kind == 'catalog' else config.target
        try:
            other = (
                source
                if text == config.source
                else _open(dataclasses.replace(config, source=text, target='', group=''))
            )
        except DataError as error:
            raise error.at(f'data.target={config.target}', 'data.source') from None
        return Unpaired(Renamed(source, {'input': config.input or 'image'}), other, column, config.validation)
    names = {name: column for name in ('input', 'target') if (column := getattr(config, name))}
    return Renamed(source, names) if names else source


def _open(config: DataConfig) -> Source:
    size = parse_resolution(config.resolution)
    check_fit(config.fit)
    parse_color(config.background)
    kind, _, rest = config.source.partition(':')
    cache_bytes = int(config.cache_gb * 2**30)
    options = {'fit': config.fit, 'background': config.background, 'group': config.group, 'cache_bytes': cache_bytes}
    # Imported where used: each brings libraries of its own.
    if kind == 'catalog' and not rest:
        from productgen.data.catalog import Catalog

        try:
            catalog = Catalog(size, config.catalog_items)
        except ValueError as error:
            raise DataError('data.resolution', str(error), 'use a larger size, such as 16') from error
        return Cached(catalog, catalog.columns, cache_bytes)
    if kind == 'folder' and rest:
        from productgen.data.folder import Folder

        return Folder(rest, size, workers=config.workers, **options)
    if kind == 'pairs' and rest:
        from productgen.data.pairs import Pairs

        return Pairs(rest, size, workers=config.workers, **options)
    if kind == 'tfds' and rest:
        from productgen.data.tfds_source import TfdsSource

        return TfdsSource(rest, size, **options)
    raise DataError('data.source', f"{config.source!r} is none of 'catalog', 'folder:PATH', 'pairs:PATH', 'tfds:NAME'")


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
            raise DataError('data.labels', f'there is no {name!r}: the data set has no labels', 'use data.labels=none')
        if name not in source.attributes:
            raise DataError('data.labels', f'there is no attribute {name!r}{nearest(name, source.attributes)}')
        if len(source.attributes[name]) < 2:
            raise DataError('data.labels', f'{name!r} has fewer than two values', 'use data.labels=none')
    return names


def split(source: Source, validation: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training items and of the validation items; no product is in both.

    Args:
      source: the data set.
      validation: fraction of the products held out, see `in_validation`.

    Raises:
      DataError: the fraction is out of range, or nothing is left to train on.
    """
    held_out = in_validation(source.keys, validation)
    train, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    if not len(train):
        raise DataError('data.validation', f'{validation} leaves no picture to train on', 'lower it')
    return train, valid


def spread(items: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the items [N], at even distances."""
    count = min(count, len(items))
    return items[np.arange(count) * len(items) // count]
