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

import numpy as np
import turns

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
    import jax
    from built import prepared

    from configs import stylegan
    from productgen.core.sharding import jit_sample, put_batch
    from productgen.methods.base import parameter_counts

    model = prepared(stylegan.get_config('paper256'), {'data.resolution': str(SIZE), 'model.bf16_levels': 0})
    nets, method, mesh = model.config.model, model.method, model.mesh
    assert (nets.channel_base, nets.channel_max) == (BASE, MOST)
    assert (nets.z_dim, nets.w_dim, nets.mapping_layers) == (LATENT, LATENT, LAYERS)
    state, key, seed = jax.block_until_ready(model.initial_state()), jax.random.key(1), 0
    generate = jit_sample(lambda state, batch, key: method.generate(state, batch, key, batch), mesh)

    def make(count):
        nonlocal seed
        rows = {'seed': np.arange(seed, seed + count, dtype=np.int32), 'label': np.zeros((count, 0), np.int32)}
        seed += count
        rows['truncation'] = np.full(count, PSI, np.float32)
        images = generate(state, put_batch(mesh, rows), key)
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
