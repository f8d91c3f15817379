"""The training loop, the only one: every method runs in it."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from productgen.checkpoint import Checkpoints
from productgen.data.pipeline import Batches
from productgen.log import RunLog, span, start_logging
from productgen.methods.base import parameter_counts
from productgen.preview import Preview
from productgen.record import Recorder
from productgen.setup import Run, abstract_state, prepare
from productgen.sharding import any_process, jit_update, put_batch, replicated
from productgen.state import State, stream
from productgen.workdir import keep_labels, locked, open_workdir

_log = logging.getLogger('productgen')


class Interrupted(SystemExit):
    """Training was asked to stop and has saved; the exit status tells by which signal."""


class _StopSignal:
    """Remembers SIGTERM and SIGINT so that the loop can save first; a second one stops at once."""

    def __init__(self):
        self.number = 0

    def __enter__(self) -> _StopSignal:
        self._before = {}
        with contextlib.suppress(ValueError):  # only the main thread may listen
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def _remember(self, number: int, frame: Any) -> None:
        self.number = number
        signal.signal(number, self._before[number])
        _log.info('%s: saving a checkpoint first', signal.Signals(number).name)

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def training_state(run: Run, checkpoints: Checkpoints | None) -> tuple[State, float]:
    """The state to go on from, newest checkpoint or step 0, and the seconds trained so far."""
    template, batch = abstract_state(run)
    restored = checkpoints and checkpoints.restore(template)
    if restored:
        state, notes = restored
        return state, notes['seconds']
    zeros = {name: np.zeros(s.shape, s.dtype) for name, s in batch.items()}
    init = jax.jit(run.method.init, out_shardings=replicated(run.mesh))
    return init(stream(jax.random.key(run.seed), 'init'), zeros), 0.0


def train(config: Mapping[str, Any], workdir: Path, accept_change: bool = False) -> Path:
    """Trains from where the workdir stands to the end of `train.duration`.

    Args:
      config: all sections.
      workdir: checkpoints, pictures, metrics and logs go here; a run in it with the same config is gone on with.
      accept_change: also go on from a run with another config.

    Returns:
      the last sample grid.

    Raises:
      ConfigError, DataError: something cannot be used; nothing has been done.
      NotFiniteError: a metric became NaN or infinite.
      Interrupted: SIGTERM or SIGINT; the state has been saved.
    """
    primary = jax.process_index() == 0
    run = prepare(config)
    with locked(workdir) if primary else contextlib.nullcontext():
        if primary:
            open_workdir(workdir, config, run.source.digest, accept_change)
            keep_labels(workdir, run.table, accept_change)
        start_logging(workdir, primary)
        _report_data(run, workdir, primary)
        checkpoints = Checkpoints(workdir, run.train.keep)
        try:
            with _StopSignal() as stop:
                return _loop(run, workdir, checkpoints, stop, primary)
        finally:
            checkpoints.close()


def _report_data(run: Run, workdir: Path, primary: bool) -> None:
    """Tells what the data set holds; lists what could not be used, and exact duplicates, in the workdir."""
    source = run.source
    _log.info(
        '%s: %d pictures to train on, %d held out, %s',
        run.data.source,
        len(run.items),
        len(run.held_out),
        ' x '.join(f'{len(source.attributes[n])} values of {n}' for n in run.labels) or 'no labels',
    )
    skipped, duplicates = getattr(source, 'skipped', ()), getattr(source, 'duplicates', ())
    if skipped:
        _log.warning('%d files cannot be used; they are listed in %s', len(skipped), workdir / 'skipped_files.txt')
    if duplicates:
        _log.warning('%d groups of files are the same; see %s', len(duplicates), workdir / 'duplicate_files.txt')
    if primary:
        for name, lines in (
            ('skipped_files.txt', [f'{path}\t{reason}' for path, reason in skipped]),
            ('duplicate_files.txt', ['\t'.join(group) for group in duplicates]),
        ):
            if lines:
                (workdir / name).write_text('\n'.join(lines) + '\n')


def _loop(run: Run, workdir: Path, checkpoints: Checkpoints, stop: _StopSignal, primary: bool) -> Path:
    state, seconds = training_state(run, checkpoints)
    step = int(state.step)
    if primary:
        checkpoints.set_aside_after(step)
    processes = jax.process_index(), jax.process_count()
    batches = Batches(run.source, run.items, run.labels, run.train.batch_size, run.seed, processes, run.data.workers)
    update = jit_update(lambda s, b, key: run.method.update(s, b, jax.random.fold_in(key, s.step)), run.mesh)
    key = stream(jax.random.key(run.seed), 'update')
    every = {name: run.steps(f'{name}_every') for name in ('log', 'sample', 'checkpoint')}
    total, limit = run.problem.steps, run.duration.seconds
    began = time.monotonic() - seconds
    left = lambda: None if limit is None else limit - (time.monotonic() - began)
    finished = lambda: step >= total if limit is None else left() <= 0
    log = RunLog(workdir, step, run.train.batch_size, total, primary)
    record = Recorder(run, Preview.of(run, batches), log, checkpoints)
    counts = parameter_counts(state)
    _log.info('%s', ', '.join(f'{name}: {n:,} parameters' for name, n in counts.items()))
    try:
        if finished():
            path = record.show_beside_reals(state, step)
            _log.info(
                'This run is complete (%s). Sample it with --mode=sample --workdir=%s, or train on with a longer '
                '--config.train.duration and --accept_config_change.',
                run.train.duration,
                workdir,
            )
            return path
        _log.info('%s at step %d in %s', 'Going on' if step else 'Starting', step, workdir)
        if not step:
            record.show_reals()
            record.show(state, step)
        for batch in batches.iterate(step):
            state, metrics = update(state, put_batch(run.mesh, batch), key)
            step += 1
            record.add(step, metrics)
            due = {name: step % n == 0 for name, n in every.items()}
            # Processes must stop at the same step; where clocks and signals may differ they agree at log points only.
            alone = jax.process_count() == 1
            ended = finished() if alone or limit is None else due['log'] and any_process(finished())
            halted = bool(stop.number) if alone else due['log'] and any_process(bool(stop.number))
            if due['sample'] or ended:
                record.show(state, step)
            if any(due.values()) or ended or halted:
                record.flush(left())
            if due['checkpoint'] or ended or halted:
                notes = {'seconds': time.monotonic() - began, 'images': step * run.train.batch_size}
                checkpoints.save(state, notes)
            if ended:
                path = record.show_beside_reals(state, step)
                _log.info('Done: %d images in %s; %s', notes['images'], span(notes['seconds']), path)
                return path
            if halted:
                _log.info('Saved at step %d; the same command goes on from here.', step)
                raise Interrupted(128 + (stop.number or signal.SIGTERM))
    finally:
        log.close()
    raise AssertionError('batches never end')
