"""A method built from a config and the facts of its training set, and the programs it is run by."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from productgen import data
from productgen.config import UserError
from productgen.config.durations import Duration, parse_duration
from productgen.core.rng import stream
from productgen.core.sharding import jit_update, layout, make_mesh, replicated
from productgen.core.state import PyTree, State
from productgen.core.waiting import announced, compiling
from productgen.data.facts import Facts
from productgen.methods.base import Method, Problem, Shapes
from productgen.model.config import Config

P = TypeVar('P', bound='Prepared')
MAX_STEPS = 2**31 - 1  # the number of the step is an int32


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A method, ready to be trained or to use a checkpoint, without the data set.

    Attributes:
      config: the typed config.
      facts: of the training set.
      problem: what the method was built for.
      method: the method.
      mesh: the devices.
    """

    config: Config
    facts: Facts
    problem: Problem
    method: Method
    mesh: Mesh

    @property
    def duration(self) -> Duration:
        """Length of the training."""
        return parse_duration(self.config.train.duration, 'train.duration')

    @functools.cached_property
    def frozen(self) -> dict[str, PyTree]:
        """The weights that are only read, on the host; see `Method.frozen`.

        Raises:
          UserError: a file is missing or not what it should be.
        """
        return {name: weights.load() for name, weights in self.method.frozen().items()}

    @functools.cached_property
    def init(self) -> jax.stages.Traced:
        """`method.init` over the mesh, traced for the shapes of the state and for the state itself."""
        # Fewer rounds of LLVM's optimisations: the values are the same, compiled in half the time and run once.
        quick = {'xla_backend_optimization_level': 1} if jax.default_backend() == 'cpu' else None
        frozen = {name: weights.shapes for name, weights in self.method.frozen().items()}
        given = jax.random.key(0), self.method.inputs(), frozen
        places = replicated(self.mesh)
        if self.config.train.shard_state:
            places = layout(self.mesh, jax.eval_shape(self.method.init, *given), shard=True)
        return jax.jit(self.method.init, out_shardings=places, compiler_options=quick).trace(*given)

    def abstract(self) -> tuple[State, Shapes]:
        """Shapes of the state at step 0, with the shardings of its arrays, and of a batch."""
        shapes = self.init.out_info
        put = lambda shape, place: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place)
        places = layout(self.mesh, shapes, self.config.train.shard_state)
        return jax.tree.map(put, shapes, places), self.method.inputs()

    def initial_state(self) -> State:
        """The state at step 0, its arrays on their devices."""
        zeros = {name: np.zeros(s.shape, s.dtype) for name, s in self.method.inputs().items()}
        with compiling('the first weights'):
            program = self.init.lower().compile()
        return program(stream(jax.random.key(self.config.seed), 'init'), zeros, self.frozen)

    def with_frozen(self, state: State, training: bool = True) -> State:
        """A restored state, whose frozen weights are shapes only, with these weights on the devices.

        Without `training` those are left out that are read in training only.
        """
        found = self.method.frozen()
        loaded = self.frozen if training else {n: w.load() for n, w in found.items() if not w.training_only}
        return state.replace(frozen=jax.device_put(loaded, replicated(self.mesh)))

    @property
    def update_name(self) -> str:
        """What the update is, for messages."""
        height, width = self.problem.resolution
        return f'the update of {width} x {height} pictures in batches of {self.problem.batch_size}'

    def lower_update(self) -> jax.stages.Lowered:
        """`(state, batch, key) -> (state, metrics)` of `jit_update`, not compiled yet."""
        state, batch = self.abstract()
        return jit_update(self.method.update, self.mesh, state).lower(state, batch, jax.random.key(0))

    def compile_update(self) -> Future[Callable]:
        """The program of `lower_update`: traced at once, compiled in another thread.

        XLA leaves the interpreter free for the first state and grid. On a GPU it tries kernels on the device that would
        compute these, so there the program is compiled when this returns.
        """
        with announced(f'Tracing {self.update_name}'):
            lowered = self.lower_update()
        if jax.default_backend() != 'cpu':
            done = Future()
            with compiling(self.update_name):
                done.set_result(lowered.compile())
            return done
        pool = ThreadPoolExecutor(1)
        program = pool.submit(lowered.compile)
        pool.shutdown(wait=False)
        return program


def prepare(config: Config, facts: Facts, devices: int | None = None, float32: bool = False) -> Prepared:
    """Builds the method of a config.

    Args:
      config: the typed config.
      facts: of the training set.
      devices: that batches of training are divided over; all by default. For sampling only, 1.
      float32: compute in float32 whatever the config says.

    Raises:
      UserError: something in the config cannot be used; the message names the field and what to do.
    """
    mesh = make_mesh()
    train = config.train
    duration = parse_duration(train.duration, 'train.duration')
    steps = duration.steps(train.batch_size, facts.labels.pictures)
    if steps is not None and steps > MAX_STEPS:
        raise UserError('train.duration', f'{train.duration!r} is {steps:,} updates, the most are {MAX_STEPS:,}')
    problem = Problem(
        resolution=data.parse_resolution(config.data.resolution),
        labels=facts.labels.sizes,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        steps=steps,
        devices=devices or mesh.size,
        columns=facts.columns,
        float32=float32,
    )
    method = config.family.make(config, problem)
    return Prepared(config, facts, problem, method, mesh)


def after_images(model: P, images: int, step: int) -> P:
    """The same, for a training that has been trained on so many images by a step.

    They are step x batch size, unless the batch size was another one before: what follows images then continues.
    """
    size = model.problem.batch_size
    before = images - step * size
    if before == model.problem.images_before:
        return model
    steps = model.duration.steps(size, model.facts.labels.pictures, before)
    problem = dataclasses.replace(model.problem, images_before=before, steps=steps)
    return dataclasses.replace(model, problem=problem, method=model.config.family.make(model.config, problem))


def in_one_part(model: Prepared) -> Prepared:
    """The same with each batch taken in one part; see `Method.in_one_part`."""
    method = model.method.in_one_part()
    return Prepared(model.config, model.facts, method.problem, method, model.mesh)


def digest(tree: Mapping[str, Any]) -> str:
    """The first 16 digits of the SHA-256 of arrays, in the order of their names."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]
