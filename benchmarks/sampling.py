"""Compares the speed of sampling from StyleGAN2's generator with NVIDIA's stylegan2-ada-pytorch.

  git clone https://github.com/NVlabs/stylegan2-ada-pytorch SCRATCH/peer    # outside of this project (licence)
  python benchmarks/sampling.py --peer=SCRATCH/peer --python=VENV/bin/python

Both generate images at 256 x 256 with the published generator (channel base 16384, at most 512 channels, z and w of
512, 8 mapping layers; parameter counts must be equal), with truncation and new noise for every image, in float32. Ours
is the sampling function of the method, jitted as in `--mode=sample`. Latency is measured on single images, as median,
10th and 90th percentile over `--singles` of them; the rate on batches of `--batch`. The two alternate, each repeat in a
new process; the first image, which includes our compilation, is reported separately, and the first batch is a warm-up.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import turns

ROOT = Path(__file__).resolve().parent.parent
SIZE, BASE, MOST, LATENT, LAYERS, PSI = 256, 16384, 512, 512, 8, 0.7


def measured(make: Callable[[int], None], batch: int, batches: int, singles: int) -> dict:
    """Measures rate and latency.

    Args:
      make: generates the given number of new images and waits for them.
      batch: images per batch.
      batches: number of timed batches.
      singles: number of images generated one at a time.
    """
    began = time.perf_counter()
    make(1)
    first = time.perf_counter() - began

    def timed(count, times):
        make(count)
        seconds = []
        for _ in range(times):
            began = time.perf_counter()
            make(count)
            seconds.append(time.perf_counter() - began)
        return seconds

    low, middle, high = np.percentile(timed(1, singles), (10, 50, 90))
    rate = batch / statistics.median(timed(batch, batches))
    one = {'one': middle, 'one, 10th percentile': low, 'one, 90th percentile': high}
    return {'rate': rate, 'first image after': first, **one}


def ours(batch: int, batches: int, singles: int) -> dict:
    """Times the sampling function of our method."""
    sys.path.insert(0, str(ROOT))
    import jax

    from configs import stylegan
    from productgen.config import to_dict
    from productgen.core.sharding import jit_sample, make_mesh, put_batch, replicated
    from productgen.methods import METHODS, Problem
    from productgen.methods.base import parameter_counts

    config = to_dict(stylegan.get_config('paper256'))
    model = config['model']
    assert (model['channel_base'], model['channel_max']) == (BASE, MOST)
    assert (model['z_dim'], model['w_dim'], model['mapping_layers']) == (LATENT, LATENT, LAYERS)
    model['bf16_levels'] = 0
    mesh = make_mesh()
    method = METHODS['stylegan2'](
        config, Problem((SIZE, SIZE), (), config['train']['batch_size'], 1, 10_000, mesh.size)
    )
    rows = {'image': np.zeros((1, SIZE, SIZE, 3), np.uint8), 'label': np.zeros((1, 0), np.int32)}
    state = jax.block_until_ready(jax.jit(method.init, out_shardings=replicated(mesh))(jax.random.key(0), rows))
    sample, key, seed = jit_sample(method.sample, mesh), jax.random.key(1), 0

    def make(count):
        nonlocal seed
        rows = {'seed': np.arange(seed, seed + count, dtype=np.int32), 'label': np.zeros((count, 0), np.int32)}
        seed += count
        images = sample(state, put_batch(mesh, rows | {'truncation': np.full(count, PSI, np.float32)}), key)['image']
        assert np.asarray(images).shape == (count, SIZE, SIZE, 3)

    found = measured(make, batch, batches, singles)
    return found | {'about': {'parameters': parameter_counts(state)['generator']}}


def peer(batch: int, batches: int, singles: int, path: str) -> dict:
    """As `ours`, for the generator of the peer."""
    sys.path.insert(0, path)
    import torch
    from training.networks import Generator

    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True  # as XLA does
    blocks = {'channel_base': BASE, 'channel_max': MOST}
    mapping = {'num_layers': LAYERS}
    g = Generator(LATENT, 0, LATENT, SIZE, 3, mapping_kwargs=mapping, synthesis_kwargs=blocks)
    g = g.eval().requires_grad_(False).to(device)

    def make(count):
        z = torch.randn(count, LATENT, device=device)
        images = g(z, None, truncation_psi=PSI, noise_mode='random').cpu().numpy()
        assert images.shape == (count, 3, SIZE, SIZE)

    found = measured(make, batch, batches, singles)
    return found | {'about': {'parameters': sum(p.numel() for p in g.parameters())}}


def main() -> None:
    parser = turns.parser(__doc__, 'peer', peer='stylegan2-ada-pytorch')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--batches', type=int, default=2, help='timed batches')
    parser.add_argument('--singles', type=int, default=30, help='images generated one at a time')
    args = parser.parse_args()
    sizes = args.batch, args.batches, args.singles
    if args.side:
        print(json.dumps(ours(*sizes) if args.side == 'ours' else peer(*sizes, args.peer)))
        return
    rest = [__file__, f'--peer={args.peer}', '--python=', f'--batch={args.batch}', f'--batches={args.batches}']
    rest.append(f'--singles={args.singles}')
    sides = {'ours': sys.executable, 'peer': args.python}
    found = turns.take_turns(f'batches of {args.batch}', sides, rest, 'img/s', args.repeats)
    counts = [one['about']['parameters'] for runs in found.values() for one in runs]
    turns.check_equal('generators', counts)
    ratios = [peer['one'] / own['one'] for own, peer in zip(found['ours'], found['peer'], strict=True)]
    print(f'single images, {counts[0]:,} parameters: ratio of latencies {turns.spread(ratios)}', flush=True)


if __name__ == '__main__':
    main()
