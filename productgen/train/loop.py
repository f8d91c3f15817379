"""The training loop, the only one: every method runs in it."""

from __future__ import annotations

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

from productgen.config import UserError
from productgen.core.checkpoint import Checkpoints, has_checkpoint
from productgen.core.rng import stream
from productgen.core.sharding import any_process, put_batch
from productgen.core.state import State
from productgen.data import DataError
from productgen.data.pipeline import Batches
from productgen.methods.base import parameter_counts
from productgen.model.prepared import abstract_state, compile_update, initial_state, with_frozen
from productgen.model.workdir import check_workdir, locked, write_environment, write_workdir
from productgen.train.best import BestKeeper
from productgen.train.finetune import Inherited, inherit
from productgen.train.log import RunLog, span, start_logging
from productgen.train.record import Recorder
from productgen.train.run import Run, prepare
from productgen.train.validate import Validator
from productgen.train.watch import check_state

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

    def __exit__(self, *exception: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def training_state(run: Run, checkpoints: Checkpoints, inherited: Inherited | None) -> tuple[State, dict[str, Any]]:
    """The state to go on from, newest checkpoint or step 0, and the checkpoint's notes.

    Raises:
      UserError: the checkpoint is of a later stage than the method would now be in.
      CheckpointError: see `Checkpoints.restore`.
    """
    restored = checkpoints.restore(abstract_state(run)[0])
    if not restored:
        state = initial_state(run)
        if inherited:
            state = inherited.give(state)
            # At once: what becomes of the other run from now on is nothing to this one.
            checkpoints.save(state, {'seconds': 0.0, 'images': 0, 'first_stage': run.first_stage})
        return state, {}
    state, notes = restored
    first = run.first_stage
    noted = notes.get('first_stage', first)
    if first not in (0, noted) and int(state.step) >= min(first, noted):
        raise UserError(
            'train.duration',
            (f'the first stage was to end at step {noted}, and at step {state.step} it cannot end at {first} any more'),
            (
                'set its share of the training (method.prior_start or method.autoencoder_share) to '
                f'{noted / run.problem.steps}, which keeps it'
            ),
        )
    return with_frozen(run, state), notes


def train(config: Mapping[str, Any], workdir: Path, accept_change: bool = False) -> Path:
    """Trains from where the workdir stands to the end of `train.duration`.

    Args:
      config: all sections.
      workdir: checkpoints, pictures, metrics and logs go here; a run in it with the same config is gone on with.
      accept_change: also go on from a run with another config.

    Returns:
      the last sample grid.

    Raises:
      UserError, DataError: something cannot be used; a picture that vanishes while training raises after saving.
      CheckpointError: no checkpoint can be read, or one cannot be written.
      NotFiniteError: a metric or weight became NaN or infinite.
      Interrupted: SIGTERM or SIGINT; the state has been saved.
    """
    primary = jax.process_index() == 0
    run = prepare(config)
    batches = run.batches()
    validator = Validator(run, batches) if run.train.validate_every else None
    about = config, run.source.digest, run.table
    with contextlib.ExitStack() as stack:
        refusal = None
        if primary:
            try:
                stack.enter_context(locked(workdir))
                check_workdir(workdir, *about, accept_change)
            except UserError as error:
                refusal = error
        if any_process(refusal is not None):
            raise refusal or UserError('the first process refused to train; its message says why')
        # A run that has a checkpoint of its own needs no other run any more.
        inherited = None if has_checkpoint(workdir) else inherit(config, run)
        if primary and not (workdir / 'config.json').exists():
            write_workdir(workdir, *about)
        start_logging(workdir, primary)
        _report_data(run, workdir, primary)
        checkpoints = Checkpoints(workdir, run.train.keep)
        stack.callback(checkpoints.close)
        # A run that has been trained may be complete, and need no update any more.
        update = None if checkpoints.steps() else compile_update(run)
        state, notes = training_state(run, checkpoints, inherited)
        del inherited  # as large as the networks
        checkpoints.set_aside_after(int(state.step))
        if primary:
            # Only now: a config that this run cannot go on with must not replace its own.
            write_workdir(workdir, *about)
            write_environment(workdir)
        stop = stack.enter_context(_StopSignal())
        return _loop(run, workdir, batches, validator, checkpoints, stop, state, notes, update)


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


def _loop(
    run: Run,
    workdir: Path,
    batches: Batches,
    validator: Validator | None,
    checkpoints: Checkpoints,
    stop: _StopSignal,
    state: State,
    notes: dict[str, Any],
    compiling: Future[Callable] | None,
) -> Path:
    step = int(state.step)
    key = stream(jax.random.key(run.seed), 'update')
    every = run.intervals()
    total, limit = run.problem.steps, run.duration.seconds
    began = time.monotonic() - notes.get('seconds', 0.0)
    left = lambda: None if limit is None else limit - (time.monotonic() - began)
    finished = lambda: step >= total if limit is None else left() <= 0
    log = RunLog(workdir, step, run.train.batch_size, total, primary=jax.process_index() == 0)
    record = Recorder(run, batches, log, checkpoints)
    keeper = BestKeeper(run, workdir, step, notes, validator.weights if validator else '')
    counts = parameter_counts(state)
    _log.info('%s', ', '.join(f'{name}: {n:,} parameters' for name, n in counts.items()))

    def save() -> dict[str, float]:
        check_state(state, max(checkpoints.steps(), default=None))
        notes = {'seconds': time.monotonic() - began, 'images': step * run.train.batch_size}
        notes |= {'first_stage': run.first_stage, **keeper.notes()}
        checkpoints.save(state, notes)
        keeper.saved()
        return notes

    try:
        if keeper.exhausted or (finished() if limit is None else any_process(finished())):
            path = record.show_at_end(state, step)
            _log.info(
                'This run is complete (%s). Sample it with --mode=sample --workdir=%s, or train on with a longer '
                '--config.train.%s and --accept_config_change.',
                keeper.best if keeper.exhausted else run.train.duration,
                workdir,
                'patience' if keeper.exhausted else 'duration',
            )
            return path
        _log.info('%s at step %d in %s', 'Going on' if step else 'Starting', step, workdir)
        if not step:
            record.show_reals()
            record.show(state, step)
        update = (compiling or compile_update(run)).result()
        for batch in log.feed(batches.iterate(step)):
            state, metrics = update(state, put_batch(run.mesh, batch), key)
            step += 1
            record.add(step, metrics)
            due = {name: step % n == 0 for name, n in every.items()}
            # Processes must stop at the same step; where clocks and signals may differ they agree at log points only.
            alone = jax.process_count() == 1
            if due['sample']:
                record.show(state, step)
            if due.get('validate'):
                start = time.monotonic()
                figures = validator(state)
                record.validated(step, figures, time.monotonic() - start)
                record.flush(left())  # what is not finite must not be kept as the best
                keeper.take(state, figures)
            ended = finished() if alone or limit is None else due['log'] and any_process(finished())
            halted = bool(stop.number) if alone else due['log'] and any_process(bool(stop.number))
            ended |= keeper.exhausted
            if ended and not due['sample']:
                record.show(state, step)
            if due['log'] or due['checkpoint'] or ended or halted:
                record.flush(left())
            if due['checkpoint'] or ended or halted:
                notes = save()
            if ended:
                path = record.show_at_end(state, step)
                if keeper.exhausted:
                    _log.info('Stopped early: %s', keeper.best)
                _log.info('Done: %d images in %s; %s', notes['images'], span(notes['seconds']), path)
                return path
            if halted:
                _log.info('Saved at step %d; the same command goes on from here.', step)
                raise Interrupted(128 + (stop.number or signal.SIGTERM))
    except DataError:
        # A photo that vanished while training: what has been learnt is not lost with it.
        record.flush(left())
        save()
        raise
    finally:
        log.close()
        keeper.close()
    raise AssertionError('batches never end')
