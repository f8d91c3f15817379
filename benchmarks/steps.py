"""Compares the speed of training steps of DCGAN, VAE and a diffusion U-Net with PyTorch.

  python benchmarks/steps.py --python=VENV/bin/python --case=dcgan32,vae64

VENV has PyTorch. Both train the networks of the default configs dcgan, vae and ddpm, without labels, on random uint8
images in memory: with equal widths (parameter counts must be equal), losses, optimisers, batch sizes and averaged
weights. `eager` is plain PyTorch; `compiled` uses `torch.compile` for the networks, which on CPUs needs a C++ compiler;
see `torch_nets.py`. The implementations alternate, each repeat in a new process, with some steps for warm-up
(compilation) and then several timed windows, of which the median is used.

Printed are images per second, the ratio of each repeat, and for ours the floating-point operations per image, as XLA
counts them in the compiled program (`cost_analysis`), and the fraction of the peak: the fastest product of two large
float32 matrices by either library in the same runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import turns

CASES = {f'{name}{size}': (name, size) for size in (32, 64) for name in ('dcgan', 'vae', 'ddpm')}
WINDOWS = 5  # timed windows


def timed(step: Callable[[], None], wait: Callable[[], None], batch: int, seconds: float) -> float:
    """Images per second, the median over windows that together take about `seconds`."""
    for _ in range(5):
        step()
    wait()
    began = time.perf_counter()
    step()
    wait()
    count = max(round(seconds / WINDOWS / (time.perf_counter() - began)), 2)
    rates = []
    for _ in range(WINDOWS):
        began = time.perf_counter()
        for _ in range(count):
            step()
        wait()
        rates.append(count * batch / (time.perf_counter() - began))
    return statistics.median(rates)


def ours(name: str, size: int, seconds: float) -> dict:
    """Measures our training step."""
    import importlib

    import jax
    import jax.numpy as jnp
    from built import prepared, random_batch

    from productgen.methods.base import parameter_counts

    config = importlib.import_module(f'configs.{name}').get_config()
    model = prepared(config, {'data.resolution': str(size), 'train.duration': '10000steps'})
    batch, rows = model.problem.batch_size, random_batch(model)
    began = time.perf_counter()
    state, update, key = model.initial_state(), model.lower_update().compile(), jax.random.key(1)
    flops = update.cost_analysis()['flops'] * model.mesh.size / batch
    counts = parameter_counts(state)

    def step():
        nonlocal state
        state, _ = update(state, rows, key)

    step()
    jax.block_until_ready(state)
    first = time.perf_counter() - began
    rate = timed(step, lambda: jax.block_until_ready(state), batch, seconds)
    matrix, multiply = jnp.ones((turns.MATRIX, turns.MATRIX)), jax.jit(jnp.matmul)
    top = turns.peak(lambda: jax.block_until_ready(multiply(matrix, matrix)))
    return {'rate': rate, 'first step after': first, 'about': {'parameters': counts, 'flops': flops, 'peak': top}}


def peer(name: str, size: int, seconds: float, compiled: bool, batch: int) -> dict:
    """As `ours`, for PyTorch."""
    import torch
    from torch_nets import METHODS

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
    torch.set_default_device(device)
    image = np.random.default_rng(0).integers(0, 256, (batch, 3, size, size), np.uint8)
    image = torch.from_numpy(image).to(device)
    began = time.perf_counter()
    method = METHODS[name](size, batch, 10_000, torch.compile if compiled else lambda net: net)
    wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
    method.step(image)
    wait()
    first = time.perf_counter() - began
    rate = timed(lambda: method.step(image), wait, batch, seconds)
    counts = {name: sum(p.numel() for p in net.parameters()) for name, net in method.nets.items()}
    matrix = torch.ones(turns.MATRIX, turns.MATRIX)

    def product():
        matrix @ matrix
        wait()

    return {'rate': rate, 'first step after': first, 'about': {'parameters': counts, 'peak': turns.peak(product)}}


def batch_size(name: str) -> int:
    """Batch size of a config."""
    import importlib

    from built import prepared

    return prepared(importlib.import_module(f'configs.{name}').get_config()).problem.batch_size


def main() -> None:
    parser = turns.parser(__doc__, 'eager', 'compiled')
    parser.add_argument('--case', default=','.join(CASES), help=f'comma-separated: {", ".join(CASES)}')
    parser.add_argument('--against', default='eager,compiled', help='modes of PyTorch: eager, compiled')
    parser.add_argument('--seconds', type=float, default=5.0, help='timed seconds per repeat and implementation')
    parser.add_argument('--batch', type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        case = *CASES[args.case], args.seconds
        own = args.side == 'ours'
        print(json.dumps(ours(*case) if own else peer(*case, args.side == 'compiled', args.batch)))
        return
    for case in args.case.split(','):
        batch = batch_size(CASES[case][0])
        rest = [__file__, '--python=', f'--case={case}', f'--seconds={args.seconds}', f'--batch={batch}']
        pythons = {'ours': sys.executable, **dict.fromkeys(args.against.split(','), args.python)}
        found = turns.take_turns(f'{case}, batch {batch}', pythons, rest, 'img/s', args.repeats)
        abouts = [one['about'] for runs in found.values() for one in runs]
        turns.check_equal(case, [about['parameters'] for about in abouts])
        counts = ', '.join(f'{net} {count:,}' for net, count in abouts[0]['parameters'].items())
        work = turns.arithmetic(found['ours'], [about['peak'] for about in abouts], abouts[0]['flops'])
        print(f'{case}: parameters {counts}; ours {work}', flush=True)


if __name__ == '__main__':
    main()
