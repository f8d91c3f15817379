"""Runs equivalent programs alternately, so that other load on the machine affects all of them."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable

MATRIX = 3072


def parser(doc: str, *others: str, peer: str = '') -> argparse.ArgumentParser:
    """Creates the parser of the common flags.

    Args:
      doc: description of the program.
      others: implementations compared with `ours`; each is run by this program with `--side`.
      peer: name of a repository that the user must check out, if any.
    """
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if peer:
        result.add_argument('--peer', required=True, help=f'checkout of {peer}')
    result.add_argument('--python', required=True, help='Python of an environment with PyTorch')
    result.add_argument('--repeats', type=int, default=3)
    result.add_argument('--side', choices=('ours', *others), help=argparse.SUPPRESS)
    return result


def take_turns(name: str, pythons: dict[str, str], rest: list[str], unit: str, repeats: int) -> dict[str, list[dict]]:
    """Runs `ours` and the others alternately, and prints rates and ratios of each repeat.

    Args:
      name: name of the case.
      pythons: interpreter of each implementation, `ours` first.
      rest: script and arguments, to which `--side` is added. The last line of the output must be JSON: `rate`, in
        `unit`, seconds by name, and under `about` values that are not printed.
      unit: unit of the rates, such as `img/s`.
      repeats: number of repeats.

    Returns:
      the JSON of each implementation and repeat.
    """
    commands = {side: [python, *rest, f'--side={side}'] for side, python in pythons.items()}
    found: dict[str, list[dict]] = {side: [] for side in commands}
    ratios: dict[str, list[float]] = {side: [] for side in commands if side != 'ours'}
    for _ in range(repeats):
        parts = []
        for side, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f'{side} failed:\n{done.stderr[-3000:]}')
            one = json.loads(done.stdout.splitlines()[-1])
            found[side].append(one)
            rest = ''.join(f', {key} {v:.3g} s' for key, v in one.items() if key not in ('rate', 'about'))
            parts.append(f'{side} {one["rate"]:.2f} {unit}{rest}')
        for side, values in ratios.items():
            values.append(found['ours'][-1]['rate'] / found[side][-1]['rate'])
            parts.append(f'ratio to {side} {values[-1]:.2f}')
        print(f'{name}: {"; ".join(parts)}', flush=True)
    for side, runs in found.items():
        print(f'{name}: {side} {spread([one["rate"] for one in runs])} {unit}', flush=True)
    for side, values in ratios.items():
        print(f'{name}: ratio to {side} {spread(values)}', flush=True)
    return found


def spread(values: list[float]) -> str:
    """Formats median and range."""
    return f'median {statistics.median(values):.2f}, from {min(values):.2f} to {max(values):.2f}'


def peak(product: Callable[[], None]) -> float:
    """Measures GFLOP/s of the fastest of several products of two MATRIX x MATRIX matrices."""
    product()
    best = float('inf')
    for _ in range(5):
        began = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - began)
    return 2 * MATRIX**3 / best / 1e9


def arithmetic(runs: list[dict], peaks: list[float], flops: float) -> str:
    """Formats the FLOPs per image, and the fraction of the peak at the median rate.

    Args:
      runs: output of one implementation.
      peaks: results of `peak`.
      flops: FLOPs per image.
    """
    speed, top = statistics.median(one['rate'] for one in runs) * flops / 1e9, max(peaks)
    return f'{flops / 1e6:,.1f} MFLOP per image, {speed:.0f} of at most {top:.0f} GFLOP/s ({speed / top:.0%})'


def check_equal(name: str, counts: list) -> None:
    """Exits if the implementations have different parameter counts."""
    if any(count != counts[0] for count in counts):
        raise SystemExit(f'{name}: the parameter counts differ: {counts}')
