"""Counts the communication of an update, and the memory of each device, from the compiled program.

  python benchmarks/scaling.py                # 8 devices emulated by XLA on this machine
  python benchmarks/scaling.py --processes=2  # two processes with one device each

Nothing is run, so the numbers do not depend on the speed of the machine. They do depend on the backend, which is the
CPU one where there is no accelerator: others may merge more of the communication.

`weights` is the size in bytes of the gradients of all networks, counted once, and `passes` counts every backward pass:
an adversarial discriminator has one for real images, one for fakes and one for R1. The other columns are bytes received
per device. They exceed `passes` by statistics of the batch, metrics, kernels of strided convolutions, which are summed
in the form they are computed in (16 values for 9, see `productgen.nets.strided`), and the kernels that enter R1 twice,
a gradient of a gradient.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Backward passes through each network in an update of the quick config.
PASSES = {
    'stylegan': {'generator': 1, 'discriminator': 3},
    'dcgan': {'generator': 1, 'discriminator': 2},
    'vae': {'vae': 1},
    'ddpm': {'unet': 1},
    'classifier': {'classifier': 1},
}


@dataclasses.dataclass(frozen=True)
class Row:
    """Sizes of an update in bytes.

    Attributes:
      weights: weights of the networks.
      passes: gradients of all backward passes.
      sent: communication by kind of collective.
      stored: state and batch per device.
      temporary: temporary memory per device.
    """

    weights: int
    passes: int
    sent: dict[str, int]
    stored: int
    temporary: int


def measure(name: str, shard: bool, accumulate: int) -> Row:
    """Measures an update of `configs/NAME.py:quick` on all devices."""
    from benchmarks.communication import traffic
    from productgen.methods.base import parameter_counts
    from productgen.model.config import resolve
    from productgen.train.run import open_run

    config = resolve(importlib.import_module(f'configs.{name}').get_config('quick').to_dict())
    train = dataclasses.replace(config.train, shard_state=shard, accumulate=accumulate)
    run = open_run(dataclasses.replace(config, train=train))
    sizes = {net: 4 * count for net, count in parameter_counts(run.abstract()[0]).items()}  # float32
    program = run.lower_update().compile()
    memory = program.memory_analysis()
    passes = sum(sizes[net] * count * accumulate for net, count in PASSES[name].items())
    stored, temporary = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    return Row(sum(sizes.values()), passes, traffic(program), stored, temporary)


def table(names: list[str], accumulate: int) -> str:
    """Table of all configs, with replicated and sharded state, as Markdown."""
    head = 'config', 'state', 'weights', 'passes', 'all-reduce', 'all-gather', 'other', 'stored', 'temporary'
    lines = ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|']
    for name in names:
        for shard in (False, True):
            row = measure(name, shard, accumulate)
            sent = dict(row.sent)
            kinds = [sent.pop(kind, 0) for kind in ('all-reduce', 'all-gather')]
            values = row.weights, row.passes, *kinds, sum(sent.values()), row.stored, row.temporary
            state = 'sharded' if shard else 'replicated'
            lines.append(f'| `{name}` | {state} | ' + ' | '.join(f'{value / 1e3:,.1f}' for value in values) + ' |')
    return '\n'.join(lines)


def in_processes(count: int, flags: list[str]) -> None:
    """Runs this program in several processes with one device each; the first one prints."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{s.getsockname()[1]}'
    command = [sys.executable, __file__, *flags, f'--coordinator={address}', f'--processes={count}']
    out = lambda i: None if i == 0 else subprocess.DEVNULL
    started = [subprocess.Popen([*command, f'--process={i}'], cwd=ROOT, stdout=out(i)) for i in range(count)]
    while not any(process.poll() for process in started):  # None while running, 0 on success
        if all(process.poll() == 0 for process in started):
            return
        time.sleep(0.1)
    for process in started:  # the others would wait forever
        process.kill()
    raise SystemExit('a process failed')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--configs', default=','.join(PASSES), help='comma-separated names')
    parser.add_argument('--devices', type=int, default=8, help='number of devices that XLA emulates')
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument('--accumulate', type=int, default=1, help='number of parts of a batch')
    parser.add_argument('--coordinator', default='', help=argparse.SUPPRESS)
    parser.add_argument('--process', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.processes > 1 and not args.coordinator:
        return in_processes(args.processes, [f'--configs={args.configs}', f'--accumulate={args.accumulate}'])
    if args.processes == 1:
        flag = f' --xla_force_host_platform_device_count={args.devices}'
        os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + flag

    import jax  # only now: it reads the flags

    if args.coordinator:
        jax.distributed.initialize(args.coordinator, num_processes=args.processes, process_id=args.process)
    print(f'{jax.device_count()} devices ({jax.devices()[0].device_kind}), {jax.process_count()} processes, kB:\n')
    print(table(args.configs.split(','), args.accumulate))


if __name__ == '__main__':
    main()
