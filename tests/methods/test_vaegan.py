"""The VAE-GAN method, tiny: its three losses, taken at the same weights, and the settings of its critic."""

import copy
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from productgen.config import UserError, build
from productgen.core.optim import OptimConfig
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import create_net
from productgen.losses.penalties import PENALTIES
from productgen.methods import Generates, Problem, Reconstructs
from productgen.methods.base import Sections
from productgen.methods.vaegan import FAMILY, NETS

RESOLUTION, LABELS, BATCH = (8, 12), (3,), 4
KEY, GAMMA = jax.random.key(0), 0.05
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.1, 'b1': 0.0, 'b2': 0.99, 'eps': 1.0}
CONFIG = {
    'method': {'name': 'vaegan', 'gamma': GAMMA, 'similarity': 1, 'ema_kimg': 0.01, 'ema_rampup': 0.0},
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


def make(accumulate=1, **changes):
    """The method, with fields such as method__gamma changed."""
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    sections = Sections(
        method=build(FAMILY.method, config['method'], 'method'),
        model=build(FAMILY.model, config['model'], 'model'),
        optim={name: build(OptimConfig, section, f'optim.{name}') for name, section in config['optim'].items()},
    )
    return FAMILY.make(sections, Problem(RESOLUTION, LABELS, BATCH, accumulate, 100))


tiny = functools.cache(make)


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8)
    label = rng.integers(-1, 3, (BATCH, 1)).astype(np.int32)
    return {'image': image, 'label': label, 'seed': np.arange(BATCH, dtype=np.int32)}


@functools.cache
def compiled(function, **changes):
    return jax.jit(getattr(tiny(**changes), function))


@jax.jit
def paced_update(state, batch, rng, rates, gamma):
    """An update with another gamma and with the learning rates multiplied."""

    def paced(name, tx):
        def update(*args):
            moves, opt = tx.update(*args)
            return jax.tree.map(lambda x: rates[name] * x, moves), opt

        return tx._replace(update=update)

    method = tiny()
    return dataclasses.replace(
        method,
        config=types.SimpleNamespace(**vars(method.config) | {'gamma': gamma}),
        tx={name: paced(name, tx) for name, tx in method.tx.items()},
        critic=dataclasses.replace(method.critic, tx=paced('discriminator', method.critic.tx)),
    ).update(state, batch, rng)


@functools.cache
def trained(steps=2, accumulate=1, still='', gamma=GAMMA):
    """State and metrics after some updates, in which the network `still` does not learn."""
    state, metrics = compiled('init')(stream(KEY, 'init'), batch_of(), {}), None
    rates = {name: np.float32(name != still) for name in NETS}
    for step in range(steps):
        args = state, batch_of(step), jax.random.fold_in(KEY, step)
        if accumulate > 1:
            state, metrics = compiled('update', accumulate=accumulate)(*args)
        else:
            state, metrics = paced_update(*args, rates, np.float32(gamma))
    return jax.device_get((state, metrics))


