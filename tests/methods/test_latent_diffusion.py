"""Latent diffusion: who is trained when, on what codes, and what reaches the pictures."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.methods import Problem
from productgen.methods.latent_diffusion import FROZEN, make

RESOLUTION, BATCH = (8, 12), 8
KEY = jax.random.key(0)
ADAM = {'name': 'adam', 'learning_rate': 0.01, 'eps': 0.01}
CONFIG = {
    'method': {
        'name': 'latent_diffusion',
        'schedule': 'cosine',
        'steps': 50,
        'prediction': 'v',
        'min_snr': 0.0,
        'label_dropout': 0.1,
        'sampler': 'ddim',
        'eta': 0.0,
        'ema_kimg': 0.02,
        'ema_rampup': 0.0,
        'autoencoder_share': 0.0,
        'vae': {
            'name': 'vae',
            'likelihood': 'gaussian',
            'scale': 0.3,
            'learn_scale': True,
            'beta': 0.5,
            'kl_weight': '1',
            'anneal': 1.0,
            'free_bits': 0.0,
            'ema_kimg': 0.02,
            'ema_rampup': 0.0,
        },
    },
    'model': {
        'unet': {
            'patch': 1,
            'channels': 4,
            'multipliers': '1',
            'blocks': 1,
            'attention': '',
            'heads': 1,
            'dropout': 0.0,
        },
        'vae': {
            'latent': 'map',
            'z_dim': 2,
            'downsampling': 2,
            'channels': 4,
            'channel_max': 4,
            'blocks': 0,
            'groups': 2,
            'dropout': 0.0,
        },
    },
    'optim': {'unet': ADAM, 'vae': ADAM},
    'sample': {'guidance': 1.0, 'denoising_steps': 4},
}


def tiny(share=0.0, steps=4, resolution=RESOLUTION, accumulate=1, **changes):
    """The method, with fields such as method__vae__beta changed."""
    config = copy.deepcopy(CONFIG)
    config['method']['autoencoder_share'] = share
    for field, value in changes.items():
        *path, name = field.split('__')
        functools.reduce(dict.__getitem__, path, config)[name] = value
    return make(config, Problem(resolution, (3,), BATCH, accumulate, steps))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8)
    return {'image': image, 'label': rng.integers(-1, 3, (BATCH, 1), np.int32)}


@functools.cache
def history(share):
    """States of four updates, the first included, and the metrics of each."""
    method = tiny(share)
    states, metrics = [jax.jit(method.init)(stream(KEY, 'init'), batch_of())], []
    update = jax.jit(method.update)
    for step in range(4):
        state, row = update(states[-1], batch_of(step), jax.random.fold_in(KEY, step))
        states.append(state)
        metrics.append(jax.device_get(row))
    return jax.device_get(states), metrics


def moved(share, name):
    """Whether the weights and the averages of a network moved, in each of four updates."""
    nets = [state.nets[name] for state in history(share)[0]]
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    of = lambda part: [not same(getattr(a, part), getattr(b, part)) for a, b in zip(nets, nets[1:], strict=False)]
    return of('params'), of('ema')


@pytest.mark.parametrize(
    'share, vae, unet',
    [
        (0.5, [True, True, False, False], [False, False, True, True]),
        (FROZEN, [False] * 4, [True] * 4),
    ],
)
def test_each_network_is_trained_in_its_time(share, vae, unet):
    assert moved(share, 'vae') == (vae, vae)
    assert moved(share, 'unet') == (unet, unet)
    for step, metrics in enumerate(history(share)[1]):
        assert (metrics['loss/unet'] > 0) == unet[step]
        assert (metrics['mse/vae'] > 0) == vae[step] if share != FROZEN else 'mse/vae' not in metrics
    # What is never trained has no optimiser's copies.
    assert bool(jax.tree.leaves(history(share)[0][0].nets['vae'].opt)) == (share != FROZEN)


def test_parts_of_a_batch_give_what_the_whole_gives():
    """In the first stage and in the second."""
    update = jax.jit(tiny(0.5, accumulate=2).update)
    for step, name in ((0, 'vae'), (3, 'unet')):
        before, whole = history(0.5)[0][step : step + 2]
        parts, _ = update(before, batch_of(step), jax.random.fold_in(KEY, step))
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before.nets[name].params, whole.nets[name].params)
        # Far above the tolerance; most of the U-Net's layers wait for others that begin at zero.
        assert np.max(jax.tree.leaves(change)) > 1e-3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), parts.nets[name].params, whole.nets[name].params
        )


def test_codes_are_scaled_by_their_deviation():
    """The first variance is that of the first batch's codes, over all components (appendix G)."""
    method, states = tiny(FROZEN), history(FROZEN)[0]
    keys = sample_keys(stream(jax.random.fold_in(KEY, 0), 'unet'), jnp.arange(BATCH))
    image = to_float(jnp.asarray(batch_of(0)['image']))
    code = method._encode(states[0].nets['vae'].ema, image, keys)
    mean, log_variance = method.autoencoder.encoder.apply({'params': states[0].nets['vae'].ema['encoder']}, image, None)
    assert code.shape == (BATCH, 4, 6, 2)
    # A drawn code is a standard deviation away from its mean.
    deviations = (code - mean) / np.exp(log_variance / 2)
    assert abs(np.mean(deviations)) < 0.2 and abs(np.std(deviations) - 1) < 0.2
    np.testing.assert_allclose(states[1].nets['unet'].stats['code_variance'], np.var(code), rtol=1e-4)
    changes = [float(s.nets['unet'].stats['code_variance']) for s in states[1:]]
    assert all(0 < abs(b / a - 1) < 0.01 for a, b in zip(changes, changes[1:], strict=False))


