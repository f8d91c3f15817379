"""Compares the speed of StyleGAN2's training step with NVIDIA's stylegan2-ada-pytorch.

  git clone https://github.com/NVlabs/stylegan2-ada-pytorch SCRATCH/peer    # outside of this project (licence)
  python benchmarks/stylegan2.py --peer=SCRATCH/peer --python=VENV/bin/python --case=cpu32,cpu64

VENV has PyTorch and the dependencies of the peer (scipy, requests, click, tqdm, psutil). Both train the same networks
on random images in memory, with the same losses, R1 every 16 steps and averaged weights, without augmentation. On CPUs
ours splits batches into `parts` (train.accumulate), which stay in the caches; the peer uses full batches, with which it
is faster, and with --in_parts also the same parts. The implementations alternate, each repeat in a new process, with 17
steps for warm-up (compilation, or the choice of kernels) and then full periods of 16. Printed are images per second,
the ratio of each repeat, the floating-point operations per image as XLA counts them, and the fraction of the peak: the
fastest product of two float32 matrices (bfloat16 on GPUs). The peer computes in float32 on CPUs and in its mixed
precision on GPUs.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING

import turns

if TYPE_CHECKING:
    from productgen.model.prepared import Prepared

PERIOD, PATH_PERIOD = 16, 4  # steps between R1 penalties, and between path length penalties


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration of both implementations.

    Attributes:
      size: resolution.
      batch: images per step.
      base: channels times resolution.
      most: maximum number of channels.
      latent: width of z and w.
      path: weight of the path length penalty, applied every 4 steps; 0 for none.
      half: number of finest levels in 16 bits.
      periods: number of timed periods of 16 steps.
      parts: number of parts of a batch in our implementation.
      mapping: layers of the mapping network.
    """

    size: int
    batch: int
    base: int
    most: int
    latent: int
    path: float = 0.0
    half: int = 0
    periods: int = 2
    parts: int = 1
    mapping: int = 2


CASES = {
    'cpu32': Case(32, 32, 1024, 128, 128, parts=4),
    'cpu32w': Case(32, 32, 2048, 128, 128, parts=4),
    'cpu64': Case(64, 16, 1024, 128, 128, parts=2),
    'cpu64w': Case(64, 16, 2048, 128, 128, parts=2),
    'gpu128': Case(128, 32, 16384, 512, 512, 2.0, 4, 8, mapping=8),
    'gpu256': Case(256, 32, 16384, 512, 512, 2.0, 4, 8, mapping=8),
    'gpu256b64': Case(256, 64, 16384, 512, 512, 2.0, 4, 8, mapping=8),
    'gpu512': Case(512, 16, 32768, 512, 512, 2.0, 4, 8, mapping=8),
}


def _model(case: Case, parts: int, penalty: bool = True, path: bool = True) -> Prepared:
    """Builds our method, with the given lazy regularisers and number of parts of a batch."""
    from built import prepared

    from configs import stylegan

    model = {'z_dim': case.latent, 'w_dim': case.latent, 'channel_base': case.base, 'channel_max': case.most}
    model |= {'mapping_layers': case.mapping, 'bf16_levels': case.half}
    method = {'penalty': 'r1' if penalty else 'none', 'penalty_weight': '1', 'penalty_interval': PERIOD}
    method |= {'path_weight': case.path if path else 0.0, 'path_interval': PATH_PERIOD}
    method |= {'mixing': 0.9 if case.path else 0.0}
    train = {'batch_size': case.batch, 'accumulate': parts, 'duration': '10000steps'}
    sections = {'model': model, 'method': method, 'train': train, 'data': {'resolution': str(case.size)}}
    changes = {f'{name}.{field}': value for name, section in sections.items() for field, value in section.items()}
    return prepared(stylegan.get_config(), changes)


def _arithmetic(case: Case) -> float:
    """FLOPs per image: of an update without regularisers, plus those of each regulariser divided by its interval.

    XLA counts the body of a loop once, so the batch is not split here.
    """

    def count(penalty: bool, path: bool) -> float:
        return _model(case, 1, penalty, path).lower_update().cost_analysis()['flops'] / case.batch

    plain = count(False, False)
    regularised = plain + (count(True, False) - plain) / PERIOD
    return regularised + ((count(False, True) - plain) / PATH_PERIOD if case.path else 0.0)


