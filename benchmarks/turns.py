"""Two programs that do the same, turn by turn, so that what else the machine does hits both."""

from __future__ import annotations

import json
import statistics
import subprocess


def take_turns(name: str, commands: dict[str, list[str]], unit: str, repeats: int) -> None:
    """Runs `ours` and `peer` one after the other, and prints the rates and the ratio of every repeat.

    Args:
      name: what is timed.
      commands: the command line of each side, whose last line is JSON: `rate`, in `unit`, and seconds by name.
      unit: such as `img/s`.
      repeats: of both.
    """
    ratios = []
    for _ in range(repeats):
        found, words = {}, []
        for side, command in commands.items():
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f'{side} failed:\n{done.stderr[-3000:]}')
            found[side] = json.loads(done.stdout.splitlines()[-1])
            rest = ''.join(f', {what} {value:.0f} s' for what, value in found[side].items() if what != 'rate')
            words.append(f'{side} {found[side]["rate"]:.2f} {unit}{rest}')
        ratios.append(found['ours']['rate'] / found['peer']['rate'])
        print(f'{name}: {"; ".join(words)}; ratio {ratios[-1]:.2f}', flush=True)
    middle = statistics.median(ratios)
    print(f'{name}: median ratio {middle:.2f}, from {min(ratios):.2f} to {max(ratios):.2f}', flush=True)