def same(a, b):
    return all(np.allclose(x, y, rtol=1e-3, atol=1e-5) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_the_losses_are_those_of_the_paper():
    method, (state, _) = tiny(), trained(2)
    batch, rng = batch_of(5), jax.random.key(3)
    rates = {name: np.float32(1) for name in NETS}
    _, metrics = paced_update(state, batch, rng, rates, np.float32(GAMMA))
    metrics = {name: metric.value for name, metric in metrics.items() if metric.weight == 1}
    params = {name: {'params': state.nets[name].params} for name in NETS}
    keys, label = jax.jit(sample_keys)(rng, np.arange(BATCH)), np.eye(4)[batch['label'][:, 0]][:, :3]
    x = np.float32(batch['image'] / 127.5 - 1)

    @jax.jit
    def forward(params):
        mean, log_variance = method.encoder.apply(params['encoder'], x, label)
        z = mean + jnp.exp(log_variance / 2) * normal(streams(keys, 'posterior'), (5,))
        decode = lambda z: jnp.tanh(method.decoder.apply(params['decoder'], z, label))
        pictures = [x, decode(z), decode(normal(streams(keys, 'prior'), (5,)))]
        judged = [method.critic.network.apply(params['discriminator'], picture, label) for picture in pictures]
        return mean, log_variance, pictures, judged

    mean, log_variance, pictures, judged = jax.device_get(forward(params))
    real, rebuilt, drawn = (scipy.special.expit(np.float64(one.logit)) for one in judged)
    prior = 0.5 * np.sum(np.exp(log_variance) + mean**2 - 1 - log_variance, 1)
    similarity = 0.5 * np.sum(np.square(judged[0].features - judged[1].features), (1, 2, 3))
    np.testing.assert_allclose(metrics['loss/encoder'], np.mean(prior + similarity), rtol=1e-4)
    game = -np.log(real) - 0.5 * np.log(1 - rebuilt) - 0.5 * np.log(1 - drawn)
    np.testing.assert_allclose(metrics['loss/discriminator'], np.mean(game), rtol=1e-4)
    fooling = -0.5 * np.log(rebuilt) - 0.5 * np.log(drawn)
    np.testing.assert_allclose(metrics['loss/decoder'], np.mean(0.05 * similarity + fooling), rtol=1e-4)
    np.testing.assert_allclose(metrics['kl'], np.mean(prior), rtol=1e-4)
    np.testing.assert_allclose(metrics['mse'], np.mean(np.square(x - pictures[1])), rtol=1e-4)


@pytest.mark.parametrize('still', NETS)
def test_all_three_gradients_are_taken_at_the_same_weights(still):
    """So in the first update, a network moves as it does when another one is frozen."""
    before, after, other = trained(0)[0].nets, trained(1)[0].nets, trained(1, still=still)[0].nets
    for name in NETS:
        if name == still:
            assert same(before[name].params, other[name].params)
            assert not same(before[name].params, after[name].params)
        else:
            assert same(after[name].params, other[name].params)


def test_the_game_moves_the_decoder_and_not_the_encoder():
    """Without gamma the decoder only plays the game; the encoder's gradient does not depend on gamma."""
    with_gamma, without = trained(1)[0].nets, trained(1, gamma=0.0)[0].nets
    assert same(with_gamma['encoder'].params, without['encoder'].params)
    assert not same(with_gamma['decoder'].params, without['decoder'].params)
    assert same(with_gamma['discriminator'].params, without['discriminator'].params)


@pytest.mark.slow
def test_parts_of_a_batch_give_what_the_whole_gives():
    whole, parts = (trained(2, accumulate=n)[0] for n in (1, 2))
    for name in NETS:
        assert same(whole.nets[name].params, parts.nets[name].params), name


def test_averages_are_kept_of_the_networks_that_make_pictures():
    nets = trained(1)[0].nets
    assert nets['encoder'].ema is not None and nets['decoder'].ema is not None and nets['discriminator'].ema is None


def test_samples_follow_temperature_and_label():
    state, generate = trained(1)[0], compiled('generate')
    sample = lambda rows, **knobs: generate(state, rows, KEY, knobs)
    rows = {'seed': np.arange(BATCH, dtype=np.int32), 'label': np.zeros((BATCH, 1), np.int32)}
    still = sample(rows, truncation=np.zeros(BATCH, np.float32))
    assert still.shape == (BATCH, *RESOLUTION, 3) and np.std(still, 0).max() < 1e-6
    image = sample(rows)
    assert np.std(image, 0).max() > 1e-3
    assert np.any(sample(rows | {'label': rows['label'] + 1}) != image)
    np.testing.assert_allclose(sample(rows, truncation=np.ones(BATCH, np.float32)), image, atol=1e-6)
    assert isinstance(tiny(), Generates) and [knob.name for knob in tiny().knobs] == ['truncation']


def test_images_come_from_the_averages():
    state, batch = trained(1)[0], batch_of()
    zero = lambda field: {
        name: net.replace(**{field: jax.tree.map(np.zeros_like, getattr(net, field))})
        for name, net in state.nets.items()
        if name != 'discriminator'
    }
    for make_images in (
        lambda s: compiled('generate')(s, batch, KEY, {}),
        lambda s: compiled('reconstruct')(s, batch, KEY),
    ):
        images = make_images(state)
        np.testing.assert_array_equal(make_images(state.replace(nets=state.nets | zero('params'))), images)
        assert np.any(make_images(state.replace(nets=state.nets | zero('ema'))) != images)


def test_reconstructions_are_deterministic():
    state, batch = trained(1)[0], batch_of()
    a, b = (compiled('reconstruct')(state, batch, jax.random.key(seed)) for seed in (0, 1))
    assert isinstance(tiny(), Reconstructs) and a.shape == (BATCH, *RESOLUTION, 3)
    np.testing.assert_array_equal(a, b)
    assert np.any(compiled('reconstruct')(state, batch_of(1), KEY) != a)


# The critic's settings.

SGD = {'name': 'sgd', 'learning_rate': 0.1, 'b1': 0.0}


def first(method, extra):
    """State before the first update, whose optimisers are those of the method."""
    state, _ = trained(0)
    remade = lambda name, net: create_net(net.params, method._optimizer(name), ema=bool(net.ema))
    nets = jax.jit(lambda: {name: remade(name, net) for name, net in state.nets.items()})()
    return state.replace(nets=nets, extra=extra)


@functools.cache
def noisy(interval):
    """The method with another game, whose augmentation adds noise."""
    augment = {'name': 'ada', 'transforms': 'xflip', 'p': 0.3, 'target': 0.0}
    game = {'loss': 'relativistic', 'penalty': 'wgan_gp', 'penalty_weight': '0.7', 'penalty_interval': interval}
    fields = {f'method__{name}': value for name, value in {**game, 'augment': augment}.items()}
    method = make(**fields, **{f'optim__{name}': SGD for name in NETS})
    noise = lambda image, p, keys: image + p * normal(keys, (*RESOLUTION, 3))
    return dataclasses.replace(method, critic=dataclasses.replace(method.critic, augment=noise))


def pictures_of_game(batch):
    return to_float(batch['image']), jnp.eye(4)[batch['label'][:, 0]][:, :3]


def decoded(params, z, label):
    return jnp.tanh(noisy(1).decoder.apply({'params': params['decoder']}, z, label))


def judged(params, image, label, keys):
    noise = noisy(1).critic.augment(image, 0.3, streams(keys, 'augment'))
    return noisy(1).critic.network.apply({'params': params['discriminator']}, noise, label)


@jax.jit
def game_slopes(old, batch):
    """The value of each network's objective, and its gradient with respect to the network's weights."""
    (image, label), keys = pictures_of_game(batch), sample_keys(KEY, np.arange(BATCH))

    def losses(name, params):
        params = old | {name: params}
        mean, log_variance = noisy(1).encoder.apply({'params': params['encoder']}, image, label)
        posterior = mean + jnp.exp(log_variance / 2) * normal(streams(keys, 'posterior'), (5,))
        rebuilt, drawn = (decoded(params, z, label) for z in (posterior, normal(streams(keys, 'prior'), (5,))))
        real, fake = judged(params, image, label, keys), judged(params, rebuilt, label, keys)
        other = judged(params, drawn, label, streams(keys, 'drawn'))
        margins = jnp.stack([real.logit - fake.logit, real.logit - other.logit])
        similarity = 0.5 * jnp.sum(jnp.square(real.features - fake.features), (1, 2, 3))
        prior = 0.5 * jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, 1)
        return {
            'encoder': jnp.mean(prior + similarity),
            'decoder': jnp.mean(0.05 * similarity + jnp.mean(jax.nn.softplus(margins), 0)),
            'discriminator': jnp.mean(jax.nn.softplus(-margins)),
        }[name]

    return {name: jax.value_and_grad(functools.partial(losses, name))(old[name]) for name in NETS}


