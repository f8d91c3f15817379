"""What a run records while it trains: checked metrics, warnings, sheets of pictures."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path

import jax
import numpy as np

from productgen.core.checkpoint import Checkpoints
from productgen.core.sharding import to_host
from productgen.core.state import State
from productgen.data.pictures import side_by_side
from productgen.data.pipeline import Batches
from productgen.methods.base import Generates, Metrics, Reconstructs, Represents, Restores, Translates
from productgen.model.rows import ImageMaker, RowByRow, joined, without_knobs
from productgen.train.log import RunLog
from productgen.train.preview import Preview
from productgen.train.retrieval import Retrieval
from productgen.train.run import Run
from productgen.train.watch import CollapseWatch, SaturationWatch, check_finite

_log = logging.getLogger('productgen')
_IN_FLIGHT = 4  # updates handed to the device before the first of them must be done


class Recorder:
    """Logs metrics and shows pictures.

    Metrics wait on the device until they are due; each is checked before anything is saved after it.

    Args:
      run: what is trained.
      batches: loads the pictures it shows.
      log: writes what is recorded.
      checkpoints: for the message that names the last good one.
    """

    def __init__(self, run: Run, batches: Batches, log: RunLog, checkpoints: Checkpoints):
        self._run, self._log, self._checkpoints = run, log, checkpoints
        self._preview = preview = Preview.of(run, batches, run.items)
        self._held_out = Preview.of(run, batches, run.held_out) if len(run.held_out) else preview
        size, method = min(len(preview), run.config.train.batch_size), run.method
        self._sampler = self._translator = self._reconstructor = self._degrader = None
        if isinstance(method, Generates):
            self._sampler = ImageMaker(run, size, method.generate, method.knobs)
            self._watch = CollapseWatch(preview.rows['image'], preview.label, log.best('diversity'))
        if isinstance(method, Translates):
            self._translator = ImageMaker(run, size, method.translate, method.knobs)
        if isinstance(method, Restores):
            self._degrader = RowByRow(run.mesh, size, method.degrade, run.config.seed)
        if isinstance(method, Reconstructs):
            self._reconstructor = ImageMaker(run, size, without_knobs(method.reconstruct))
        self._retrieval = Retrieval(run, batches) if isinstance(method, Represents) else None
        self._saturation = SaturationWatch()
        self._waiting: deque[tuple[int, Metrics]] = deque()
        self._due: dict[str, float] = {}  # what goes into the next point besides the metrics
        self._started = False
        self._shown: tuple[int, Path | None] = (-1, None)  # the last step of `show`, and its last file

    def add(self, step: int, metrics: Metrics) -> None:
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
        """Checks the metrics that are waiting and logs their weighted means; a metric that was never due is left out.

        Args:
          seconds_left: of a run bounded by time.

        Raises:
          NotFiniteError: one of them is NaN or infinite.
        """
        rows = [(step, to_host(metrics)) for step, metrics in self._waiting]
        self._waiting.clear()
        if not rows:
            return
        last_good = max(self._checkpoints.steps(), default=None)
        for step, metrics in rows:
            check_finite(step, {name: float(metric.value) for name, metric in metrics.items()}, last_good)
        mean = weighted_means([metrics for _, metrics in rows])
        self._warn(self._saturation(mean))
        self._log.scalars(rows[-1][0], mean | self._due, seconds_left)
        self._due = {}

    def show(self, state: State, step: int) -> Path | None:
        """Writes what the method can show at this step, and returns the last file.

        Held-out pictures with the training pictures nearest to them by its features; held-out pictures with their
        reconstructions or translations; the sample grid.
        """
        path, when = None, _kimg(self._run.problem.images(step))
        held_out = self._held_out
        if self._retrieval:
            path = self._log.picture(step, f'nearest_{when}', self._retrieval.sheet(state))
        if self._reconstructor:
            seeds, rows = np.arange(len(held_out)), held_out.rows
            back = self._reconstructor(state, None, seed=seeds, label=held_out.label, **rows)
            sheets = held_out.sheet(rows['image']), held_out.sheet(back)
            names = 'real', 'reconstructed'
            path = self._log.picture(step, f'reconstructions_{when}', side_by_side(sheets, names))
        if self._translator:
            sheet = self._restorations(state) if self._degrader else self._translations(state)
            path = self._log.picture(step, f'translations_{when}', sheet)
        if self._sampler:
            path = self._log.picture(step, f'fakes_{when}', self._preview.sheet(self._samples(state)))
        self._shown = step, path
        return path

    def show_reals(self) -> None:
        """Writes the real pictures that the sample grids are to be compared with."""
        if 'image' in self._preview.rows:
            self._log.picture(0, 'reals', self._preview.sheet(self._preview.rows['image']))

    def show_at_end(self, state: State, step: int) -> Path | None:
        """Writes real and generated pictures side by side; what `show` does, where none are generated."""
        if not self._sampler:
            return self._shown[1] if self._shown[0] == step else self.show(state, step)
        sheets = self._preview.sheet(self._preview.rows['image']), self._preview.sheet(self._samples(state))
        return self._log.picture(step, 'comparison', side_by_side(sheets, ('real', 'generated')))

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

    def _translations(self, state: State) -> np.ndarray:
        """Inputs, their translations and, where there are some, targets of held-out pictures, and theirs in reverse."""
        held_out, method = self._held_out, self._run.method
        knobs, rows = self._run.preview_knobs(method.knobs), held_out.rows
        made = lambda name, **more: self._translator(
            state, knobs | more, seed=np.arange(len(held_out)), input=rows[name]
        )
        reverse = {'reverse': False} if 'reverse' in knobs else {}
        columns = {'input': rows['input'], 'translated': made('input', **reverse)}
        columns |= {'target': rows['target']} if 'target' in rows else {}
        columns |= {'reversed': made('target', reverse=True)} if reverse else {}
        return side_by_side([held_out.sheet(images) for images in columns.values()], tuple(columns))

    def _restorations(self, state: State) -> np.ndarray:
        """Degraded held-out pictures, restored ones, and the originals."""
        held_out = self._held_out
        seed, original = np.arange(len(held_out)), held_out.rows['image']
        given = joined(self._degrader.batches(state, seed=seed, **held_out.rows))
        made = self._translator(state, None, seed=seed, **given)
        zoom = original.shape[1] // given['input'].shape[1]
        columns = {'degraded': given['input'].repeat(zoom, 1).repeat(zoom, 2), 'restored': made, 'original': original}
        return side_by_side([held_out.sheet(images) for images in columns.values()], tuple(columns))

    def _samples(self, state: State) -> np.ndarray:
        knobs = self._run.preview_knobs(self._run.method.knobs)
        images = self._sampler(state, knobs, seed=np.arange(len(self._preview)), label=self._preview.label)
        value, warning = self._watch.samples(images)
        self._due |= {'diversity': value}
        self._warn(warning)
        return images

    def _warn(self, text: str | None) -> None:
        if text:
            _log.warning(text)


def _kimg(images: int) -> str:
    """A number of images for a file name, in thousands; every number has another name."""
    return f'{images / 1000:011.3f}kimg' if images % 100 else f'{images / 1000:09.1f}kimg'


def weighted_means(rows: list[Metrics]) -> dict[str, float]:
    """Means of metrics by their weights over several updates; those whose weights are all 0 are left out."""
    means = {}
    for name in rows[0]:
        values, weights = zip(*(metrics[name] for metrics in rows), strict=True)
        if np.any(weights):
            means[name] = float(np.average(np.asarray(values, np.float64), weights=weights))
    return means
