"""Two caches: decoded pictures in memory, and on disk what was learnt about a data set, kept between runs.

Its entries are JSON files and arrays under `$PRODUCTGEN_CACHE`,
else `$XDG_CACHE_HOME/productgen`, else `~/.cache/productgen`. They may be deleted at any time; nothing is ever lost
but the time to compute them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_log = logging.getLogger(__name__)


class Pictures:
    """Pictures in memory, if all of them fit; safe to use from many threads."""

    def __init__(self, count: int, size: tuple[int, int], cache_bytes: int, channels: int = 3):
        """Makes room for `count` pictures of `size` (height, width), or for none if that exceeds `cache_bytes`."""
        fits = count * size[0] * size[1] * channels <= cache_bytes
        self._pixels = np.empty((count, *size, channels), np.uint8) if fits else None
        self._filled = np.zeros(count, bool)

    def get(self, slot: int, load: Callable[[], np.ndarray]) -> np.ndarray:
        """The picture in `slot`, uint8 [H, W, C], read-only; `load` is called where it is not in memory yet."""
        if self._pixels is None:
            return load()
        if not self._filled[slot]:
            self._pixels[slot] = load()
            self._filled[slot] = True  # only now: another thread may be looking
        picture = self._pixels[slot]
        picture.flags.writeable = False
        return picture


def cache_dir() -> Path:
    """The folder of the dataset cache; it need not exist."""
    if explicit := os.environ.get('PRODUCTGEN_CACHE'):
        return Path(explicit).expanduser()
    return Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser() / 'productgen'


def read(kind: str, key: str) -> Any | None:
    """The JSON value stored under `key`, or None where there is none that can be read."""
    try:
        return json.loads(_path(kind, key, 'json').read_bytes())
    except (OSError, ValueError):
        return None


def write(kind: str, key: str, value: Any) -> None:
    """Stores a JSON value; readers see all of it or nothing. A cache that cannot be written only warns."""
    _write(_path(kind, key, 'json'), lambda file: file.write(json.dumps(value).encode()))


def read_arrays(kind: str, key: str) -> dict[str, np.ndarray] | None:
    """The arrays stored under `key` by name, or None where there are none that can be read."""
    try:
        with np.load(_path(kind, key, 'npz')) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def write_arrays(kind: str, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Stores arrays by name, as `write` does a value."""
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
