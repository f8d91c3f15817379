"""From a config to everything a run is made of, with every check that can be made before any long work."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from productgen import data
from productgen.config import UserError, build, choose, nearest
from productgen.config.durations import Duration, parse_duration
from productgen.config.sections import EvalConfig, SampleConfig, TrainConfig
from productgen.core.optim import OptimConfig
from productgen.core.rng import stream
from productgen.core.sharding import jit_update, layout, make_mesh, replicated
from productgen.core.state import State
from productgen.data.labels import LabelTable
from productgen.methods import METHODS, Method, Problem

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


def check_sections(config: Mapping[str, Any]) -> None:
    """Checks the top level of a config.

    Raises:
      UserError: a section that does not exist, or one that is missing.
    """
    for name in config:
        if name not in SECTIONS + OTHER_SECTIONS:
            raise UserError(f'{name}', f'there is no such section{nearest(name, SECTIONS + OTHER_SECTIONS)}')
    for name in SECTIONS:
        if name not in config:
            raise UserError(f'{name}', 'the config lacks this section')


def prepare_model(config: Mapping[str, Any], table: LabelTable, devices: int | None = None) -> Model:
    """Builds what needs no data.

    Args:
      config: all sections.
      table: the labels of the training set.
      devices: that batches of training are divided over; all by default. Who only samples has none to divide: 1.

    Raises:
      UserError, DataError: something in the config cannot be used; the message names the field and the way out.
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
        raise UserError('seed', f'expected a whole number from 0 to 2^31 - 1, got {config["seed"]!r}')
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