def ours(case: Case) -> dict:
    """Images per second, and seconds until the end of the first step."""
    import jax
    import jax.numpy as jnp
    from built import random_batch

    model = _model(case, case.parts)
    batch, key, first = random_batch(model), jax.random.key(1), 0.0
    began = time.perf_counter()
    state, update = model.initial_state(), model.lower_update().compile()
    for step in range(PERIOD + 1 + case.periods * PERIOD):
        if step == PERIOD + 1:
            jax.block_until_ready(state)
            start = time.perf_counter()
        state, metrics = update(state, batch, key)
        if not step:
            jax.block_until_ready(metrics)
            first = time.perf_counter() - began
    jax.block_until_ready(state)
    rate = case.periods * PERIOD * case.batch / (time.perf_counter() - start)
    matrix = jnp.ones((turns.MATRIX, turns.MATRIX), jnp.float32 if jax.default_backend() == 'cpu' else jnp.bfloat16)
    multiply = jax.jit(jnp.matmul)
    about = {'flops': _arithmetic(case)}
    about['peak'] = turns.peak(lambda: jax.block_until_ready(multiply(matrix, matrix)))
    return {'rate': rate, 'first step after': first, 'about': about}


def peer(case: Case, path: str, parts: int) -> dict[str, float]:
    """As `ours`, with networks and losses of stylegan2-ada-pytorch, in the order of its training loop."""
    sys.path.insert(0, path)
    import copy

    import torch
    from training.loss import StyleGAN2Loss
    from training.networks import Discriminator, Generator

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = True
    half = case.half if device.type == 'cuda' else 0
    shape = {'c_dim': 0, 'img_resolution': case.size, 'img_channels': 3}
    blocks = {'channel_base': case.base, 'channel_max': case.most, 'num_fp16_res': half}
    blocks['conv_clamp'] = 256 if half else None
    mapping = {'num_layers': case.mapping}
    g = Generator(z_dim=case.latent, w_dim=case.latent, mapping_kwargs=mapping, synthesis_kwargs=blocks, **shape)
    g = g.train().requires_grad_(False).to(device)
    d = (
        Discriminator(epilogue_kwargs={'mbstd_group_size': 4}, **blocks, **shape)
        .train()
        .requires_grad_(False)
        .to(device)
    )
    average = copy.deepcopy(g).eval()
    loss = StyleGAN2Loss(
        device, g.mapping, g.synthesis, d, style_mixing_prob=0.9 if case.path else 0, r1_gamma=1, pl_weight=case.path
    )
    phases = []
    for name, net, interval in (('G', g, PATH_PERIOD if case.path else 0), ('D', d, PERIOD)):
        ratio = interval / (interval + 1) if interval else 1
        adam = torch.optim.Adam(net.parameters(), lr=0.0025 * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)
        phases.append((f'{name}main', net, adam, 1))
        if interval:
            phases.append((f'{name}reg', net, adam, interval))
    real = torch.rand(case.batch, 3, case.size, case.size, device=device) * 2 - 1
    label = torch.zeros(case.batch, 0, device=device)
    wait = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
    began, first = time.perf_counter(), 0.0
    for step in range(PERIOD + 1 + case.periods * PERIOD):
        if step == PERIOD + 1:
            wait()
            start = time.perf_counter()
        for name, net, adam, interval in phases:
            if step % interval:
                continue
            adam.zero_grad(set_to_none=True)
            net.requires_grad_(True)
            z = torch.randn(case.batch, case.latent, device=device)
            for image, code, latent in zip(real.chunk(parts), label.chunk(parts), z.chunk(parts), strict=True):
                loss.accumulate_gradients(
                    phase=name, real_img=image, real_c=code, gen_z=latent, gen_c=code, sync=True, gain=interval
                )
            net.requires_grad_(False)
            for parameter in net.parameters():
                if parameter.grad is not None:
                    torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
            adam.step()
        with torch.no_grad():
            for mean, parameter in zip(average.parameters(), g.parameters(), strict=True):
                mean.copy_(parameter.lerp(mean, 0.999))
        if not step:
            wait()
            first = time.perf_counter() - began
    wait()
    return {'rate': case.periods * PERIOD * case.batch / (time.perf_counter() - start), 'first step after': first}


def main() -> None:
    parser = turns.parser(__doc__, 'peer', 'peer in parts', peer='stylegan2-ada-pytorch')
    parser.add_argument('--case', default='cpu32,cpu32w,cpu64,cpu64w', help=f'comma-separated: {", ".join(CASES)}')
    parser.add_argument('--in_parts', action='store_true', help='also time the peer with the same parts')
    args = parser.parse_args()
    if args.side:
        case = CASES[args.case]
        parts = case.parts if args.side == 'peer in parts' else 1
        print(json.dumps(ours(case) if args.side == 'ours' else peer(case, args.peer, parts)))
        return
    for name in args.case.split(','):
        rest = [__file__, f'--peer={args.peer}', '--python=', f'--case={name}']
        sides = {'ours': sys.executable, 'peer': args.python}
        sides |= {'peer in parts': args.python} if args.in_parts else {}
        found = turns.take_turns(name, sides, rest, 'img/s', args.repeats)['ours']
        work = turns.arithmetic(found, [one['about']['peak'] for one in found], found[0]['about']['flops'])
        print(f'{name}: ours {work}', flush=True)


if __name__ == '__main__':
    main()
