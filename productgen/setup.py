"""From a config to everything a run is made of, with every check that can be made before any long work."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
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
from productgen.sections import EvalConfig, SampleConfig, TrainConfig
from productgen.sharding import jit_update, layout, make_mesh, replicated
from productgen.state import State, stream

SECTIONS = ('seed', 'data', 'method', 'model', 'optim', 'train', 'sample')
OTHER_SECTIONS = ('eval',)  # older runs are without


@dataclasses.dataclass(frozen=True)
class Model:
    """What a config and a label table say: enough to make pictures from a checkpoint, without the data set.

    Attributes:
      seed: of all randomness.
      train: the typed `train` section.
      sample: the typed `sample` section.
      eval: the typed `eval` section.
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
    eval: EvalConfig
    data: data.DataConfig
    table: LabelTable
    duration: Duration
    problem: Problem
    method: Method
    mesh: Mesh

    @functools.cached_property
    def init(self) -> jax.stages.Traced:
        """`method.init` over the mesh, traced for the shapes of the state and for the state itself."""
        # Fewer rounds of LLVM's optimisations: the values are the same, compiled in half the time and run once.
        quick = {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None
        given = jax.random.key(0), _abstract_batch(self)
        places = replicated(self.mesh)
        if self.train.shard_state:
            places = layout(self.mesh, jax.eval_shape(self.method.init, *given), shard=True)
        return jax.jit(self.method.init, out_shardings=places, compiler_options=quick).trace(*given)

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
    evaluation = build(EvalConfig, config.get('eval', {}), 'eval')
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
    return Model(config['seed'], train, sample, evaluation, data_config, table, duration, problem, method, mesh)


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
    known = {field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}
    run = Run(**known, source=source, items=items, held_out=held_out)
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
    """Shapes of the state at step 0, with where its arrays lie, and of a batch."""
    shapes = model.init.out_info
    put = lambda shape, place: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place)
    return jax.tree.map(put, shapes, layout(model.mesh, shapes, model.train.shard_state)), _abstract_batch(model)


def initial_state(model: Model) -> State:
    """The state at step 0, its arrays where they are to lie."""
    zeros = {name: np.zeros(s.shape, s.dtype) for name, s in _abstract_batch(model).items()}
    return model.init.lower().compile()(stream(jax.random.key(model.seed), 'init'), zeros)


def lower_update(model: Model) -> jax.stages.Lowered:
    """`(state, batch, key) -> (state, metrics)` of `jit_update`, not compiled yet."""
    state, batch = abstract_state(model)
    return jit_update(model.method.update, model.mesh, state).lower(state, batch, jax.random.key(0))


def compile_update(model: Model) -> Future[Callable]:
    """The program of `lower_update`: traced at once, and compiled in another thread.

    XLA leaves the interpreter free for the first state and grid. Not where it tries kernels on the device that would
    compute these: on GPUs the program is compiled when this returns.
    """
    lowered = lower_update(model)
    if jax.default_backend() != 'cpu':
        done = Future()
        done.set_result(lowered.compile())
        return done
    pool = ThreadPoolExecutor(1)
    program = pool.submit(lowered.compile)
    pool.shutdown(wait=False)
    return program


def with_frozen(model: Model, state: State) -> State:
    """A restored state, which has only the shapes of the frozen networks, with these made again."""
    return state.replace(frozen=initial_state(model).frozen) if jax.tree.leaves(state.frozen) else state
