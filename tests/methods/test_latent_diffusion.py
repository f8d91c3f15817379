"""Latent diffusion: who is trained when, on what codes, and what reaches the pictures."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_unet import shrunk
from typed import sections_of

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.methods import Evaluable, Generates, Problem, Reconstructs
from productgen.methods.base import Stage
from productgen.methods.latent_diffusion import FAMILY, FROZEN, make

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
        'label_dropout': 0.5,
        'sampler': 'ddim',
        'eta': 0.0,
        'ema_kimg': 0.02,
        'ema_rampup': 0.5,
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
}


def tiny(share=0.0, steps=4, resolution=RESOLUTION, accumulate=1, **changes):
    """The method, with fields such as method__vae__beta changed."""
    config = copy.deepcopy(CONFIG)
    config['method']['autoencoder_share'] = share
    for field, value in changes.items():
        *path, name = field.split('__')
        functools.reduce(dict.__getitem__, path, config)[name] = value
    return make(sections_of(FAMILY, config), Problem(resolution, (3,), BATCH, accumulate, steps))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8)
    return {'image': image, 'label': rng.integers(-1, 3, (BATCH, 1), np.int32)}


@functools.cache
def compiled(share, accumulate=1):
    """The method with a smaller network, and its update: slow to compile, so once for all tests."""
    method = shrunk(tiny(share, accumulate=accumulate))
    return method, jax.jit(method.update)


@functools.cache
def history(share):
    """States of four updates, the first included, and the metrics of each."""
    method, update = compiled(share)
    states, metrics = [jax.jit(method.init)(stream(KEY, 'init'), batch_of(), {})], []
    for step in range(4):
        state, row = update(states[-1], batch_of(step), jax.random.fold_in(KEY, step))
        states.append(state)
        metrics.append(jax.device_get(row))
    return jax.device_get(states), metrics


@jax.jit
def encoded(params, batch, rng):
    """Keys of the rows and their codes."""
    keys = sample_keys(rng, jnp.arange(BATCH))
    return keys, tiny()._encode(params, to_float(batch['image']), keys)


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
        due = {name.rpartition('/')[2]: metric.weight for name, metric in metrics.items() if '/' in name}
        assert due == {'unet': unet[step]} | ({'vae': vae[step]} if share != FROZEN else {})
        assert all(np.isfinite(metric.value) for metric in metrics.values())
        assert all(metric.value == 0 for metric in metrics.values() if not metric.weight)
        assert (metrics['loss/unet'].value > 0) == unet[step]
        assert (metrics['mse/vae'].value > 0) == vae[step] if share != FROZEN else 'mse/vae' not in metrics
        assert metrics['code_std'].weight == 1
    # An autoencoder that is never trained has no optimiser state.
    assert bool(jax.tree.leaves(history(share)[0][0].nets['vae'].opt)) == (share != FROZEN)


def test_parts_of_a_batch_give_what_the_whole_gives():
    """In the first stage and in the second."""
    for step, name in ((0, 'vae'), (3, 'unet')):
        before, whole = history(0.5)[0][step : step + 2]
        parts, _ = compiled(0.5, accumulate=2)[1](before, batch_of(step), jax.random.fold_in(KEY, step))
        change = jax.tree.map(lambda a, b: np.abs(a - b).max(), before.nets[name].params, whole.nets[name].params)
        # Far above the tolerance; most of the U-Net's layers wait for others that begin at zero.
        assert np.max(jax.tree.leaves(change)) > 1e-3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), parts.nets[name].params, whole.nets[name].params
        )


def test_codes_are_scaled_by_their_deviation():
    """The first variance is that of the first batch's codes, over all components (appendix G)."""
    method, states = tiny(FROZEN), history(FROZEN)[0]
    vae, image = states[0].nets['vae'].ema, to_float(batch_of(0)['image'])
    _, code = encoded(vae, batch_of(0), stream(jax.random.fold_in(KEY, 0), 'unet'))
    mean, log_variance = jax.jit(method.autoencoder.encoder.apply)({'params': vae['encoder']}, image, None)
    assert code.shape == (BATCH, 4, 6, 2)
    # A drawn code is a standard deviation away from its mean.
    deviations = (code - mean) / np.exp(log_variance / 2)
    assert abs(np.mean(deviations)) < 0.2 and abs(np.std(deviations) - 1) < 0.2
    np.testing.assert_allclose(states[1].nets['unet'].stats['code_variance'], np.var(code), rtol=1e-4)
    changes = [float(s.nets['unet'].stats['code_variance']) for s in states[1:]]
    assert all(0 < abs(b / a - 1) < 0.01 for a, b in zip(changes, changes[1:], strict=False))


