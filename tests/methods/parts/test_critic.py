"""The critic: augmentation, class terms and conditions, as seen in the steps of both players."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_gan import (
    BATCH,
    KEY,
    SHAPE,
    batch_of,
    close,
    fakes,
    gan,
    keys_of,
    moved,
    slopes,
    start_of,
    update,
    verdict,
)

from productgen.core.pixels import to_float
from productgen.core.rng import stream
from productgen.losses.adversarial import ADVERSARIAL
from productgen.losses.classification import cross_entropy
from productgen.losses.penalties import PENALTIES
from productgen.methods.parts.critic import Context, Phase
from productgen.nets.conditioning import Judgement


def augmented_by(method, augment):
    return dataclasses.replace(method, critic=dataclasses.replace(method.critic, augment=augment))


def noise(keys):
    return jax.vmap(lambda key: jax.random.normal(key, (*SHAPE, 3)))(keys)


def keys_at(name, *path):
    """The samples' keys of a step, by streams."""
    return jax.vmap(lambda key: functools.reduce(stream, path, key))(keys_of(name))


@functools.cache
def noise_at(name, *path):
    with jax.ensure_compile_time_eval():  # as for `keys_of`
        return jax.jit(noise)(keys_at(name, *path))


def test_real_images_are_augmented_independently_of_the_fake_ones():
    """With an augmentation that adds noise of its keys, and a loss in which both sides count for both players."""
    method, batch = gan(loss='relativistic'), batch_of()
    start, state, _ = update(augmented_by(method, lambda image, p, keys: image + noise(keys)), batch)
    real, label = to_float(batch['image']), batch['label']

    def losses(g, d, name):
        fake_logit = verdict(d, fakes(g, name, label) + noise_at(name, 'augment'), label).logit
        real_logit = verdict(d, real + noise_at(name, 'real', 'augment'), label).logit
        loss = ADVERSARIAL['relativistic']
        return [jnp.mean(player(real_logit, fake_logit)) for player in (loss.generator, loss.discriminator)]

    d, new = start.nets['discriminator'].params, state.nets['generator'].params
    g_loss, d_loss = lambda g: losses(g, d, 'generator')[0], lambda d: losses(new, d, 'discriminator')[1]
    g_slope, d_slope = slopes(g_loss, d_loss, start)
    close(moved(start, state, 'generator'), g_slope)
    close(moved(start, state, 'discriminator'), d_slope)


@pytest.mark.parametrize(
    'loss, target, interval',
    [
        ('relativistic', 0.0, 1),
        ('non_saturating', 0.6, 2),
        pytest.param('relativistic', 0.0, 2, marks=pytest.mark.slow),
        pytest.param('non_saturating', 0.6, 1, marks=pytest.mark.slow),
    ],
)
def test_everything_that_is_judged_is_augmented_with_p(loss, target, interval):
    """Real and fake images, for both players and for the penalty, whether p is a setting or adapts."""
    augment = {'name': 'ada', 'transforms': 'xflip', 'p': '0.1' if target else '0.1->0.5', 'target': target}
    penalty = {'penalty': 'r1_r2', 'penalty_weight': '1->0.4', 'penalty_interval': interval}
    method, batch = gan(loss=loss, augment=augment, steps=4, **penalty), batch_of()
    method = augmented_by(method, lambda image, p, keys: image + p * noise(keys))
    # Halfway, p is 0.3 and the penalty's weight 0.7.
    start, p = start_of(method).replace(step=jnp.int32(2)), 0.3
    if target:
        start = start.replace(extra=start.extra | {'augment_p': jnp.float32(p)})
    _, state, _ = update(method, batch, start)
    real, label, parts = to_float(batch['image']), batch['label'], ADVERSARIAL[loss]
    g, new, d = start.nets['generator'].params, state.nets['generator'].params, start.nets['discriminator'].params

    def logits(d, image, name, *path):
        return verdict(d, image + p * noise_at(name, *path, 'augment'), label).logit

    def g_loss(g):
        name = 'generator'
        fake = logits(d, fakes(g, name, label), name)
        return jnp.mean(parts.generator(logits(d, real, name, 'real'), fake))

    def d_loss(d):
        name = 'discriminator'
        fake = logits(d, fakes(new, name, label), name)
        return jnp.mean(parts.discriminator(logits(d, real, name, 'real'), fake))

    def d_penalty(d, name):
        of = lambda image: logits(d, image, name)
        return 0.7 * jnp.mean(PENALTIES['r1_r2'](of, real, fakes(new, name, label), None))

    def expected(g, d):
        descend = lambda d, value, rate: jax.tree.map(lambda x, slope: x - rate * slope, d, jax.grad(value)(d))
        if interval == 1:
            return jax.grad(g_loss)(g), descend(d, lambda d: d_loss(d) + d_penalty(d, 'discriminator'), 0.5)
        # A step of its own with twice the weight; rates are corrected by 2 / 3.
        stepped = descend(d, d_loss, 0.5 * 2 / 3)
        return jax.grad(g_loss)(g), descend(stepped, lambda d: 2 * d_penalty(d, 'penalty'), 0.5 * 2 / 3)

    slope, weights = jax.jit(expected)(g, d)
    close(moved(start, state, 'generator'), slope)
    close(state.nets['discriminator'].params, weights)


