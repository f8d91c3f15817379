"""Compares the speed of R3GAN's training step with the reference implementation.

  git clone https://github.com/brownvc/R3GAN SCRATCH/r3gan    # outside of this project, because of its licence
  python benchmarks/r3gan.py --peer=SCRATCH/r3gan --python=VENV/bin/python --case=gpu64

VENV has PyTorch and the dependencies of the peer (scipy, requests, psutil, setuptools before 81). Both train the same
networks (parameter counts must be equal) on random images in memory, with the relativistic loss, both gradient
penalties in every step and averaged weights, without augmentation. They alternate, each repeat in a new process, with 3
steps for warm-up and then `--steps` timed ones. On GPUs both compute the finest levels in bfloat16, as in the paper.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable

import numpy as np
import turns

# Argument of configs/r3gan.py, batch size, resolution: FFHQ-64 as in the paper, and a size for two CPU cores.
CASES = {'gpu64': ('ffhq64', 256, 64), 'gpu64b64': ('ffhq64', 64, 64), 'cpu32': (None, 16, 32)}
WARM = 3


def timed(step: Callable[[], None], wait: Callable[[], None], batch: int, steps: int) -> dict[str, float]:
    """Images per second of `step`, and seconds until the end of the first one."""
    began = time.perf_counter()
    for i in range(WARM):
        step()
        if not i:
            wait()
            first = time.perf_counter() - began
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return {'rate': batch * steps / (time.perf_counter() - began), 'first step after': first}


def ours(case: str, steps: int) -> dict:
    """Times `method.update`."""
    import jax
    from built import prepared, random_batch

    from configs import r3gan
    from productgen.methods.base import parameter_counts

    name, size, side = CASES[case]
    changes = {'data.resolution': str(side), 'train.batch_size': size, 'train.duration': '10000steps'}
    changes |= {'method.augment.name': 'none', 'method.augment.transforms': '', 'method.augment.p': '0'}
    changes |= {'model.bf16_levels': 0} if jax.default_backend() == 'cpu' else {}
    model = prepared(r3gan.get_config(name), changes)
    batch, key = random_batch(model), jax.random.key(1)
    state, update = model.initial_state(), model.lower_update().compile()
    counts = parameter_counts(state)

    def step():
        nonlocal state
        state, _ = update(state, batch, key)

    return timed(step, lambda: jax.block_until_ready(state), size, steps) | {'about': counts}


def peer(case: str, path: str, steps: int, model: dict) -> dict:
    """Times the reference networks and training steps, in the order of its training loop; `model` is our section."""
    sys.path.insert(0, path)
    import copy

    import torch
    from R3GAN.Trainer import AdversarialTraining
    from training.networks import Discriminator, Generator

    _, size, side = CASES[case]
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
    sides = [4 << level for level in range(int(np.log2(side)) - 1)]
    widths = [min(model['channel_base'] // s, model['channel_max']) for s in sides]
    # Indices from the end: the finest stages.
    half = [-1 - i for i in range(model['bf16_levels'])] if device.type == 'cuda' else []
    shared = {'ExpansionFactor': 2, 'FP16Stages': half, 'c_dim': 0, 'img_resolution': side}

    def stages(widths):
        groups = [2 * width // model['group'] for width in widths]
        return {
            'WidthPerStage': widths,
            'CardinalityPerStage': groups,
            'BlocksPerStage': [model['blocks']] * len(widths),
        }

    g = Generator(NoiseDimension=model['z_dim'], **stages(widths), **shared).to(device).train()
    d = Discriminator(**stages(widths[::-1]), **shared).to(device).train()
    average, trainer = copy.deepcopy(g).eval(), AdversarialTraining(g, d)
    counts = {n: sum(p.numel() for p in net.parameters()) for n, net in (('generator', g), ('discriminator', d))}
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.0, 0.99), eps=1e-8) for net in (g, d)]
    real = torch.rand(size, 3, side, side, device=device) * 2 - 1
    label = torch.zeros(size, 0, device=device)

    def step():
        for net, other, adam in ((d, g, optimizers[1]), (g, d, optimizers[0])):
            z = torch.randn(size, model['z_dim'], device=device)
            net.requires_grad_(True)
            other.requires_grad_(False)
            adam.zero_grad(set_to_none=True)
            if net is d:
                trainer.AccumulateDiscriminatorGradients(z, real, label, 1.0)
            else:
                trainer.AccumulateGeneratorGradients(z, real, label)
            adam.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), g.parameters(), strict=True):
                mean.copy_(parameter.lerp(mean, 0.999))

    wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
    return timed(step, wait, size, steps) | {'about': counts}


def main() -> None:
    parser = turns.parser(__doc__, 'peer', peer='R3GAN')
    parser.add_argument('--case', default='cpu32', help=f'comma-separated: {", ".join(CASES)}')
    parser.add_argument('--steps', type=int, default=30, help='timed steps per repeat')
    parser.add_argument('--model', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        own = args.side == 'ours'
        print(json.dumps(ours(args.case, args.steps) if own else peer(args.case, args.peer, args.steps, args.model)))
        return
    from built import prepared

    from configs import r3gan

    for case in args.case.split(','):
        model = json.dumps(dataclasses.asdict(prepared(r3gan.get_config(CASES[case][0])).config.model))
        rest = [
            __file__,
            f'--model={model}',
            f'--peer={args.peer}',
            '--python=',
            f'--case={case}',
            f'--steps={args.steps}',
        ]
        sides = {'ours': sys.executable, 'peer': args.python}
        found = turns.take_turns(case, sides, rest, 'img/s', args.repeats)
        turns.check_equal(case, [one['about'] for runs in found.values() for one in runs])


if __name__ == '__main__':
    main()
