"""Two caches: decoded pixels in memory, and facts about data sets on disk, which later runs use.

The disk cache holds JSON files and arrays under `$PRODUCTGEN_CACHE`, else `$XDG_CACHE_HOME/productgen`, else
`~/.cache/productgen`. They may be deleted at any time and are computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from productgen.config.paths import user_path

_log = logging.getLogger(__name__)


class PixelCache:
    """Columns of items in memory, one buffer a column; safe to use from many threads.

    A column gets its buffer when it is first read, if one for all items fits into what is left of the memory; otherwise
    it is loaded every time. Columns that are never read take nothing.

    Args:
      count: number of items.
      columns: shape (H, W, C) of every column, by name.
      cache_bytes: memory for all buffers together.
    """

    def __init__(self, count: int, columns: Mapping[str, tuple[int, int, int]], cache_bytes: int):
        self._count, self._columns, self._free = count, columns, cache_bytes
        self._buffers: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
        self._lock = threading.Lock()

    def get(self, name: str, slot: int, load: Callable[[], np.ndarray]) -> np.ndarray:
        """Column `name` of the item in `slot`, uint8 [H, W, C], read-only; `load` returns what is not in memory yet."""
        buffer = self._buffer(name)
        if buffer is None:
            return load()
        pixels, filled = buffer
        if not filled[slot]:
            pixels[slot] = load()
            filled[slot] = True  # only now: another thread may be reading
        array = pixels[slot]
        array.flags.writeable = False
        return array

    def _buffer(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixels [N, H, W, C] and which slots are filled [N] of a column; None where they do not fit."""
        with self._lock:
            if name not in self._buffers:
                shape = (self._count, *self._columns[name])
                fits = math.prod(shape) <= self._free
                self._free -= math.prod(shape) if fits else 0
                self._buffers[name] = (np.empty(shape, np.uint8), np.zeros(self._count, bool)) if fits else None
            return self._buffers[name]


class PictureCache:
    """Pictures of any size in memory; safe to use from many threads.

    Pictures that come when the memory is full are loaded every time.

    Args:
      cache_bytes: memory for all pictures together.
    """

    def __init__(self, cache_bytes: int):
        self._free, self._lock = cache_bytes, threading.Lock()
        self._pictures: dict[tuple[str, int], np.ndarray] = {}

    def get(self, name: str, slot: int, load: Callable[[], np.ndarray]) -> np.ndarray:
        """Column `name` of the item in `slot`, uint8 [H, W, C], read-only; see `PixelCache.get`."""
        found = self._pictures.get((name, slot))
        if found is None:
            found = load()
            found.flags.writeable = False
            with self._lock:
                if found.nbytes <= self._free and (name, slot) not in self._pictures:
                    self._free -= found.nbytes
                    self._pictures[name, slot] = found
        return found


def cache_dir() -> Path:
    """The folder of the dataset cache; it need not exist.

    Raises:
      UserError: there is no home folder that `~` stands for.
    """
    if explicit := os.environ.get('PRODUCTGEN_CACHE'):
        return user_path(explicit, 'PRODUCTGEN_CACHE')
    return user_path(os.environ.get('XDG_CACHE_HOME') or '~/.cache', 'XDG_CACHE_HOME') / 'productgen'


def read(kind: str, key: str) -> Any | None:
    """The JSON value stored under `key`; None where there is none or it is damaged."""
    try:
        return json.loads(_path(kind, key, 'json').read_bytes())
    except (OSError, ValueError):
        return None


def write(kind: str, key: str, value: Any) -> None:
    """Stores a JSON value atomically; where the cache cannot be written a warning is logged."""
    _write(_path(kind, key, 'json'), lambda file: file.write(json.dumps(value).encode()))


def read_arrays(kind: str, key: str) -> dict[str, np.ndarray] | None:
    """The arrays stored under `key`, by name; None where there are none or they are damaged."""
    try:
        with np.load(_path(kind, key, 'npz')) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def write_arrays(kind: str, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores arrays by name, as `write` stores a value."""
    _write(_path(kind, key, 'npz'), lambda file: np.savez(file, **arrays))


def _write(path: Path, save: Callable[[BinaryIO], Any]) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile('wb', dir=path.parent, suffix='.tmp', delete=False) as file:
            temporary = file.name
            save(file)
        os.replace(temporary, path)
    except OSError as error:
        _log.warning('The dataset cache cannot be written, the next start will be slower: %s', error)
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _path(kind: str, key: str, ending: str) -> Path:
    name = hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()
    return cache_dir() / kind / f'{name}.{ending}'
