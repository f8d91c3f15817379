"""What a run would be, told before it is begun: `--dry_run`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax

from productgen.core.sharding import bytes_on_each
from productgen.core.state import PyTree, State
from productgen.methods.base import Problem, parameter_counts
from productgen.model.prepared import abstract_state, lower_update, prepare_model
from productgen.train.finetune import inherit
from productgen.train.run import Run, prepare
from productgen.train.validate import Validator


def describe(config: Mapping[str, Any]) -> str:
    """Checks a config as training does and tells data, sizes and costs, without compiling anything.

    Args:
      config: all sections.

    Returns:
      lines of text, by section.

    Raises:
      UserError, DataError: something in it cannot be used.
    """
    run = prepare(config)
    run.table.kinds(run.sample.labels, 'sample.labels')
    if run.train.validate_every:
        Validator(run, run.batches())
    inherit(config, run)
    state, batch = abstract_state(run)
    flops, traffic = _step_cost(config, run)
    sections = {
        'Data': _data(run),
        'Devices': [f'{run.mesh.size} x {jax.devices()[0].device_kind}, {_share(run.problem)}'],
        'Parameters': _parameters(state),
        'Memory of each device, activations not counted': _memory(run, state, batch),
        'Computation': _computation(run, flops, traffic),
        'Written into the workdir': _files(run, state),
    }
    return '\n'.join(line for name, lines in sections.items() for line in (name, *(f'  {text}' for text in lines)))


def _step_cost(config: Mapping[str, Any], run: Run) -> tuple[float, float]:
    """FLOPs and bytes of an update over the whole batch, from the program before compilation.

    XLA counts the dearer branch of a condition, hence every lazy regulariser as if it were due in each step: an upper
    bound. It counts the body of a loop once, so the batch is taken as one part here, and in one critic step.
    """
    method = config['method'] | ({'critic_steps': 1} if 'critic_steps' in config['method'] else {})
    whole = {**config, 'method': method, 'train': {**config['train'], 'accumulate': 1}}
    cost = lower_update(prepare_model(whole, run.table)).cost_analysis() or {}
    return cost.get('flops', math.nan), cost.get('bytes accessed', math.nan)


def _data(run: Run) -> list[str]:
    height, width = run.problem.resolution
    lines = [f'{run.data.source}: {len(run.items):,} pictures to train on, {len(run.held_out):,} held out']
    lines += [f'{width} x {height} pixels (data.fit={run.data.fit}, data.background={run.data.background})']
    for name, values in run.table.attributes.items():
        lines += [f'{name}: {len(values)} values, {", ".join(values[:8])}{", ..." if len(values) > 8 else ""}']
    return lines if run.labels else [*lines, 'no labels']


def _share(problem: Problem) -> str:
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
    weights, share = _size(_bytes(parts['weights'])), _bytes(batch['image']) * 5 / run.problem.devices
    lines += [f'weights gathered for an update: up to {weights}'] * (bytes_on_each(state) < _bytes(state))
    return [*lines, f'gradients: up to {weights}', f'images of a batch: {_size(share)}']


def _computation(run: Run, flops: float, traffic: float) -> list[str]:
    size, steps = run.problem.batch_size, run.problem.steps
    lines = [
        f'at most {_count(flops / size, "FLOP")} an image, {_count(flops, "FLOP")} and {_size(traffic)} of memory '
        'traffic an update (lazy regularisers counted in every update, nothing fused)'
    ]
    if steps is None:
        return [*lines, f'as many updates as {run.train.duration} allow']
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
        f'every {getattr(run.train, field)}' + (f', {steps // run.steps(field)} in all' if steps is not None else '')
    )
    saved = _size(_bytes(state.replace(frozen={})))
    return [
        f'checkpoints/: the newest {max(run.train.keep, 2)} of {saved} each, {every("checkpoint_every")}',
        f'samples/: a grid {every("sample_every")}, and one at the end',
        *([f'best/: the best by {run.train.stop_on}, {saved}, two of them at times'] if run.train.stop_on else []),
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
