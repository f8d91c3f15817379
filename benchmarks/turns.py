"""Programs that do the same, turn by turn, so that what else the machine does hits all of them."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable

MATRIX = 3072


def take_turns(name: str, commands: dict[str, list[str]], unit: str, repeats: int) -> dict[str, list[dict]]:
    """Runs `ours` and the others one after the other, and prints the rates and the ratios of every repeat.

    Args:
      name: what is timed.
      commands: the command line of each side, `ours` first, whose last line is JSON: `rate`, in `unit`, seconds by
        name, and under `about` what is not printed.
      unit: such as `img/s`.
      repeats: of all.

    Returns:
      what each side printed, every time.
    """
    found: dict[str, list[dict]] = {side: [] for side in commands}
    ratios: dict[str, list[float]] = {side: [] for side in commands if side != 'ours'}
    for _ in range(repeats):
        words = []
        for side, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f'{side} failed:\n{done.stderr[-3000:]}')
            one = json.loads(done.stdout.splitlines()[-1])
            found[side].append(one)
            rest = ''.join(f', {what} {v:.3g} s' for what, v in one.items() if what not in ('rate', 'about'))
            words.append(f'{side} {one["rate"]:.2f} {unit}{rest}')
        for side, values in ratios.items():
            values.append(found['ours'][-1]['rate'] / found[side][-1]['rate'])
            words.append(f'ratio to {side} {values[-1]:.2f}')
        print(f'{name}: {"; ".join(words)}', flush=True)
    for side, runs in found.items():
        print(f'{name}: {side} {spread([one["rate"] for one in runs])} {unit}', flush=True)
    for side, values in ratios.items():
        print(f'{name}: ratio to {side} {spread(values)}', flush=True)
    return found


def spread(values: list[float]) -> str:
    """Median and range."""
    return f'median {statistics.median(values):.2f}, from {min(values):.2f} to {max(values):.2f}'


def peak(product: Callable[[], None]) -> float:
    """GFLOP/s of the fastest of some products of two MATRIX x MATRIX matrices."""
    product()
    best = float('inf')
    for _ in range(5):
        began = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - began)
    return 2 * MATRIX**3 / best / 1e9