@jax.jit
def penalty_slopes(params, batch, rng):
    """The weighted penalty, and its gradient with respect to the discriminator's weights."""
    (image, label), keys = pictures_of_game(batch), sample_keys(rng, np.arange(BATCH))

    def penalty(net):
        logits = lambda image: judged({'discriminator': net}, image, label, keys).logit
        drawn = decoded(params, normal(streams(keys, 'prior'), (5,)), label)
        return 0.7 * jnp.mean(PENALTIES['wgan_gp'](logits, image, drawn, streams(keys, 'penalty')))

    return jax.value_and_grad(penalty)(params['discriminator'])


@pytest.mark.parametrize('interval', [1, 2])
def test_the_game_can_have_another_loss_a_penalty_and_augmentation(interval):
    """Against the objectives written out. A picture and its reconstruction are augmented alike."""
    start = first(noisy(interval), {})
    state, metrics = jax.device_get(jax.jit(noisy(interval).update)(start, batch_of(), KEY))
    old, new = ({name: net.params for name, net in one.nets.items()} for one in (start, state))
    slopes = jax.device_get(game_slopes(old, batch_of()))
    descend = lambda net, slope, rate: jax.tree.map(lambda x, slope: x - rate * slope, net, slope)
    for name in ('encoder', 'decoder'):
        assert same(new[name], descend(old[name], slopes[name][1], 0.1)), name
    (loss, slope), before = slopes['discriminator'], old['discriminator']
    if interval == 1:
        penalty, slope_of_penalty = jax.device_get(penalty_slopes(old, batch_of(), KEY))
        expected = descend(descend(before, slope, 0.1), slope_of_penalty, 0.1)
        assert np.isclose(metrics['loss/penalty'].value, penalty / 0.7, rtol=1e-4)
    else:  # a step of its own with twice the weight; rates are corrected by 2 / 3
        expected = descend(before, slope, 0.2 / 3)
        _, slope = jax.device_get(penalty_slopes(new | {'discriminator': expected}, batch_of(), stream(KEY, 'penalty')))
        expected = descend(expected, slope, 2 * 0.2 / 3)
    assert same(new['discriminator'], expected)
    assert metrics['loss/penalty'].weight == 1 and metrics['augment_p'].value == np.float32(0.3)
    assert np.isclose(metrics['loss/discriminator'].value, loss, rtol=1e-4)