class Difference(nn.Module):
    """Logit: how much an image differs from its condition."""

    @nn.compact
    def __call__(self, image, condition, keys, train):
        assert train
        condition = condition.reshape(len(image), -1) if condition.ndim == 4 else jnp.sum(condition, 1, keepdims=True)
        return Judgement(jnp.mean(jnp.abs(image.reshape(len(image), -1) - condition), 1))


def test_a_condition_that_is_an_image_is_augmented_like_the_image():
    critic = augmented_by(gan(), lambda image, p, keys: image + p * noise(keys)).critic
    critic, image = dataclasses.replace(critic, network=Difference()), to_float(batch_of()['image'])
    logit = lambda condition, p: critic.judge({}, {}, image, Context(keys_of('a'), condition), Phase(0, p))[0].logit
    np.testing.assert_allclose(logit(image, 0.7), 0, atol=1e-6)
    labels = jnp.ones((BATCH, 3))
    expected = jnp.mean(jnp.abs(image + 0.7 * noise_at('a', 'augment') - 3), (1, 2, 3))
    np.testing.assert_allclose(logit(labels, 0.7), expected, rtol=1e-5)


def test_p_follows_the_sign_of_the_real_logits_of_all_steps():
    augment = {'name': 'ada', 'transforms': 'xflip', 'p': 0.3, 'target': 0.6, 'adjust_kimg': 0.1}
    method = gan(augment=augment, critic_steps=2)
    start = start_of(method)
    extra = jax.jit(lambda: method.init(KEY, batch_of(), {}).extra)()
    assert jax.tree.map(float, extra) == {
        'augment_p': np.float32(0.3),
        'sign_sum': 0,
    }
    start = start.replace(extra={'augment_p': jnp.float32(0.3), 'sign_sum': jnp.float32(10)})
    _, state, metrics = update(method, state=start.replace(step=jnp.int32(3)))  # every fourth update: 32 of 100 images
    assert float(state.extra['augment_p']) == pytest.approx(0.62, abs=1e-6) and state.extra['sign_sum'] == 0
    assert metrics['augment_p'] == np.float32(0.3)  # used by this update
    _, state, metrics = update(method, state=start.replace(step=jnp.int32(2)))
    assert state.extra['augment_p'] == np.float32(0.3)
    assert float(state.extra['sign_sum']) == pytest.approx(10 + float(metrics['sign/real']), abs=1e-6)
    assert metrics['sign/real'] != metrics['sign/fake']


@pytest.mark.parametrize('name, logged', [('none', False), ('diffaugment', False), ('ada', True)])
def test_the_probability_is_logged_where_it_is_used(name, logged):
    augment = {'name': name, 'transforms': {'ada': 'xflip', 'diffaugment': 'color'}.get(name, '')}
    method = gan(augment=augment)
    state = jax.eval_shape(method.init, KEY, batch_of(), {})
    assert ('augment_p' in jax.eval_shape(method.update, state, batch_of(), KEY)[1]) == logged


class Noise(nn.Module):
    """Logit: noise of the keys."""

    @nn.compact
    def __call__(self, image, condition, keys, train):
        return Judgement(jax.vmap(jax.random.normal)(keys))


