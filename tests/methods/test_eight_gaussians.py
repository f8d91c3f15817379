"""A ring of eight Gaussians in the plane: a generator that collapses covers one or two of them.

The toy problem of Metz et al., "Unrolled Generative Adversarial Networks", 2017, with the adversarial method itself: a
point is an image of one pixel, its coordinates are two of the colours.
"""

import jax
import numpy as np

from configs import gan
from productgen.config import to_dict
from productgen.core.pixels import to_float
from productgen.methods import Problem
from productgen.model.config import resolve

MODES, RADIUS, SPREAD, BATCH, STEPS = 8, 0.7, 0.02, 256, 3000
ANGLES = 2 * np.pi * np.arange(MODES) / MODES
CENTRES = RADIUS * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def points(rng, count):
    """`count` points as images [N, 1, 1, 3]; the third colour is always grey."""
    xy = CENTRES[rng.integers(0, MODES, count)] + SPREAD * rng.normal(size=(count, 2))
    image = np.concatenate([xy, np.zeros((count, 1))], 1)[:, None, None]
    return np.clip(np.round((image + 1) * 127.5), 0, 255).astype(np.uint8)


def test_all_modes_are_covered():
    config = to_dict(gan.get_config())
    config['method'].update(loss='relativistic', penalty='r1_r2', penalty_weight='0.1', ema_kimg='10')
    config['model'].update(z_dim=2, generator_width=64, discriminator_width=64, dropout=0.0)
    for net in config['optim'].values():
        net.update(learning_rate=1e-3, b1=0.0, b2=0.99)
    config = resolve(config)
    method = config.family.make(config, Problem((1, 1), (), BATCH, 1, STEPS))

    rng, key = np.random.default_rng(0), jax.random.key(0)
    empty = np.zeros((BATCH, 0), np.int32)
    state = jax.jit(method.init)(key, {'image': points(rng, BATCH), 'label': empty}, {})

    @jax.jit
    def train(state, images):
        step = lambda state, image: method.update(
            state, {'image': image, 'label': empty}, jax.random.fold_in(key, state.step)
        )
        return jax.lax.scan(lambda state, image: (step(state, image)[0], None), state, images)[0]

    for _ in range(STEPS // 500):
        state = train(state, points(rng, 500 * BATCH).reshape(500, BATCH, 1, 1, 3))

    seeds = np.arange(4000, dtype=np.int32)
    rows = {'seed': seeds, 'label': np.zeros((4000, 0), np.int32)}
    fakes = np.asarray(jax.jit(method.generate)(state, rows, key, {}))[:, 0, 0]
    distance = np.linalg.norm(np.asarray(fakes)[:, None, :2] - CENTRES, axis=-1)
    covered = np.bincount(distance.argmin(1)[distance.min(1) < 4 * SPREAD], minlength=MODES) / len(seeds)
    print(covered, covered.sum(), np.abs(fakes[:, 2]).max())
    assert covered.min() > 0.04, covered  # 0.125 each would be ideal
    assert covered.sum() > 0.8, covered
    assert np.abs(fakes[:, 2]).mean() < 0.05
    real = to_float(points(rng, 4000))[:, 0, 0, :2]
    assert np.abs(np.cov(np.asarray(fakes)[:, :2].T) - np.cov(np.asarray(real).T)).max() < 0.1
