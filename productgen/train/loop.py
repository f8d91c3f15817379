"""The training loop, the only one: every method runs in it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

from productgen.config import UserError
from productgen.core.checkpoint import Checkpoints, has_checkpoint
from productgen.core.files import naming
from productgen.core.rng import stream
from productgen.core.sharding import any_process, put_batch
from productgen.core.state import State
from productgen.core.waiting import compiling
from productgen.data import DataError
from productgen.data.pipeline import Batches
from productgen.data.summary import summary, write_lists
from productgen.methods.base import parameter_counts
from productgen.model.config import Config
from productgen.model.prepared import after_images, digest
from productgen.model.workdir import check_workdir, locked, write_environment, write_workdir
from productgen.train.best import Best, BestKeeper
from productgen.train.finetune import Inherited, inherit
from productgen.train.log import RunLog, log_file, span
from productgen.train.record import Recorder
from productgen.train.run import Run, open_run
from productgen.train.validate import Validator, check_features, kept_features, record_features
from productgen.train.watch import check_state

_log = logging.getLogger('productgen')


class Interrupted(SystemExit):
    """Training was asked to stop and has saved; the exit status is that of the signal."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a finished training.

    Attributes:
      step: updates done.
      figures: of the last validation in this process; empty without one.
      best: the best validation by `train.stop_on`; None without one.
      picture: the last sheet, real pictures next to generated ones where the method generates; None without one.
    """

    step: int
    figures: dict[str, float]
    best: Best | None
    picture: Path | None


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


def training_state(
    run: Run, checkpoints: Checkpoints, inherited: Inherited | None
) -> tuple[Run, State, dict[str, Any]]:
    """The run, the state to train from, that of the newest checkpoint or of step 0, and the checkpoint's notes.

    The run counts its images from those of the checkpoint, which may have had another batch size.

    Raises:
      UserError: the checkpoint is past the end of the first stage that the config now asks for.
      CheckpointError: see `Checkpoints.restore`.
    """
    restored = checkpoints.restore(run.abstract()[0])
    if not restored:
        state = run.initial_state()
        if inherited:
            state = inherited.give(state)
            # At once: from now on this run does not depend on the other one.
            first_stage = run.method.first_stage.steps
            checkpoints.save(state, {'seconds': 0.0, 'images': 0, 'first_stage': first_stage})
        return run, state, {}
    state, notes = restored
    step = int(state.step)
    run = after_images(run, notes.get('images', run.problem.images(step)), step)
    stage = run.method.first_stage
    noted = notes.get('first_stage', stage.steps)
    if stage.steps not in (0, noted) and step >= min(stage.steps, noted):
        raise UserError(
            'train.duration',
            f'the first stage was to end at step {noted}, and at step {state.step} it can no longer end at '
            f'{stage.steps}',
            f'set {stage.field} to {noted / run.problem.steps}, which keeps the end of the first stage',
        )
    return run, run.with_frozen(state), notes


def train(config: Config, workdir: Path, accept_change: bool = False) -> Outcome:
    """Trains from the newest checkpoint in the workdir to the end of `train.duration`.

    Args:
      config: the typed config.
      workdir: for checkpoints, pictures, metrics and logs; a run in it with the same config is resumed.
      accept_change: also resume a run with another config.

    Raises:
      UserError: something cannot be used; a picture that vanishes while training raises after saving.
      CheckpointError: no checkpoint can be read, or one cannot be written.
      NotFiniteError: a metric or weight became NaN or infinite.
      Interrupted: SIGTERM or SIGINT; the state has been saved.
    """
    primary = jax.process_index() == 0
    run = open_run(config)
    batches = run.batches()
    validates = bool(config.train.validate_every)
    features = kept_features(workdir, config.eval.features) if validates else ''
    validator = Validator(run, batches, features) if validates else None
    about = config, run.facts, {name: digest(tree) for name, tree in run.frozen.items()}
    with contextlib.ExitStack() as stack:
        refusal = None
        if primary:
            try:
                stack.enter_context(locked(workdir))
                check_workdir(workdir, *about, accept_change)
                check_features(workdir, validator and validator.net, accept_change)
            except (UserError, OSError) as error:
                refusal = error
        if any_process(refusal is not None):
            raise refusal or UserError('', 'the first process refused to train; its message says why')
        # A run that has a checkpoint of its own no longer needs the other run.
        inherited = None if has_checkpoint(workdir) else inherit(run)
        # The config of checkpoints whose own is lost waits until they have been restored with it.
        if primary and not (workdir / 'config.json').exists() and not has_checkpoint(workdir):
            write_workdir(workdir, *about)
        stack.enter_context(log_file(workdir, primary))
        with naming(workdir):
            _report_data(run, workdir, primary)
        checkpoints = Checkpoints(workdir, config.train.keep)
        stack.callback(checkpoints.close)
        # A run that has been trained may be complete, and need no more updates.
        update = None if checkpoints.steps() else run.compile_update()
        before = run
        run, state, notes = training_state(run, checkpoints, inherited)
        if validator and run is not before:
            validator = Validator(run, batches, features)
        del inherited  # as large as the networks
        checkpoints.set_aside_after(int(state.step))
        if primary:
            # Only now: a config that cannot resume this run must not replace the run's own.
            write_workdir(workdir, *about)
            write_environment(workdir)
            record_features(workdir, validator and validator.net)
        stop = stack.enter_context(_StopSignal())
        return _loop(run, workdir, batches, validator, checkpoints, stop, state, notes, update)


def _report_data(run: Run, workdir: Path, primary: bool) -> None:
    """Logs what the data set holds; lists files that cannot be used, and exact duplicates, in the workdir."""
    for line in summary(run.config.data, run.source, run.labels, run.items, len(run.held_out)):
        _log.info('%s', line)
    if primary:
        for path in write_lists(workdir, run.source):
            _log.info('The whole list is in %s', path)


def _loop(
    run: Run,
    workdir: Path,
    batches: Batches,
    validator: Validator | None,
    checkpoints: Checkpoints,
    stop: _StopSignal,
    state: State,
    notes: dict[str, Any],
    program: Future[Callable] | None,
) -> Outcome:
    step, train_config = int(state.step), run.config.train
    key = stream(jax.random.key(run.config.seed), 'update')
    every = run.intervals()
    total, limit = run.problem.steps, run.duration.seconds
    began = time.monotonic() - notes.get('seconds', 0.0)
    left = lambda: None if limit is None else limit - (time.monotonic() - began)
    finished = lambda: step >= total if limit is None else left() <= 0
    size, images = run.problem.batch_size, run.problem.images
    log = RunLog(workdir, step, size, total, jax.process_index() == 0, run.problem.images_before)
    record = Recorder(run, batches, log, checkpoints)
    keeper = BestKeeper(run, workdir, step, notes, validator.weights if validator else '')
    figures: dict[str, float] = {}
    counts = parameter_counts(state)
    _log.info('%s', ', '.join(f'{name}: {n:,} parameters' for name, n in counts.items()))

    def save() -> dict[str, float]:
        check_state(state, max(checkpoints.steps(), default=None))
        notes = {'seconds': time.monotonic() - began, 'images': images(step)}
        notes |= {'first_stage': run.method.first_stage.steps, **keeper.notes()}
        checkpoints.save(state, notes)
        keeper.saved()
        return notes

    def outcome() -> Outcome:
        best = keeper.best if keeper.best.value is not None else None
        return Outcome(step, figures, best, record.show_at_end(state, step))

    try:
        if keeper.exhausted or (finished() if limit is None else any_process(finished())):
            _log.info(
                'This run is complete (%s). Sample it with --mode=sample --workdir=%s, or train on with a longer '
                '--config.train.%s and --accept_config_change.',
                keeper.best if keeper.exhausted else train_config.duration,
                workdir,
                'patience' if keeper.exhausted else 'duration',
            )
            return outcome()
        _log.info('%s at step %d in %s', 'Resuming' if step else 'Starting', step, workdir)
        if not step:
            record.show_reals()
            record.show(state, step)
        program = program or run.compile_update()
        with compiling(run.update_name):
            update = program.result()
        for batch in log.feed(batches.iterate(images(step) // size)):
            state, metrics = update(state, put_batch(run.mesh, batch), key)
            step += 1
            record.add(step, metrics)
            due = {name: step % n == 0 for name, n in every.items()}
            # Processes must stop at the same step; where clocks and signals may differ they agree at log points only.
            single = jax.process_count() == 1
            if due['sample']:
                record.show(state, step)
            if due.get('validate'):
                start = time.monotonic()
                figures = validator(state)
                record.validated(step, figures, time.monotonic() - start)
                record.flush(left())  # what is not finite must not be kept as the best
                keeper.take(state, figures)
            ended = finished() if single or limit is None else due['log'] and any_process(finished())
            halted = bool(stop.number) if single else due['log'] and any_process(bool(stop.number))
            ended |= keeper.exhausted
            if ended and not due['sample']:
                record.show(state, step)
            if due['log'] or due['checkpoint'] or ended or halted:
                record.flush(left())
            if due['checkpoint'] or ended or halted:
                notes = save()
            if ended:
                found = outcome()
                if keeper.exhausted:
                    _log.info('Stopped early: %s', keeper.best)
                _log.info('Done: %d images in %s; %s', notes['images'], span(notes['seconds']), found.picture)
                return found
            if halted:
                _log.info('Saved at step %d; the same command resumes from here.', step)
                raise Interrupted(128 + (stop.number or signal.SIGTERM))
    except DataError:
        # A photo that vanished while training: what has been learned is saved first.
        record.flush(left())
        save()
        raise
    finally:
        log.close()
        keeper.close()
    raise AssertionError('batches never end')