def test_the_network_has_random_numbers_of_its_own():
    critic, image = dataclasses.replace(gan().critic, network=Noise()), to_float(batch_of()['image'])
    judgement, _ = critic.judge({}, {}, image, Context(keys_of('a')), Phase(0, 0.0))
    np.testing.assert_array_equal(judgement.logit, jax.vmap(jax.random.normal)(keys_at('a', 'judge')))


def test_class_terms_are_of_real_and_fake_images_for_the_discriminator_and_of_fake_ones_for_the_generator():
    """AC-GAN, equations 2 and 3: L_S + L_C over both for the discriminator, over fakes for the generator."""
    method, batch = gan(pair='classes', classification=0.3), batch_of()
    start, state, metrics = update(method, batch)
    real, label = to_float(batch['image']), batch['label']

    def entropy(classes):
        terms = [optax.softmax_cross_entropy_with_integer_labels(x, label[:, a]) for a, x in enumerate(classes)]
        return jnp.mean(sum(terms))

    def d_loss(params):
        fake = verdict(params, fakes(state.nets['generator'].params, 'discriminator', label), label, classify=True)
        true = verdict(params, real, label, classify=True)
        adversarial = jnp.mean(jax.nn.softplus(-true.logit) + jax.nn.softplus(fake.logit))
        return adversarial + 0.3 * (entropy(true.classes) + entropy(fake.classes))

    def g_loss(params):
        fake = fakes(params, 'generator', label)
        fake = verdict(start.nets['discriminator'].params, fake, label, classify=True)
        return jnp.mean(jax.nn.softplus(-fake.logit)) + 0.3 * entropy(fake.classes)

    g_slope, d_slope = slopes(g_loss, d_loss, start)
    close(moved(start, state, 'generator'), g_slope)
    close(moved(start, state, 'discriminator'), d_slope)


def test_labels_have_half_their_weight_halfway_through_the_transition():
    """In the game, the class terms and the penalty, for both players; a plain head plays with weight 1 throughout."""
    method = gan(pair='classes', classification=0.3, penalty='r1', penalty_weight='0.7', transition_kimg='0.016->0.048')
    batch = batch_of()
    start = start_of(method).replace(step=jnp.int32(4))  # 32 images: halfway from 16 to 48
    _, state, metrics = update(method, batch, start)
    real, label = to_float(batch['image']), batch['label']
    say = lambda d, image: verdict(d, image, label, plain_head=True, classify=True)
    classes = lambda judgement: jnp.mean(cross_entropy(judgement.classes, label))
    game, new = ADVERSARIAL['non_saturating'], state.nets['generator'].params

    def g_loss(g):
        fake = say(start.nets['discriminator'].params, fakes(g, 'generator', label, 0.5))
        value = jnp.mean(game.generator(fake.plain, fake.plain) + 0.5 * game.generator(fake.logit, fake.logit))
        return value + 0.3 * 0.5 * classes(fake)

    def d_loss(d):
        true, fake = say(d, real), say(d, fakes(new, 'discriminator', label, 0.5))
        value = game.discriminator(true.plain, fake.plain) + 0.5 * game.discriminator(true.logit, fake.logit)
        penalty = PENALTIES['r1'](lambda image: say(d, image).plain + 0.5 * say(d, image).logit, real, None, None)
        return jnp.mean(value + 0.7 * penalty) + 0.3 * 0.5 * (classes(true) + classes(fake))

    g_slope, d_slope = slopes(g_loss, d_loss, start)
    close(moved(start, state, 'generator'), g_slope)
    close(moved(start, state, 'discriminator'), d_slope)

    @jax.jit
    def shown(d):
        """The mean of the generator's last layer, and what the plain head says of real and fake images."""
        made = fakes(state.nets['generator'].ema, 'statistics', label, 0.5)
        fake = fakes(new, 'discriminator', label, 0.5)
        return jnp.mean(jnp.arctanh(made)), [say(d, image).plain for image in (real, fake)]

    mean, said = shown(start.nets['discriminator'].params)
    np.testing.assert_allclose(state.nets['generator'].stats['mean'], mean, rtol=1e-4, atol=1e-6)
    for kind, plain in zip(('real', 'fake'), said, strict=True):  # logged is the head that ignores labels
        np.testing.assert_allclose(metrics[f'logits/{kind}'], np.mean(plain), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(metrics[f'sign/{kind}'], np.mean(np.sign(plain)), atol=1e-6)
