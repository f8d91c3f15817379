"""Says what takes long where nothing else is logged."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

import jax

_log = logging.getLogger('productgen')
SILENCE = 5.0  # seconds before a line is logged


@contextlib.contextmanager
def announced(what: str) -> Iterator[None]:
    """Logs `what...` once a block has taken some seconds, and at its end how many; nothing where it is quick."""
    began, said = time.monotonic(), threading.Event()

    def say() -> None:
        said.set()
        _log.info('%s...', what)

    timer = threading.Timer(SILENCE, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    if said.is_set():
        _log.info('... done in %.0fs', time.monotonic() - began)


def compiling(what: str) -> contextlib.AbstractContextManager[None]:
    """`announced` for the compilation of a program, which says whether it is kept on disk."""
    kept = ' (kept for the next start)' if jax.config.jax_compilation_cache_dir else ''
    return announced(f'Compiling {what}{kept}')
