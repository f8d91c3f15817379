"""The best validation of a run, and its checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from productgen.core.checkpoint import Checkpoints
from productgen.core.state import State
from productgen.metrics.distribution import DISTANCES
from productgen.train.run import Run
from productgen.train.watch import check_state

_log = logging.getLogger('productgen')


@dataclasses.dataclass(frozen=True)
class Best:
    """The best validation so far.

    Attributes:
      figure: the figure that counts; empty where none does.
      patience: validations in a row without a new best that end the training.
      measured: what it was measured on and how; figures of other pictures cannot be compared.
      value: the lowest so far; None before the first validation.
      step: when that was.
      bad: validations since then.
    """

    figure: str
    patience: int
    measured: str = ''
    value: float | None = None
    step: int = 0
    bad: int = 0

    @property
    def exhausted(self) -> bool:
        """Whether training has continued for `patience` validations without a new best."""
        return bool(self.figure) and self.bad >= self.patience

    def after(self, step: int, figures: dict[str, float]) -> Best:
        """With the validation of one more step."""
        if not self.figure:
            return self
        value = figures[self.figure]
        if self.value is None or value < self.value:
            return dataclasses.replace(self, value=value, step=step, bad=0)
        return dataclasses.replace(self, bad=self.bad + 1)

    def __str__(self) -> str:
        since = f', {self.bad} of {self.patience} validations ago' if self.bad else ''
        return f'best {self.figure} {self.value:.4g} at step {self.step}{since}'

    def remembering(self, notes: dict[str, Any]) -> Best:
        """With what a checkpoint's notes say; another figure than before, or of other pictures, starts again."""
        old = notes.get('best', {})
        if (old.get('figure'), old.get('measured')) != (self.figure, self.measured):
            return self
        return dataclasses.replace(self, value=old['value'], step=old['step'], bad=old['bad'])


class BestKeeper:
    """The best validation of a run and its checkpoint, in the workdir's folder `best`.

    The last checkpoint of the training notes which step was best, so a run that is killed and resumed repeats what came
    after it and ends with the same best. An earlier best is therefore deleted only when a checkpoint has noted the
    later one.

    Args:
      run: what is trained.
      workdir: of the run.
      step: update the run resumes from.
      notes: of the checkpoint of that step.
      weights: digest of the features that measure; empty without.
    """

    def __init__(self, run: Run, workdir: Path, step: int, notes: dict[str, Any], weights: str = ''):
        figure = run.config.train.stop_on
        config = run.config
        measured = f'{config.train.validate_items} of {run.facts.digest}, {config.data.validation}, seed {config.seed}'
        if figure in DISTANCES:
            measured += f', by {weights} from {run.config.eval.reference}, group {run.config.data.group!r}'
        if figure.startswith('swd') or figure in DISTANCES:
            measured += f', guidance {run.config.sample.guidance}, {run.config.sample.denoising_steps} denoising steps'
        self.best = Best(figure, run.config.train.patience, measured).remembering(notes)
        self._noted = self.best.step  # the best that the newest checkpoint of the training knows of
        self._images = run.problem.images
        self._first_stage = run.method.first_stage.steps
        self._checkpoints = Checkpoints(workdir, keep=None, folder='best') if figure else None
        if self._checkpoints:
            self._checkpoints.keep_only(lambda other: other <= step)

    @property
    def exhausted(self) -> bool:
        """See `Best`."""
        return self.best.exhausted

    def notes(self) -> dict[str, Any]:
        """What a checkpoint is to remember."""
        return {'best': dataclasses.asdict(self.best)} if self._checkpoints else {}

    def take(self, state: State, figures: dict[str, float]) -> None:
        """Takes the figures of a state and keeps it where it is the best so far; a first stage does not count."""
        step = int(state.step)
        if not self._checkpoints or step <= self._first_stage:
            return
        self.best = self.best.after(step, figures)
        _log.info('%s', self.best)
        if self.best.step == step:
            check_state(state, max(self._checkpoints.steps(), default=None))
            self._checkpoints.save(state, {'images': self._images(step)})
            self._checkpoints.keep_only(lambda other: other in (self._noted, step))

    def saved(self) -> None:
        """The newest notes are on disk."""
        self._noted = self.best.step
        if self._checkpoints and self.best.value is not None:
            self._checkpoints.keep_only(lambda step: step == self._noted)

    def close(self) -> None:
        if self._checkpoints:
            self._checkpoints.close()
