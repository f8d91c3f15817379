"""The VAE-GAN method, tiny: its three losses, and that they are taken at once."""

import copy
import functools

import jax
import numpy as np
import pytest
import scipy.special

from productgen.config import UserError
from productgen.core.rng import sample_keys, stream, streams
from productgen.methods import Problem, Reconstructing
from productgen.methods.vae import normal
from productgen.methods.vaegan import NETS, make

RESOLUTION, LABELS, BATCH = (8, 12), (3,), 4
KEY = jax.random.key(0)
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.1, 'b1': 0.0, 'b2': 0.99, 'eps': 1.0}
CONFIG = {
    'method': {'name': 'vaegan', 'gamma': 0.05, 'similarity': 1, 'ema_kimg': 0.01, 'ema_rampup': 0.0},
    'model': {
        'latent': 'vector',
        'z_dim': 5,
        'downsampling': 0,
        'channels': 4,
        'channel_max': 4,
        'blocks': 0,
        'groups': 2,
        'dropout': 0.0,
    },
    'optim': {name: ADAM for name in NETS},
}


@functools.cache
def tiny(accumulate=1, still='', **changes):
    """The method, with fields such as method__gamma changed, and the nets in `still` not learning."""
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    for name in filter(None, still.split(',')):
        config['optim'][name] = ADAM | {'learning_rate': 0.0}
    return make(config, Problem(RESOLUTION, LABELS, BATCH, accumulate, 100))


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8)
    label = rng.integers(-1, 3, (BATCH, 1)).astype(np.int32)
    return {'image': image, 'label': label, 'seed': np.arange(BATCH, dtype=np.int32)}


@functools.cache
def compiled(function, **changes):
    return jax.jit(getattr(tiny(**changes), function))


def trained(steps=2, **changes):
    state, metrics = compiled('init')(stream(KEY, 'init'), batch_of()), None
    for step in range(steps):
        state, metrics = compiled('update', **changes)(state, batch_of(step), jax.random.fold_in(KEY, step))
    return state, metrics


def same(a, b):
    return all(np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_the_losses_are_those_of_the_paper():
    method, (state, _) = tiny(), trained(2)
    batch, rng = batch_of(5), jax.random.key(3)
    _, metrics = compiled('update')(state, batch, rng)
    params = {name: {'params': jax.device_get(state.nets[name].params)} for name in NETS}
    keys, label = sample_keys(rng, np.arange(BATCH)), np.eye(4)[batch['label'][:, 0]][:, :3]
    x = np.float32(batch['image'] / 127.5 - 1)
    mean, log_variance = method.encoder.apply(params['encoder'], x, label)
    z = mean + np.exp(log_variance / 2) * normal(streams(keys, 'posterior'), (5,))
    pictures = [
        x,
        *(
            np.tanh(method.decoder.apply(params['decoder'], one, label))
            for one in (z, normal(streams(keys, 'prior'), (5,)))
        ),
    ]
    judged = [method.discriminator.apply(params['discriminator'], picture, label) for picture in pictures]
    real, rebuilt, drawn = (scipy.special.expit(np.float64(logit)) for logit, _ in judged)
    prior = 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance, 1)
    similarity = 0.5 * np.sum(np.square(judged[0][1] - judged[1][1]), (1, 2, 3))
    np.testing.assert_allclose(metrics['loss/encoder'], np.mean(prior + similarity), rtol=1e-4)
    game = -np.log(real) - 0.5 * np.log(1 - rebuilt) - 0.5 * np.log(1 - drawn)
    np.testing.assert_allclose(metrics['loss/discriminator'], np.mean(game), rtol=1e-4)
    fooling = -0.5 * np.log(rebuilt) - 0.5 * np.log(drawn)
    np.testing.assert_allclose(metrics['loss/decoder'], np.mean(0.05 * similarity + fooling), rtol=1e-4)
    np.testing.assert_allclose(metrics['kl'], np.mean(prior), rtol=1e-4)
    np.testing.assert_allclose(metrics['mse'], np.mean(np.square(x - pictures[1])), rtol=1e-4)


@pytest.mark.parametrize('still', NETS)
def test_all_three_gradients_are_taken_at_the_same_weights(still):
    """So in the first update, a net moves as it does when another one stands still."""
    before, after, other = trained(0)[0].nets, trained(1)[0].nets, trained(1, still=still)[0].nets
    for name in NETS:
        if name == still:
            assert same(before[name].params, other[name].params)
            assert not same(before[name].params, after[name].params)
        else:
            assert same(after[name].params, other[name].params)


def test_the_game_moves_the_decoder_and_not_the_encoder():
    """Without gamma the decoder plays the game alone; the encoder's gradient does not know gamma at all."""
    with_gamma, without = trained(1)[0].nets, trained(1, method__gamma=0.0)[0].nets
    assert same(with_gamma['encoder'].params, without['encoder'].params)
    assert not same(with_gamma['decoder'].params, without['decoder'].params)
    assert same(with_gamma['discriminator'].params, without['discriminator'].params)


def test_parts_of_a_batch_give_what_the_whole_gives():
    whole, parts = (trained(2, accumulate=n)[0] for n in (1, 2))
    for name in NETS:
        assert same(whole.nets[name].params, parts.nets[name].params), name


def test_averages_are_kept_of_the_nets_that_make_pictures():
    nets = trained(1)[0].nets
    assert nets['encoder'].ema is not None and nets['decoder'].ema is not None and nets['discriminator'].ema is None


def test_samples_follow_temperature_and_label():
    state, sample = trained(1)[0], compiled('sample')
    rows = {'seed': np.arange(BATCH, dtype=np.int32), 'label': np.zeros((BATCH, 1), np.int32)}
    still = sample(state, rows | {'truncation': np.zeros(BATCH, np.float32)}, KEY)['image']
    assert still.shape == (BATCH, *RESOLUTION, 3) and np.std(still, 0).max() < 1e-6
    image = sample(state, rows, KEY)['image']
    assert np.std(image, 0).max() > 1e-3
    assert np.any(sample(state, rows | {'label': rows['label'] + 1}, KEY)['image'] != image)


def test_reconstructions_need_no_chance():
    state, batch = trained(1)[0], batch_of()
    a, b = (compiled('reconstruct')(state, batch, jax.random.key(seed)) for seed in (0, 1))
    assert isinstance(tiny(), Reconstructing) and a.shape == (BATCH, *RESOLUTION, 3)
    np.testing.assert_array_equal(a, b)
    assert np.any(compiled('reconstruct')(state, batch_of(1), KEY) != a)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'method__similarity': 0}, 'method.similarity: .*choose 1 to 1'),
        ({'method__similarity': 2}, 'method.similarity: .*halves 1 times'),
        ({'method__gamma': -1.0}, 'method.gamma'),
        ({'model__groups': 3}, 'model.groups'),
        ({'optim__encoder': {'name': 'adam'}}, 'optim.encoder.learning_rate: missing'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, message):
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    with pytest.raises(UserError, match=message):
        make(config, Problem(RESOLUTION, LABELS, BATCH, 1, 100))