def test_p_adapts_to_the_sign_of_real_logits_and_weights_are_clipped():
    augment = {'name': 'ada', 'transforms': 'xflip', 'p': 0.3, 'target': 0.6, 'adjust_kimg': 0.1}
    method = make(method__augment=augment, method__clip_weights=0.01)
    extra = {'augment_p': np.float32(0.3), 'sign_sum': np.float32(10.0)}
    assert jax.tree.map(float, method.critic.initial()) == {'augment_p': np.float32(0.3), 'sign_sum': 0}
    update, start = jax.jit(method.update), first(method, extra)
    after = lambda step: jax.device_get(update(start.replace(step=np.int32(step)), batch_of(), KEY))
    state, _ = after(3)  # p moves every four updates: by 4 x 4 images of 100
    assert float(state.extra['augment_p']) == pytest.approx(0.3 + 0.16, abs=1e-6) and state.extra['sign_sum'] == 0
    state, metrics = after(2)
    assert float(state.extra['sign_sum']) == pytest.approx(10 + float(metrics['sign/real'].value), abs=1e-6)
    sizes = {name: max(float(np.abs(x).max()) for x in jax.tree.leaves(state.nets[name].params)) for name in NETS}
    assert sizes['discriminator'] <= 0.01 + 1e-9 < min(sizes['encoder'], sizes['decoder'])


def test_without_settings_of_the_critic_there_is_nothing_of_them():
    state, metrics = trained(1)
    assert not state.extra
    expected = {f'{kind}/{name}' for kind in ('loss', 'grad_norm') for name in NETS}
    expected |= {'kl', 'similarity', 'mse', 'logits/real', 'logits/rebuilt', 'logits/drawn'}
    assert set(metrics) == expected


# Settings.


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'method__similarity': 0}, 'method.similarity: .*choose 1 to 1'),
        ({'method__similarity': 2}, 'method.similarity: .*halves 1 times'),
        ({'method__gamma': -1.0}, 'method.gamma'),
        ({'model__groups': 3}, 'model.groups'),
        ({'optim__encoder': {'learning_rate': 'fast'}}, 'optim.encoder.learning_rate: expected float'),
        ({'method__loss': 'hinged'}, "method.loss: .*did you mean 'hinge'"),
        ({'method__penalty': 'r1'}, "method.penalty_weight: 'r1' needs a positive one"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        make(**changes)
