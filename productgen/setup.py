"""From a config to everything a run is made of, with every check that can be made before any long work."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from productgen import data
from productgen.config import ConfigError, build, choose, nearest
from productgen.data.pipeline import Batches
from productgen.duration import Duration, parse_duration
from productgen.labels import LabelTable
from productgen.methods import METHODS, Method, Problem
from productgen.optim import OptimConfig, check_freeze
from productgen.ranges import parse_ranges
from productgen.sharding import make_mesh, replicated
from productgen.state import State, stream

SECTIONS = ('seed', 'data', 'method', 'model', 'optim', 'train', 'sample')
OTHER_SECTIONS = ('eval',)  # read elsewhere; a run may be without
OUTPUTS = ('grid', 'png', 'mix', 'walk')
FORMATS = ('gif', 'mp4')
COMBINATIONS = ('mixture', 'average')
MAX_SEED = 2**31 - 1  # seeds are int32 on the device


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The `train` section. Every amount is a duration: '200kimg', '5000steps', '3epochs', '10min'.

    Attributes:
      batch_size: images an update, over all devices.
      accumulate: equal parts each batch is taken in, to save memory.
      duration: length of the training.
      log_every: between lines of the log, metrics and TensorBoard points.
      sample_every: between sample grids.
      checkpoint_every: between checkpoints.
      keep: newest checkpoints kept, at least 2.
      grid_columns: pictures a row of the sample grid.
      grid_rows: rows; with labels each row is one value of the first attribute.
      init_from: workdir of a run whose weights training starts from, or WORKDIR:STEP; see `productgen.finetune`. Empty
        starts afresh.
      init_nets: the networks that start from it, comma separated, or `all`.
      validate_every: between comparisons with held-out pictures, see `productgen.validate`; empty for never.
      validate_items: held-out pictures, and samples, that are compared at most.
      stop_on: the figure (`swd`, or one of the method's such as `loss`) whose best checkpoint is kept and which ends
        the training when it no longer falls; empty for neither.
      patience: validations in a row without a new best `stop_on` that end the training.
    """

    batch_size: int
    accumulate: int
    duration: str
    log_every: str
    sample_every: str
    checkpoint_every: str
    keep: int
    grid_columns: int
    grid_rows: int
    init_from: str = ''
    init_nets: str = 'all'
    validate_every: str = ''
    validate_items: int = 1000
    stop_on: str = ''
    patience: int = 5

    def __post_init__(self):
        for field in ('batch_size', 'accumulate', 'grid_columns', 'grid_rows', 'validate_items', 'patience'):
            if getattr(self, field) < 1:
                raise ConfigError(f'train.{field}: must be at least 1')
        if self.stop_on and not self.validate_every:
            raise ConfigError(
                f'train.stop_on: {self.stop_on!r} is measured by validation; set train.validate_every too'
            )


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The `sample` section, read by `--mode=sample`.

    Attributes:
      seeds: numbers and ranges, `0-63` or `3,5,10-19`; a seed is a picture.
      labels: what to make, `mug` or `label=mug,colour=red`; several kinds are separated by `;`. `grid` and `png` make
        every kind of every seed, `mix` and `walk` take them in turn. Attributes that are not mentioned, and all where
        this is empty, are those of training pictures, drawn by the seed.
      truncation: psi, 0 (the average picture) to 1 (everything the model knows); up to 2 it exaggerates. It scales the
        latent's distance from its mean, and is the temperature of a VAE's z and of autoregressive priors; diffusion
        has none.
      guidance: scale of classifier-free guidance, for diffusion trained with labels; 1 is none.
      denoising_steps: for diffusion; network evaluations a picture, twice as many where `guidance` is not 1.
      output: `grid`, `png` (single files), `mix` (style mixing: the first half of the seeds in rows, the second in
        columns) or `walk` (an animation from seed to seed and back to the first).
      columns: pictures a row of a grid.
      batch_size: pictures made at a time.
      mix_layers: layers that `mix` takes from the columns, such as `0-3` for shape or `4-` for colour.
      frames: frames from one seed to the next in `walk`.
      fps: frames a second; a GIF rounds them to a whole number of hundredths of a second and has at most 50.
      format: `gif` or `mp4`, for `walk`.
      out: where to write; empty is `generated` in the workdir.
      step: checkpoint to use; 0 is the newest that can be read, -1 the best one by `train.stop_on`.
      also: further generators, comma separated: `runs/b`, `runs/b:40000` (that step of it) or `:30000` (another step of
        this run); see `combine`.
      combine: `mixture`, where picture i is made by generator (seed i modulo their number), or `average`, one generator
        with the mean of the weights of all.
    """

    seeds: str
    labels: str
    truncation: float
    guidance: float
    denoising_steps: int
    output: str
    columns: int
    batch_size: int
    mix_layers: str
    frames: int
    fps: int
    format: str
    out: str
    step: int
    also: str = ''
    combine: str = 'mixture'

    def __post_init__(self):
        parse_ranges(self.seeds, 'sample.seeds', MAX_SEED)
        for field, names in (('output', OUTPUTS), ('format', FORMATS), ('combine', COMBINATIONS)):
            choose(dict.fromkeys(names), getattr(self, field), f'sample.{field}')
        for field in ('columns', 'batch_size', 'frames', 'fps', 'denoising_steps'):
            if getattr(self, field) < 1:
                raise ConfigError(f'sample.{field}: must be at least 1')
        if not 0 <= self.truncation <= 2:
            raise ConfigError(f'sample.truncation: {self.truncation} is not from 0 to 2')
        if self.guidance < 0:
            raise ConfigError(f'sample.guidance: {self.guidance} is negative; 1 is no guidance')
        if self.step < -1:
            raise ConfigError(f'sample.step: {self.step} is no step; 0 is the newest checkpoint, -1 the best')
        if self.output == 'walk' and self.format == 'gif' and self.fps > 50:
            raise ConfigError(
                f'sample.fps: a GIF has at most 50 frames a second, not {self.fps}; use sample.format=mp4'
            )

    def seed_list(self) -> list[int]:
        """The seeds, in their order."""
        return parse_ranges(self.seeds, 'sample.seeds', MAX_SEED)


@dataclasses.dataclass(frozen=True)
class Model:
    """What a config and a label table say: enough to make pictures from a checkpoint, without the data set.

    Attributes:
      seed: of all randomness.
      train: the typed `train` section.
      sample: the typed `sample` section.
      data: the typed `data` section.
      table: attributes conditioned on, their values, and the label rows of the training pictures.
      duration: length of the training.
      problem: what the method was built for.
      method: the method.
      mesh: the devices.
    """

    seed: int
    train: TrainConfig
    sample: SampleConfig
    data: data.DataConfig
    table: LabelTable
    duration: Duration
    problem: Problem
    method: Method
    mesh: Mesh

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the attributes conditioned on."""
        return self.table.names

    @property
    def first_stage(self) -> int:
        """Updates of the first stage of a method that has several, 0 of others."""
        return getattr(self.method, 'first_stage', 0)


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
          ConfigError: it is wall-clock time, which no step count is.
        """
        duration = parse_duration(getattr(self.train, field), f'train.{field}')
        steps = duration.steps(self.train.batch_size, len(self.items))
        if steps is None:
            raise ConfigError(
                f'train.{field}: give it in images, steps or epochs, so that a run can be repeated exactly'
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


def check_sections(config: Mapping[str, Any]) -> None:
    """Checks the top level of a config.

    Raises:
      ConfigError: a section that does not exist, or one that is missing.
    """
    for name in config:
        if name not in SECTIONS + OTHER_SECTIONS:
            raise ConfigError(f'{name}: there is no such section{nearest(name, SECTIONS + OTHER_SECTIONS)}')
    for name in SECTIONS:
        if name not in config:
            raise ConfigError(f'{name}: the config lacks this section')


def prepare_model(config: Mapping[str, Any], table: LabelTable, devices: int | None = None) -> Model:
    """Builds what needs no data.

    Args:
      config: all sections.
      table: the labels of the training set.
      devices: that batches of training are divided over; all by default. Who only samples has none to divide: 1.

    Raises:
      ConfigError, DataError: something in the config cannot be used; the message names the field and the way out.
    """
    check_sections(config)
    train = build(TrainConfig, config['train'], 'train')
    sample = build(SampleConfig, config['sample'], 'sample')
    data_config = build(data.DataConfig, config['data'], 'data')
    make_method = choose(METHODS, config['method'].get('name', ''), 'method.name')
    for name, section in config['optim'].items():
        build(OptimConfig, section, f'optim.{name}')
    if not isinstance(config['seed'], int) or not 0 <= config['seed'] < 2**31:
        raise ConfigError(f'seed: expected a whole number from 0 to 2^31 - 1, got {config["seed"]!r}')
    mesh = make_mesh()
    duration = parse_duration(train.duration, 'train.duration')
    problem = Problem(
        resolution=data.parse_resolution(data_config.resolution),
        labels=table.sizes,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        steps=duration.steps(train.batch_size, table.pictures),
        devices=devices or mesh.size,
    )
    method = make_method(config, problem)
    return Model(config['seed'], train, sample, data_config, table, duration, problem, method, mesh)


def _check_batch(train: TrainConfig, devices: int) -> None:
    unit = devices * train.accumulate
    if train.batch_size % unit:
        near = max(round(train.batch_size / unit), 1) * unit
        raise ConfigError(
            f'train.batch_size: {train.batch_size} images cannot be divided over {devices} device(s) x '
            f'train.accumulate={train.accumulate}; the nearest that can is {near}'
        )


def prepare(config: Mapping[str, Any], devices: int | None = None) -> Run:
    """Builds a training run from a config; see `prepare_model` for `devices`.

    Raises:
      ConfigError, DataError: something in it cannot be used; the message names the field and the way out.
    """
    check_sections(config)
    _check_batch(build(TrainConfig, config['train'], 'train'), devices or make_mesh().size)
    model = _without_data(config, devices)
    source = data.open_source(model.data)
    names = data.conditions(source, model.data.labels)
    items, held_out = data.split(source, model.data.validation)
    model = prepare_model(config, LabelTable.of(source, names, items), devices)
    run = Run(**vars(model), source=source, items=items, held_out=held_out)
    run.intervals()
    if run.train.validate_every and not len(held_out):
        raise ConfigError(
            f'train.validate_every: data.validation={run.data.validation} leaves no picture to validate on; raise it'
        )
    if run.data.balance and not names:
        raise ConfigError('data.balance: there are no labels to balance by; set data.labels, or data.balance=0')
    _check_frozen(config['optim'], run)
    return run


def _without_data(config: Mapping[str, Any], devices: int | None) -> Model:
    """With a stand-in for what only the data can tell, so that a wrong setting is found before a folder is read.

    What can be used only with, or only without, the labels that `data.labels=auto` may find, waits for the data.
    """
    labels = config['data'].get('labels')
    try:
        return prepare_model(config, _stand_in(labels not in ('none', '')), devices)
    except ConfigError:
        if labels == 'auto':
            with contextlib.suppress(ConfigError):
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


def _abstract_batch(model: Model) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a training batch."""
    size, (height, width) = model.problem.batch_size, model.problem.resolution
    return {
        'image': jax.ShapeDtypeStruct((size, height, width, 3), np.uint8),
        'label': jax.ShapeDtypeStruct((size, len(model.problem.labels)), np.int32),
    }


def abstract_state(model: Model) -> tuple[State, dict[str, jax.ShapeDtypeStruct]]:
    """Shapes of the state at step 0, replicated over the mesh, and of a batch."""
    batch = _abstract_batch(model)
    shapes = jax.eval_shape(model.method.init, jax.random.key(0), batch)
    place = replicated(model.mesh)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes), batch


def initial_state(model: Model) -> State:
    """The state at step 0, on every device."""
    zeros = {name: np.zeros(s.shape, s.dtype) for name, s in _abstract_batch(model).items()}
    init = jax.jit(model.method.init, out_shardings=replicated(model.mesh))
    return init(stream(jax.random.key(model.seed), 'init'), zeros)


def with_frozen(model: Model, state: State) -> State:
    """A restored state, which has only the shapes of the frozen networks, with these made again."""
    return state.replace(frozen=initial_state(model).frozen) if jax.tree.leaves(state.frozen) else state
