"""What a run tells of itself while it trains: checked metrics, warnings, sample grids."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

import jax
import numpy as np

from productgen.core.checkpoint import Checkpoints
from productgen.core.sharding import to_host
from productgen.core.state import State
from productgen.data.pictures import beside
from productgen.data.pipeline import Batches
from productgen.methods import Reconstructing, Representing, Sampling
from productgen.model.rows import Sampler
from productgen.train.log import RunLog
from productgen.train.preview import Preview
from productgen.train.retrieval import Retrieval
from productgen.train.run import Run
from productgen.train.watch import CollapseWatch, check_finite

_log = logging.getLogger('productgen')
_IN_FLIGHT = 4  # updates handed to the device before the first of them must be done


class Recorder:
    """Metrics wait on the device until they are due; each is checked before anything is saved after it.

    Args:
      run: what is trained.
      batches: what loads the pictures it shows.
      log: where it is written.
      checkpoints: for the message that names the last good one.
    """

    def __init__(self, run: Run, batches: Batches, log: RunLog, checkpoints: Checkpoints):
        self._run, self._log, self._checkpoints = run, log, checkpoints
        self._preview = preview = Preview.of(run, batches, run.items)
        size = min(len(preview.real), run.train.batch_size)
        self._sampler = Sampler(run, size) if isinstance(run.method, Sampling) else None
        self._retrieval = Retrieval(run, batches) if isinstance(run.method, Representing) else None
        self._reconstructor = None
        if isinstance(run.method, Reconstructing):
            self._reconstructor = Sampler(run, size, run.method.reconstruct)
            self._originals = Preview.of(run, batches, run.held_out) if len(run.held_out) else preview
        self._watch = CollapseWatch(preview.real, preview.label, log.best('diversity'))
        self._waiting: deque[tuple[int, dict]] = deque()
        self._due: dict[str, float] = {}  # what goes into the next point besides the metrics
        self._started = False
        self._shown: tuple[int, Path | None] = (-1, None)  # the last step of `show`, and its last file

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of one update; waits where the device has fallen behind."""
        self._waiting.append((step, metrics))
        if not self._started:
            # The first update was compiled: no rate to go by.
            jax.block_until_ready(metrics)
            self._log.restart_clock(step)
            self._started = True
        elif len(self._waiting) >= _IN_FLIGHT:
            jax.block_until_ready(self._waiting[-_IN_FLIGHT][1])
        self._log.advance(step)

    def flush(self, seconds_left: float | None) -> None:
        """Checks what is waiting and logs its mean.

        Args:
          seconds_left: of a run bounded by time.

        Raises:
          NotFiniteError: one of them is NaN or infinite.
        """
        rows = [(step, {name: float(v) for name, v in to_host(metrics).items()}) for step, metrics in self._waiting]
        self._waiting.clear()
        if not rows:
            return
        for step, metrics in rows:
            check_finite(step, metrics, max(self._checkpoints.steps(), default=None))
        mean = {name: float(np.mean([metrics[name] for _, metrics in rows])) for name in rows[0][1]}
        self._warn(self._watch.metrics(mean))
        self._log.scalars(rows[-1][0], mean | self._due, seconds_left)
        self._due = {}

    def show(self, state: State, step: int) -> Path | None:
        """Writes what the method can show at this step, and returns the last file.

        The sample grid; held-out pictures beside what it makes of them; and beside those nearest by its features.
        """
        path, kimg = None, step * self._run.train.batch_size / 1000
        if self._retrieval:
            path = self._log.picture(step, f'nearest_{kimg:09.1f}kimg', self._retrieval.sheet(state))
        if self._reconstructor:
            real, label = self._originals.real, self._originals.label
            back = self._reconstructor(state, np.arange(len(real)), label, image=real)
            sheets = self._originals.sheet(real), self._originals.sheet(back)
            names = 'real', 'reconstructed'
            path = self._log.picture(step, f'reconstructions_{kimg:09.1f}kimg', beside(*sheets, names))
        if self._sampler:
            path = self._log.picture(step, f'fakes_{kimg:09.1f}kimg', self._preview.sheet(self._samples(state)))
        self._shown = step, path
        return path

    def show_reals(self) -> Path:
        """Writes the real pictures that the sample grids are to be compared with."""
        return self._log.picture(0, 'reals', self._preview.sheet(self._preview.real))

    def show_at_end(self, state: State, step: int) -> Path | None:
        """Writes real and generated pictures side by side; what `show` does, where none are generated."""
        if not self._sampler:
            return self._shown[1] if self._shown[0] == step else self.show(state, step)
        sheets = self._preview.sheet(self._preview.real), self._preview.sheet(self._samples(state))
        return self._log.picture(step, 'comparison', beside(*sheets, ('real', 'generated')))

    def validated(self, step: int, figures: dict[str, float], seconds: float) -> None:
        """Checks the figures of a validation, which took so long, and logs them with the metrics of its step.

        Raises:
          NotFiniteError: one of them is NaN or infinite.
        """
        named = {f'validation/{name}': value for name, value in figures.items()}
        check_finite(step, named, max(self._checkpoints.steps(), default=None))
        self._due |= named
        self._log.exclude(seconds)
        _log.info(
            'Validation at step %d: %s', step, ', '.join(f'{name} {value:.4g}' for name, value in figures.items())
        )

    def _samples(self, state: State) -> np.ndarray:
        images = self._sampler(state, np.arange(len(self._preview.real)), self._preview.label)
        value, warning = self._watch.samples(images)
        self._due |= {'diversity': value}
        self._warn(warning)
        return images

    def _warn(self, text: str | None) -> None:
        if text:
            _log.warning(text)
