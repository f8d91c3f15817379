"""A training run: a prepared method and its data."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from productgen import data
from productgen.config import UserError, build
from productgen.config.durations import parse_duration
from productgen.config.sections import TrainConfig
from productgen.core.optim import check_freeze
from productgen.core.sharding import make_mesh
from productgen.data.labels import LabelTable
from productgen.data.pipeline import Batches
from productgen.model.prepared import Model, abstract_state, check_sections, prepare_model


@dataclasses.dataclass(frozen=True)
class Run(Model):
    """Everything a training is made of: the model and its data.

    Attributes:
      source: the data source.
      items: indices of the training pictures.
      held_out: indices of the validation pictures.
    """

    source: data.Source
    items: np.ndarray
    held_out: np.ndarray

    def steps(self, field: str) -> int:
        """A duration field of `train` in whole steps.

        Raises:
          UserError: it is wall-clock time, which no step count is.
        """
        duration = parse_duration(getattr(self.train, field), f'train.{field}')
        steps = duration.steps(self.train.batch_size, len(self.items))
        if steps is None:
            raise UserError(
                f'train.{field}', 'give it in images, steps or epochs, so that a run can be repeated exactly'
            )
        return max(steps, 1)

    def intervals(self) -> dict[str, int]:
        """Steps between logs, samples, checkpoints and, where there are any, validations."""
        names = ['log', 'sample', 'checkpoint'] + ['validate'] * bool(self.train.validate_every)
        return {name: self.steps(f'{name}_every') for name in names}

    def batches(self) -> Batches:
        """This process's rows of the training batches."""
        processes = jax.process_index(), jax.process_count()
        size, config = self.train.batch_size, self.data
        return Batches(self.source, self.items, self.labels, size, self.seed, processes, config.workers, config.balance)


def _check_batch(train: TrainConfig, devices: int) -> None:
    unit = devices * train.accumulate
    if train.batch_size % unit:
        near = max(round(train.batch_size / unit), 1) * unit
        raise UserError(
            'train.batch_size',
            f'{train.batch_size} images cannot be divided over {devices} device(s) x train.accumulate={train.accumulate}',
            f'the nearest that can is {near}',
        )


def prepare(config: Mapping[str, Any], devices: int | None = None) -> Run:
    """Builds a training run from a config; see `prepare_model` for `devices`.

    Raises:
      UserError, DataError: something in it cannot be used; the message names the field and the way out.
    """
    check_sections(config)
    _check_batch(build(TrainConfig, config['train'], 'train'), devices or make_mesh().size)
    model = _without_data(config, devices)
    source = data.open_source(model.data)
    names = data.conditions(source, model.data.labels)
    items, held_out = data.split(source, model.data.validation)
    model = prepare_model(config, LabelTable.of(source, names, items), devices)
    known = {field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}
    run = Run(**known, source=source, items=items, held_out=held_out)
    run.intervals()
    if run.train.validate_every and not len(held_out):
        raise UserError(
            'train.validate_every',
            f'data.validation={run.data.validation} leaves no picture to validate on',
            'raise it',
        )
    if run.data.balance and not names:
        raise UserError('data.balance', 'there are no labels to balance by', 'set data.labels, or data.balance=0')
    _check_frozen(config['optim'], run)
    return run


def _without_data(config: Mapping[str, Any], devices: int | None) -> Model:
    """With a stand-in for what only the data can tell, so that a wrong setting is found before a folder is read.

    What can be used only with, or only without, the labels that `data.labels=auto` may find, waits for the data.
    """
    labels = config['data'].get('labels')
    try:
        return prepare_model(config, _stand_in(labels not in ('none', '')), devices)
    except UserError:
        if labels == 'auto':
            with contextlib.suppress(UserError):
                return prepare_model(config, _stand_in(False), devices)
        raise


def _check_frozen(optim: Mapping[str, Any], run: Run) -> None:
    """Checks `freeze` of every network's optimiser; a section that is not named after a network serves all of them."""
    freeze = {name: section['freeze'] for name, section in optim.items() if section.get('freeze')}
    if not freeze:
        return
    nets = {name: net.params for name, net in abstract_state(run)[0].nets.items()}
    for name, patterns in freeze.items():
        owners = [nets[name]] if name in nets else nets.values()
        check_freeze(owners, patterns, f'optim.{name}.freeze')


def _stand_in(labels: bool) -> LabelTable:
    """A table of no data set, with labels or without."""
    attributes = {'label': ('a', 'b')} if labels else {}
    return LabelTable(attributes, np.zeros((1, len(attributes)), np.int32), np.asarray([10_000]))