def test_the_first_variance_is_that_of_the_first_batch_of_its_stage():
    states = history(0.5)[0]
    _, code = encoded(states[2].nets['vae'].ema, batch_of(2), stream(jax.random.fold_in(KEY, 2), 'unet'))
    assert states[2].nets['unet'].stats['code_variance'] == 1
    np.testing.assert_allclose(states[3].nets['unet'].stats['code_variance'], np.var(code), rtol=1e-4)


def stirred(params):
    """Weights without the zeros at which layers begin, which hide what is dropped before them."""
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(0)
    return structure.unflatten([x + 0.2 * rng.normal(size=x.shape).astype(np.float32) for x in leaves])


def test_diffusion_learns_scaled_codes_of_the_averaged_encoder_that_the_same_update_has_moved():
    method, update = compiled(0.0)
    batch, old = batch_of(1), update(history(0.5)[0][0], batch_of(), KEY)[0]
    unet = old.nets['unet']
    old = old.replace(nets=old.nets | {'unet': unet.replace(params=stirred(unet.params))})
    new, metrics = update(old, batch, KEY)

    @jax.jit
    def losses(encoder, variance):
        """In training and outside it."""
        keys = sample_keys(stream(KEY, 'unet'), jnp.arange(BATCH))
        x0 = method._encode(encoder, to_float(batch['image']), keys) / jnp.sqrt(variance)
        of = lambda train: method.denoiser.losses(old.nets['unet'].params, x0, batch['label'], keys, train=train)
        return jnp.mean(of(True)), jnp.mean(of(False))

    variance = old.nets['unet'].stats['code_variance']
    close = lambda *args: list(np.isclose(metrics['loss/unet'].value, losses(*args), rtol=1e-5))
    assert close(new.nets['vae'].ema, variance) == [True, False]
    assert not close(new.nets['vae'].params, variance)[0] and not close(old.nets['vae'].ema, variance)[0]
    assert not close(new.nets['vae'].ema, 1.0)[0]


def test_averages_and_schedules_run_over_the_updates_of_their_own_stage():
    linear = {'name': 'sgd', 'learning_rate': 1.0, 'b1': 0.0, 'schedule': 'linear'}
    optim = {'unet': linear, 'vae': linear}
    method = tiny(0.4, steps=10, optim=optim)
    for tx, steps in ((method.autoencoder.tx, 4), (method.tx, 6)):
        opt, moved, update = tx.init(np.zeros((), np.float32)), [], jax.jit(tx.update)
        for _ in range(steps + 1):
            step, opt = update(np.float32(1), opt, np.float32(0))
            moved.append(-float(step))
        np.testing.assert_allclose(moved, 1 - np.arange(steps + 1) / steps, atol=1e-6)
    old, new = (state.nets['unet'] for state in history(0.5)[0][2:4])
    decay = 0.5**2  # of a half-life of half the first batch
    expected = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, old.ema, new.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), new.ema, expected)


