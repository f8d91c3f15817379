"""Describes a run before it starts: `--dry_run`."""

from __future__ import annotations

import math

import jax
import numpy as np

from productgen.core.sharding import bytes_on_each
from productgen.core.state import PyTree, State
from productgen.data.summary import summary
from productgen.methods.base import Problem, parameter_counts
from productgen.model.config import Config
from productgen.model.prepared import in_one_part
from productgen.train.finetune import inherit
from productgen.train.run import Run, open_run
from productgen.train.validate import Validator


def describe(config: Config) -> str:
    """Checks a config as training does, and describes its data, sizes and costs without compiling anything.

    Args:
      config: the typed config.

    Returns:
      lines of text, by section.

    Raises:
      UserError: something in it cannot be used.
    """
    run = open_run(config)
    run.facts.labels.kinds(config.sample.labels, 'sample.labels')
    if config.train.validate_every:
        Validator(run, run.batches())
    inherit(run)
    state, batch = run.abstract()
    flops, traffic = _step_cost(run)
    sections = {
        'Data': _data(run),
        'Devices': [f'{run.mesh.size} x {jax.devices()[0].device_kind}, {_per_device(run.problem)}'],
        'Parameters': _parameters(state),
        'Memory of each device, activations not counted': _memory(run, state, batch),
        'Computation': _computation(run, flops, traffic),
        'Written into the workdir': _files(run, state),
    }
    return '\n'.join(line for name, lines in sections.items() for line in (name, *(f'  {text}' for text in lines)))


def _step_cost(run: Run) -> tuple[float, float]:
    """FLOPs and bytes of an update over the whole batch, from the program before compilation.

    XLA counts the most expensive branch of a condition, hence every lazy regulariser as if it were due in each step: an
    upper bound. It counts the body of a loop once, so the batch is taken in one part here.
    """
    cost = in_one_part(run).lower_update().cost_analysis() or {}
    return cost.get('flops', math.nan), cost.get('bytes accessed', math.nan)


def _data(run: Run) -> list[str]:
    height, width = run.problem.resolution
    config = run.config.data
    first, *rest = summary(config, run.source, run.labels, run.items, len(run.held_out))
    return [first, f'{width} x {height} pixels (data.fit={config.fit}, data.background={config.background})', *rest]


def _per_device(problem: Problem) -> str:
    part = problem.batch_size // problem.devices
    parts = f' in {problem.accumulate} parts' if problem.accumulate > 1 else ''
    return f'{part} of the {problem.batch_size} images of a batch on each{parts}'


def _parameters(state: State) -> list[str]:
    counts = parameter_counts(state)
    return [f'{name}: {count:,}' for name, count in counts.items()] + [f'in all: {sum(counts.values()):,}']


def _bytes(tree: PyTree) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _memory(run: Run, state: State, batch: PyTree) -> list[str]:
    nets = state.nets.values()
    parts = {
        'weights': [net.params for net in nets],
        'averaged weights': [net.ema for net in nets],
        'optimiser state': [net.opt for net in nets],
        'statistics and others': [[net.stats for net in nets], state.extra, state.frozen],
    }
    lines = [f'{name}: {_size(bytes_on_each(tree))}' for name, tree in parts.items()]
    # Gradients are as large as the weights they belong to; pictures become float on the device.
    weights = _size(_bytes(parts['weights']))
    images = sum(_bytes(x) for x in batch.values() if x.dtype == np.uint8) * 5 / run.problem.devices
    lines += [f'weights gathered for an update: up to {weights}'] * (bytes_on_each(state) < _bytes(state))
    return [*lines, f'gradients: up to {weights}', f'images of a batch: {_size(images)}']


def _computation(run: Run, flops: float, traffic: float) -> list[str]:
    size, steps = run.problem.batch_size, run.problem.steps
    lines = [
        f'at most {_count(flops / size, "FLOP")} an image, {_count(flops, "FLOP")} and {_size(traffic)} of memory '
        'traffic an update (lazy regularisers counted in every update, nothing fused)'
    ]
    if steps is None:
        return [*lines, f'as many updates as {run.config.train.duration} allow']
    epochs = steps * size / len(run.items)
    return [
        f'{steps:,} updates of {size} images: {steps * size / 1000:,.1f} kimg, {epochs:,.1f} epochs',
        *lines,
        f'at most {_count(flops * steps, "FLOP")} in all',
    ]


def _files(run: Run, state: State) -> list[str]:
    """What training leaves behind; durations in time have no number of files."""
    steps = run.problem.steps
    every = lambda field: (
        f'every {getattr(run.config.train, field)}'
        + (f', {steps // run.steps(field)} in all' if steps is not None else '')
    )
    saved = _size(_bytes(state.replace(frozen={})))
    return [
        f'checkpoints/: the newest {max(run.config.train.keep, 2)} of {saved} each, {every("checkpoint_every")}',
        f'samples/: a grid {every("sample_every")}, and one at the end',
        *(
            [f'best/: the best by {run.config.train.stop_on}, {saved}, two of them at times']
            if run.config.train.stop_on
            else []
        ),
        f'metrics.jsonl, tensorboard/: a point {every("log_every")}',
        'config.json, labels.json, environment.jsonl, log.txt',
    ]


def _scaled(value: float, step: int, units: str) -> tuple[float, str]:
    power = 0 if not value >= step else min(int(math.log(value, step)), len(units) - 1)
    return value / step**power, units[power].strip()


def _size(count: float) -> str:
    """Bytes for people: 12.3 MiB."""
    value, unit = _scaled(count, 1024, ' KMGTPE')
    return f'{value:.4g} {unit}{"iB" if unit else "bytes"}'


def _count(value: float, name: str) -> str:
    """A number for people: 1.23 GFLOP."""
    value, unit = _scaled(value, 1000, ' kMGTPEZY')
    return f'{value:.3g} {unit}{name}'
