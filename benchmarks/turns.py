"""Programs that do the same, turn by turn, so that what else the machine does hits all of them."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable

MATRIX = 3072


def parser(doc: str, *others: str, peer: str = '') -> argparse.ArgumentParser:
    """The command line that these programs have in common.

    Args:
      doc: of the program.
      others: sides that stand beside `ours`; each is this program again, with `--side`.
      peer: what is to be checked out by the user, if anything.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if peer:
        made.add_argument('--peer', required=True, help=f'checkout of {peer}')
    made.add_argument('--python', required=True, help='Python of the environment that has PyTorch')
    made.add_argument('--repeats', type=int, default=3)
    made.add_argument('--side', choices=('ours', *others), help=argparse.SUPPRESS)
    return made


def take_turns(name: str, pythons: dict[str, str], rest: list[str], unit: str, repeats: int) -> dict[str, list[dict]]:
    """Runs `ours` and the others one after the other, and prints the rates and the ratios of every repeat.

    Args:
      name: what is timed.
      pythons: the interpreter of each side, `ours` first.
      rest: script and arguments, to which `--side` is added. The last line that each side prints is JSON: `rate`, in
        `unit`, seconds by name, and under `about` what is not printed.
      unit: such as `img/s`.
      repeats: of all.

    Returns:
      what each side printed, every time.
    """
    commands = {side: [python, *rest, f'--side={side}'] for side, python in pythons.items()}
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


def arithmetic(runs: list[dict], peaks: list[float], flops: float) -> str:
    """What an image takes, and the share of the peak that the median rate of some runs comes to.

    Args:
      runs: what one side printed.
      peaks: all that `peak` found.
      flops: of an image.
    """
    speed, top = statistics.median(one['rate'] for one in runs) * flops / 1e9, max(peaks)
    return f'{flops / 1e6:,.1f} MFLOP an image, {speed:.0f} of {top:.0f} GFLOP/s at most ({speed / top:.0%})'


def check_equal(name: str, counts: list) -> None:
    """Ends the program where the sides do not have the same numbers of parameters."""
    if any(count != counts[0] for count in counts):
        raise SystemExit(f'{name}: the networks differ: {counts}')
