"""Lists the memory of a training step: the allocation by XLA and, on accelerators, the measured peak.

  python benchmarks/memory.py --config=configs/stylegan.py,configs/ddpm.py:cifar10
  python benchmarks/memory.py --config=configs/stylegan.py:res=64 --set=model.remat=true --steps=20

The update of each config is compiled for random images and labels of 14 values. There is one row per config, in MiB per
device: the state; the arguments (state and batch); the part of these that is donated, whose memory the results reuse;
temporaries (activations, gradients); and the total. If less than the state is donated, there is a second copy of it.
`--steps` adds the median seconds per step and the range, after a warm-up step.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time

import jax
from built import prepared, random_batch

from launch import load_config
from productgen.core.sharding import bytes_on_each
from productgen.model.config import complete_config
from productgen.model.prepared import Prepared

COLUMNS = 'state', 'arguments', 'donated', 'temporaries', 'total'


def split(names: str) -> list[str]:
    """Splits `A.py:x,y,B.py` into `A.py:x,y` and `B.py`: arguments of configs contain commas, too."""
    found = []
    for part in names.split(','):
        if '.py' in part:
            found.append(part)
        else:
            found[-1] += f',{part}'
    return found


def model_of(name: str, overrides: list[str]) -> Prepared:
    """Builds the method of FILE.py:ARGS with overrides `section.field=value`, without its data."""
    config, changes = complete_config(load_config(name)), {}
    for override in overrides:
        field, _, text = override.partition('=')
        look = lambda section, part: section.get(part, '') if isinstance(section, dict) else ''
        kind = type(functools.reduce(look, field.split('.'), config))
        changes[field] = kind(json.loads(text) if kind is bool else text)
    return prepared(config, changes, values=0 if config['data']['labels'] == 'none' else 14)


def measure(model: Prepared, steps: int) -> tuple[dict[str, float], list[float], int]:
    """Bytes by column, seconds of the steps, and the peak memory of the device, 0 if it does not report it."""
    state, _ = model.abstract()
    key = jax.random.key(0)
    program = model.lower_update().compile()
    found = program.memory_analysis()
    size = bytes_on_each(state)
    sizes = size, found.argument_size_in_bytes, found.alias_size_in_bytes, found.temp_size_in_bytes
    new = found.output_size_in_bytes - found.alias_size_in_bytes
    row = dict(zip(COLUMNS, (*sizes, sizes[1] + new + sizes[3]), strict=True))  # XLA's own peak leaves out temporaries
    reports = jax.local_devices()[0].memory_stats() is not None
    seconds: list[float] = []
    if not steps and not reports:
        return row, seconds, 0
    batch, state = random_batch(model), model.initial_state()
    for _ in range(max(steps, 1) + 1):
        began = time.perf_counter()
        state, metrics = program(state, batch, key)
        jax.block_until_ready(metrics)
        seconds.append(time.perf_counter() - began)
    return row, seconds[1:], (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', required=True, help='FILE.py[:ARGS],...')
    parser.add_argument('--set', action='append', default=[], help='override section.field=value; may be repeated')
    parser.add_argument('--steps', type=int, default=0, help='steps to time; by default 0, or 1 on accelerators')
    args = parser.parse_args()
    print(f'| config | {" | ".join(COLUMNS)} |' + ' s/step (range) |' * bool(args.steps))
    for name in split(args.config):
        row, seconds, peak = measure(model_of(name, args.set), args.steps)
        line = f'| {name} | ' + ' | '.join(f'{size / 2**20:.1f}' for size in row.values()) + ' |'
        if args.steps:
            line += f' {statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) |'
        line += f' peak of the device {peak / 2**20:.1f} |' * bool(peak)
        print(line, flush=True)


if __name__ == '__main__':
    main()