def test_pictures_are_decoded_from_scaled_codes():
    """The sampled code is that of the denoiser times the deviation; the decoder's average makes it a picture."""
    method, state = tiny(FROZEN), history(FROZEN)[0][-1]
    batch = {'seed': np.arange(3, dtype=np.int32), 'label': np.zeros((3, 1), np.int32)}
    image = jax.jit(method.sample)(state, batch, KEY)['image']
    code = jax.jit(method.denoiser.draw, static_argnums=1)(
        state.nets['unet'].ema, (4, 6, 2), batch['label'], sample_keys(KEY, batch['seed'])
    )
    decoder = {'params': state.nets['vae'].ema['decoder']}
    expected = method.autoencoder.decoder.apply(
        decoder, code * np.sqrt(state.nets['unet'].stats['code_variance']), None
    )
    np.testing.assert_allclose(image, np.clip(expected, -1, 1), atol=1e-4)


def test_figures_and_reconstructions_of_held_out_pictures():
    method, state = tiny(FROZEN), history(FROZEN)[0][-1]
    batch = batch_of(9) | {'seed': np.arange(BATCH, dtype=np.int32)}
    figures = jax.jit(method.evaluate)(state, batch, KEY)
    assert {'loss', 'vae_mse', 'vae_kl'} <= figures.keys()
    assert all(x.shape == (BATCH,) and np.isfinite(x).all() for x in figures.values())
    assert method.reconstruct(state, batch, KEY).shape == (BATCH, *RESOLUTION, 3)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'share': 1.0}, 'method.autoencoder_share'),
        ({'share': -0.5}, 'method.autoencoder_share'),
        ({'share': 0.5, 'steps': None}, 'train.duration'),
        ({'method__prediction': 'epsilon'}, "method.prediction.*'v'"),
        ({'model__vae__latent': 'vector'}, 'model.vae.latent'),
        ({'model__unet__multipliers': '1,1,1'}, 'data.resolution: 12x8 .* 16x8'),
        ({'method__vae__beta': -1.0}, 'method.beta'),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused_by_field(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_an_autoencoder_that_is_never_trained_must_come_from_somewhere():
    config = copy.deepcopy(CONFIG) | {'train': {'init_from': ''}}
    config['method']['autoencoder_share'] = FROZEN
    problem = Problem(RESOLUTION, (3,), BATCH)
    with pytest.raises(UserError, match='train.init_from'):
        make(config, problem)
    config['train']['init_from'] = 'runs/vae'
    assert make(config, problem).first == 0
