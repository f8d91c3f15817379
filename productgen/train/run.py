"""A training run: a prepared method and its data, with every check that can be made before any long work."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable

import jax
import numpy as np

from productgen import data
from productgen.config import UserError
from productgen.config.durations import parse_duration
from productgen.config.sections import TrainConfig
from productgen.core.optim import check_freeze
from productgen.core.sharding import make_mesh
from productgen.data.facts import Facts
from productgen.data.pipeline import Batches
from productgen.methods.base import Knob, knob_values
from productgen.model.config import Config
from productgen.model.prepared import Prepared, prepare


@dataclasses.dataclass(frozen=True)
class Run(Prepared):
    """Everything a training is made of.

    Attributes:
      source: the data source.
      items: indices of the training pictures.
      held_out: indices of the validation pictures.
    """

    source: data.Source
    items: np.ndarray
    held_out: np.ndarray

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the attributes conditioned on."""
        return self.facts.labels.names

    def steps(self, field: str) -> int:
        """A duration field of `train` in whole steps.

        Raises:
          UserError: it is wall-clock time, which no step count is.
        """
        duration = parse_duration(getattr(self.config.train, field), f'train.{field}')
        steps = duration.steps(self.config.train.batch_size, len(self.items))
        if steps is None:
            raise UserError(
                f'train.{field}', 'give it in images, steps or epochs, so that a run can be repeated exactly'
            )
        return max(steps, 1)

    def intervals(self) -> dict[str, int]:
        """Steps between logs, samples, checkpoints and, where there are any, validations."""
        names = ['log', 'sample', 'checkpoint'] + ['validate'] * bool(self.config.train.validate_every)
        return {name: self.steps(f'{name}_every') for name in names}

    def batches(self) -> Batches:
        """This process's rows of the training batches."""
        processes = jax.process_index(), jax.process_count()
        size, config = self.config.train.batch_size, self.config.data
        return Batches(
            self.source,
            self.items,
            self.labels,
            size,
            self.config.seed,
            processes,
            config.workers,
            config.balance,
            inputs=tuple(self.method.inputs()),
        )

    def preview_knobs(self, knobs: Iterable[Knob]) -> dict[str, float]:
        """Values of the knobs for pictures that are shown and measured while training.

        They are those of the `sample` section, but for truncation: all that the model knows is to be seen.
        """
        return knob_values((knob for knob in knobs if knob.name != 'truncation'), self.config.sample)


def open_run(config: Config, devices: int | None = None, training: bool = True) -> Run:
    """Opens the data of a config and builds its method.

    Args:
      config: the typed config.
      devices: that batches are divided over; all by default.
      training: also check that the weights are there that only training reads.

    Raises:
      UserError: something in the config cannot be used; the message names the field and what to do.
    """
    _check_batch(config.train, devices or make_mesh().size)
    _check_without_data(config, devices, training)
    source = data.open_source(config.data)
    names = data.conditions(source, config.data.labels)
    items, held_out = data.split(source, config.data.validation)
    model = prepare(config, Facts.of(source, names, items), devices)
    known = {field.name: getattr(model, field.name) for field in dataclasses.fields(Prepared)}
    run = Run(**known, source=source, items=items, held_out=held_out)
    run.method.inputs()  # raises where the data set lacks what the method needs
    run.intervals()
    if config.train.validate_every and not len(held_out):
        raise UserError(
            'train.validate_every',
            f'data.validation={config.data.validation} leaves no picture to validate on',
            'raise it',
        )
    if config.data.balance and not names:
        raise UserError('data.balance', 'there are no labels to balance by', 'set data.labels, or data.balance=0')
    for knob in run.method.knobs:
        knob.check(getattr(config.sample, knob.name), f'sample.{knob.name}')
    _check_frozen(run)
    return run


def _check_batch(train: TrainConfig, devices: int) -> None:
    unit = devices * train.accumulate
    if train.batch_size % unit:
        near = max(round(train.batch_size / unit), 1) * unit
        raise UserError(
            'train.batch_size',
            f'{train.batch_size} images cannot be divided over {devices} device(s) x '
            f'train.accumulate={train.accumulate}',
            f'the nearest that can is {near}',
        )


def _check_without_data(config: Config, devices: int | None, training: bool) -> None:
    """Builds the method for an assumed data set, so that a wrong setting is found before a folder is read.

    What can be used only with, or only without, the labels that `data.labels=auto` may find, waits for the data.
    """
    labels = config.data.labels
    size = data.parse_resolution(config.data.resolution)
    columns = {name: (*size, 3) for name in ('image', 'mask', 'input', 'target')}
    model = None
    try:
        model = prepare(config, Facts.assumed(labels not in ('none', ''), columns), devices)
    except UserError:
        if labels == 'auto':
            with contextlib.suppress(UserError):
                model = prepare(config, Facts.assumed(False, columns), devices)
        if not model:
            raise
    for weights in model.method.frozen().values():
        if training or not weights.training_only:
            weights.load()


def _check_frozen(run: Run) -> None:
    """Checks `optim.NET.freeze` of every network."""
    freeze = {name: section.freeze for name, section in run.config.optim.items() if section.freeze}
    if not freeze:
        return
    nets = {name: net.params for name, net in run.abstract()[0].nets.items()}
    for name, patterns in freeze.items():
        owners = [nets[name]] if name in nets else nets.values()
        check_freeze(owners, patterns, f'optim.{name}.freeze')