def test_pictures_are_decoded_from_scaled_codes():
    """The sampled code is that of the denoiser times the deviation; the decoder's average makes it a picture."""
    method, state = compiled(FROZEN)[0], history(FROZEN)[0][-1]
    batch = {'seed': np.arange(3, dtype=np.int32), 'label': np.zeros((3, 1), np.int32)}
    knobs = {'denoising_steps': 4}
    vae = state.nets['vae']  # whose biases are zeros, without which the decoder's normalisation undoes any scale
    state = state.replace(nets=state.nets | {'vae': vae.replace(ema=stirred(vae.ema))})

    @jax.jit
    def pictures(nets, batch):
        draw = method.denoiser.draw
        code = draw(nets['unet'].ema, (4, 6, 2), batch['label'], sample_keys(KEY, batch['seed']), knobs)
        code *= jnp.sqrt(nets['unet'].stats['code_variance'])
        return method.autoencoder.decoder.apply({'params': nets['vae'].ema['decoder']}, code, None)

    image = jax.jit(lambda state, batch: method.generate(state, batch, KEY, knobs))(state, batch)
    np.testing.assert_allclose(image, np.clip(pictures(state.nets, batch), -1, 1), atol=1e-4)


def test_figures_and_reconstructions_of_held_out_pictures():
    method, state = compiled(FROZEN)[0], history(FROZEN)[0][-1]
    batch = batch_of(9) | {'seed': np.arange(BATCH, dtype=np.int32)}
    assert all(isinstance(method, protocol) for protocol in (Evaluable, Generates, Reconstructs))
    figures = jax.jit(method.evaluate)(state, batch, KEY)
    assert {'loss', 'vae_mse', 'vae_kl'} <= figures.keys()
    assert all(x.shape == (BATCH,) and np.isfinite(x).all() for x in figures.values())
    assert jax.eval_shape(method.reconstruct, state, batch, KEY).shape == (BATCH, *RESOLUTION, 3)
    nets, (keys, code) = state.nets, encoded(state.nets['vae'].ema, batch, KEY)
    x0 = code / np.sqrt(nets['unet'].stats['code_variance'])
    loss = jax.jit(method.denoiser.evaluate)(nets['unet'].ema, x0, batch['label'], keys)
    np.testing.assert_allclose(figures['loss'], loss, rtol=1e-4)
    assert not method.denoiser.bounded and method.autoencoder.problem.labels == ()


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


def test_an_autoencoder_that_is_never_trained_must_come_from_another_run():
    """`productgen.train.finetune` refuses a run without `train.init_from`."""
    method = tiny(FROZEN, steps=None)
    assert method.untrained == ('vae',) and method.first == 0
    assert tiny(0.0).untrained == tiny(0.5).untrained == ()


def test_the_first_stage_is_the_fraction_of_the_autoencoder():
    field = 'method.autoencoder_share'
    assert tiny(0.5).first_stage == Stage(2, field) and tiny(0.01).first_stage == Stage(1, field)
    assert tiny(0.99).first_stage == Stage(3, field)  # the second stage has at least one update
    assert tiny(0.0).first_stage.steps == tiny(FROZEN).first_stage.steps == 0


def test_conventions_are_those_of_the_autoencoder():
    assert tiny(method__vae__likelihood='discretized_logistic').conventions() == {
        'vae': {'likelihood': 'discretized_logistic'}
    }


def test_both_networks_take_the_batch_in_one_part():
    method, update = compiled(0.5, accumulate=2)
    method = method.in_one_part()
    assert (method.problem.accumulate, method.autoencoder.problem.accumulate) == (1, 1)
    args = history(0.5)[0][0], batch_of(), KEY
    assert 'scan' not in str(jax.make_jaxpr(method.update)(*args))
    assert 'scan' in str(update.trace(*args).jaxpr)


def test_frozen_weights_are_kept_in_the_state():
    frozen = {'net': {'w': np.ones(3, np.float32)}}
    state = jax.eval_shape(tiny().init, KEY, batch_of(), frozen)
    after, _ = jax.eval_shape(tiny().update, state, batch_of(), KEY)
    assert state.frozen['net']['w'].shape == after.frozen['net']['w'].shape == (3,)
