"""Logging of a run: the terminal, log.txt, a progress bar, metrics.jsonl, TensorBoard events and pictures."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from tqdm import tqdm

from productgen.core.files import write_durably
from productgen.data.pictures import save_png
from productgen.train.files import Appended, Board, Lenient, LineHandler

_log = logging.getLogger('productgen')
_Batch = TypeVar('_Batch')


class _BarHandler(logging.Handler):
    """Prints log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # a closed terminal is no reason to end a run
            tqdm.write(self.format(record), file=sys.stderr)


def start_console(primary: bool = True) -> None:
    """Sends log lines to the terminal; only the primary process prints more than errors."""
    root = logging.getLogger('productgen')
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.INFO if primary else logging.ERROR)
    root.propagate = False
    console = _BarHandler()
    console.setFormatter(logging.Formatter('%(message)s'))
    root.addHandler(console)


@contextlib.contextmanager
def log_file(workdir: Path, primary: bool = True) -> Iterator[None]:
    """Also writes log lines to log.txt in the workdir, in the primary process, until the context ends."""
    if not primary:
        yield
        return
    root, file = logging.getLogger('productgen'), LineHandler(workdir / 'log.txt')
    file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    root.addHandler(file)
    level = root.level
    root.setLevel(min(root.getEffectiveLevel(), logging.INFO))  # the file is complete without `start_console` too
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(file)
        file.close()


def memory() -> dict[str, float]:
    """Memory in use in GiB: of the first device, where it reports it, and of this process."""
    used = {}
    stats = jax.local_devices()[0].memory_stats()
    if stats:
        used['memory/device_gib'] = stats['bytes_in_use'] / 2**30
        used['memory/device_peak_gib'] = stats.get('peak_bytes_in_use', 0) / 2**30
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        used['memory/host_gib'] = pages * os.sysconf('SC_PAGE_SIZE') / 2**30
    except OSError:
        pass
    return used


def read_points(path: Path) -> list[dict]:
    """The points of a metrics.jsonl; lines that are none, as the last one of an interrupted run, are left out."""
    points = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):
            point = json.loads(line)
            if isinstance(point, dict) and isinstance(point.get('step'), int):
                points.append(point)
    return points


def span(seconds: float) -> str:
    """Seconds in words: 45s, 3m20s, 2h05m."""
    seconds = int(seconds)
    if seconds < 60:
        return f'{seconds}s'
    if seconds < 3600:
        return f'{seconds // 60}m{seconds % 60:02d}s'
    return f'{seconds // 3600}h{seconds % 3600 // 60:02d}m'


class RunLog:
    """The log of a training run; processes other than the primary one write nothing.

    Args:
      workdir: where it is written.
      step: update the run resumes from.
      batch_size: images an update.
      total: updates in the whole run, None where it is bounded by time.
      primary: whether this process writes.
      images_before: see `Problem.images_before`.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        batch_size: int,
        total: int | None,
        primary: bool = True,
        images_before: int = 0,
    ):
        self._workdir, self._batch_size, self._total, self._primary = workdir, batch_size, total, primary
        self._images = lambda step: step * batch_size + images_before
        self._mark = (step, time.monotonic())
        self._waited = 0.0  # seconds since the mark
        self._points: list[dict] = []
        if not primary:
            return
        self._lenient = Lenient()
        self._metrics = Appended(workdir / 'metrics.jsonl', self._lenient)
        with self._lenient(self._metrics.path):
            # Those after this step will be written again.
            self._points = [point for point in read_points(self._metrics.path) if point['step'] <= step]
        self._rewritten = self._rewrite()
        self._board = Board(workdir / 'tensorboard', self._lenient, purge_step=step + 1)
        self._bar = tqdm(
            total=None if total is None else self._images(total),
            initial=self._images(step),
            unit='img',
            unit_scale=True,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def best(self, name: str) -> float:
        """The highest value of a metric before this start; 0 where there is none."""
        values = (point.get(name) for point in self._points)
        return max((value for value in values if isinstance(value, int | float)), default=0.0)

    def _rewrite(self) -> bool:
        """Drops the points after the step of this start from metrics.jsonl, and returns whether that was done."""
        with self._lenient(self._metrics.path):
            write_durably(self._metrics.path, ''.join(json.dumps(point) + '\n' for point in self._points))
            return True
        return False

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self._primary:
            self._bar.update(self._images(step) - self._bar.n)

    def feed(self, batches: Iterable[_Batch]) -> Iterator[_Batch]:
        """The same batches; the time spent waiting for each is counted in `data_wait`."""
        began = time.monotonic()
        for batch in batches:
            self._waited += time.monotonic() - began
            yield batch
            began = time.monotonic()

    def exclude(self, seconds: float) -> None:
        """Excludes seconds that were not spent on training from the next rate."""
        self._mark = (self._mark[0], self._mark[1] + seconds)

    def restart_clock(self, step: int) -> None:
        """Starts the next rate now, as after compilation."""
        self._mark, self._waited = (step, time.monotonic()), 0.0

    def scalars(self, step: int, metrics: dict[str, float], seconds_left: float | None) -> None:
        """Writes one point of every metric, with the rate since the last one.

        It includes `data_wait`, the fraction of that time in which the loop waited for a batch: near 0 where loading
        keeps up with training. Otherwise it is an upper bound of what more `data.workers` can save, since a device may
        have had updates left to do meanwhile.

        Args:
          step: updates done.
          metrics: by name.
          seconds_left: of a run bounded by time.
        """
        now = time.monotonic()
        steps, seconds = step - self._mark[0], now - self._mark[1]
        waited, self._mark, self._waited = self._waited, (step, now), 0.0
        if not self._primary:
            return
        kimg = self._images(step) / 1000
        point = {'step': step, 'kimg': kimg, **metrics, **memory()}
        losses = '  '.join(
            f'{n.removeprefix("loss/")} {v:.3f}' for n, v in metrics.items() if f'{n}/'.startswith('loss/')
        )
        line = f'{kimg:8.1f} kimg  {losses}'
        if steps:  # none where the clock was started again at this very step
            rate = steps * self._batch_size / max(seconds, 1e-9)
            wait = min(waited / max(seconds, 1e-9), 1.0)
            point |= {'images_per_second': rate, 'seconds_per_kimg': 1000 / rate, 'data_wait': wait}
            if self._total is not None:
                seconds_left = (self._total - step) * self._batch_size / rate
            line += f'  {rate:.1f} img/s  {1000 / rate:.1f} s/kimg'
            line += f'  {wait:.0%} waiting for data' if wait >= 0.05 else ''
        if seconds_left is not None:
            line += f'  {span(max(seconds_left, 0))} left'
        self._rewritten = self._rewritten or self._rewrite()
        if self._rewritten:
            self._metrics.append((json.dumps(point) + '\n').encode())
        self._board.scalars(step, {name: value for name, value in point.items() if name not in ('step', 'kimg')})
        if self._bar.disable:
            _log.info(line)
        else:
            left = f'  {span(max(seconds_left, 0))} left' if seconds_left is not None else ''
            self._bar.set_postfix_str(losses + (f'  {1000 / rate:.1f} s/kimg' if steps else '') + left)

    def picture(self, step: int, name: str, image: np.ndarray) -> Path:
        """Writes uint8 [H, W, 3] as samples/NAME.png and to TensorBoard."""
        path = self._workdir / 'samples' / f'{name}.png'
        if self._primary:
            with self._lenient(path.parent):  # one line for all sheets
                save_png(path, image)
            self._board.picture(step, name.partition('_')[0], image)
        return path

    def close(self) -> None:
        if self._primary:
            self._bar.close()
