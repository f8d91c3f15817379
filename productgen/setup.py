"""From a config to everything a run is made of, with every check that can be made before any long work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from productgen import data
from productgen.config import ConfigError, build, choose, nearest
from productgen.duration import Duration, parse_duration
from productgen.methods import METHODS, Method, Problem
from productgen.optim import OptimConfig
from productgen.sharding import make_mesh

SECTIONS = ('seed', 'data', 'method', 'model', 'optim', 'train', 'sample')


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


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """The `sample` section, read by `--mode=sample`.

    Attributes:
      seeds: numbers and ranges, `0-63` or `3,5,10-19`; a seed is a picture.
      labels: what to make, `mug` or `label=mug,colour=red`; several kinds separated by `;` are taken in turn. Empty
        takes the labels of training pictures.
      truncation: psi, 0 (the average picture) to 1 (everything the generator knows).
      output: `grid`, `png` (single files), `mix` (style mixing of the first half of the seeds with the second) or
        `walk` (an animation from seed to seed).
      columns: pictures a row of a grid.
      batch_size: pictures made at a time.
      mix_layers: layers that take the second style in `mix`, such as `0-3` for shape or `4-` for colour.
      frames: frames from one seed to the next in `walk`.
      fps: frames a second.
      format: `gif` or `mp4`, for `walk`.
      out: where to write; empty is `samples` in the workdir.
      step: checkpoint to use; 0 is the newest.
    """

    seeds: str
    labels: str
    truncation: float
    output: str
    columns: int
    batch_size: int
    mix_layers: str
    frames: int
    fps: int
    format: str
    out: str
    step: int


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run is made of.

    Attributes:
      seed: of all randomness.
      train: the typed `train` section.
      sample: the typed `sample` section.
      data: the typed `data` section.
      source: the data source.
      items: indices of the training pictures.
      held_out: indices of the validation pictures.
      labels: attributes conditioned on.
      duration: length of the training.
      problem: what the method was built for.
      method: the method.
      mesh: the devices.
    """

    seed: int
    train: TrainConfig
    sample: SampleConfig
    data: data.DataConfig
    source: data.Source
    items: np.ndarray
    held_out: np.ndarray
    labels: tuple[str, ...]
    duration: Duration
    problem: Problem
    method: Method
    mesh: Mesh

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


def check_sections(config: Mapping[str, Any]) -> None:
    """Checks the top level of a config.

    Raises:
      ConfigError: a section that does not exist, or one that is missing.
    """
    for name in config:
        if name not in SECTIONS:
            raise ConfigError(f'{name}: there is no such section{nearest(name, SECTIONS)}')
    for name in SECTIONS:
        if name not in config:
            raise ConfigError(f'{name}: the config lacks this section')


def prepare(config: Mapping[str, Any]) -> Run:
    """Builds a run from a config.

    Raises:
      ConfigError, DataError: something in it cannot be used; the message names the field and the way out.
    """
    check_sections(config)
    train = build(TrainConfig, config['train'], 'train')
    sample = build(SampleConfig, config['sample'], 'sample')
    data_config = build(data.DataConfig, config['data'], 'data')
    method_name = choose(METHODS, config['method'].get('name', ''), 'method.name')
    for name, section in config['optim'].items():
        build(OptimConfig, section, f'optim.{name}')
    if not isinstance(config['seed'], int):
        raise ConfigError(f'seed: expected int, got {config["seed"]!r}')
    for field in ('batch_size', 'accumulate', 'grid_columns', 'grid_rows'):
        if getattr(train, field) < 1:
            raise ConfigError(f'train.{field}: must be at least 1')
    mesh = make_mesh()
    unit = mesh.size * train.accumulate
    if train.batch_size % unit:
        near = max(round(train.batch_size / unit), 1) * unit
        raise ConfigError(
            f'train.batch_size: {train.batch_size} images cannot be divided over {mesh.size} device(s) x '
            f'train.accumulate={train.accumulate}; the nearest that can is {near}'
        )
    duration = parse_duration(train.duration, 'train.duration')
    size = data.parse_resolution(data_config.resolution)

    def method_for(labels: tuple[int, ...], epoch: int) -> tuple[Problem, Method]:
        steps = duration.steps(train.batch_size, epoch)
        problem = Problem(size, labels, train.batch_size, train.accumulate, steps, mesh.size)
        return problem, method_name(config, problem)

    # Once with stand-ins for what only the data can tell, so that a wrong setting is found before a folder is read.
    method_for((2,), 10_000)
    source = data.open_source(data_config)
    labels = data.conditions(source, data_config.labels)
    items, held_out = data.split(source, data_config.validation)
    problem, method = method_for(tuple(len(source.attributes[name]) for name in labels), len(items))
    run = Run(
        config['seed'], train, sample, data_config, source, items, held_out, labels, duration, problem, method, mesh
    )
    for field in ('log_every', 'sample_every', 'checkpoint_every'):
        run.steps(field)
    return run


def abstract_state(run: Run):
    """Shapes of the state at step 0, replicated over the mesh."""
    from productgen.sharding import replicated

    height, width = run.problem.resolution
    batch = {
        'image': jax.ShapeDtypeStruct((run.problem.batch_size, height, width, 3), np.uint8),
        'label': jax.ShapeDtypeStruct((run.problem.batch_size, len(run.problem.labels)), np.int32),
    }
    shapes = jax.eval_shape(run.method.init, jax.random.key(0), batch)
    place = replicated(run.mesh)
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes), batch
