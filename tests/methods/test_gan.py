"""The adversarial method: losses, penalties and schedules around networks small enough to compute by hand."""

import copy
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from productgen.config import UserError, build
from productgen.core.optim import OptimConfig
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.losses.adversarial import ADVERSARIAL
from productgen.losses.penalties import PENALTIES
from productgen.methods import Generates, Problem
from productgen.methods.base import Sections
from productgen.methods.gan import FAMILY, GanConfig
from productgen.methods.models import Pair
from productgen.model.config import family_of
from productgen.nets.conditioning import Embed, Judgement, split_classes

KEY, LABELS, BATCH, SHAPE = jax.random.key(0), (3, 2), 8, (2, 3)
SGD = {'name': 'sgd', 'learning_rate': 0.5, 'b1': 0.0}


class Generator(nn.Module):
    """Pixels linear in z, shifted by the label's embedding; counts its training passes, keeps the last mean."""

    @nn.compact
    def __call__(self, z, label, keys, train=False, label_weight=1.0):
        count = self.variable('stats', 'count', jnp.zeros, ())
        if train and not self.is_initializing():
            count.value += 1
        mean = self.variable('stats', 'mean', jnp.zeros, ())
        x = nn.Dense(18, name='pixels')(z)
        if label is not None:
            x += Embed(18, name='embed')(label, label_weight)
        if train and not self.is_initializing():
            mean.value = jnp.mean(x)
        return jnp.tanh(x).reshape(-1, *SHAPE, 3)


class Discriminator(nn.Module):
    """A curved logit, a projection of the label, class logits and a plain head where asked for."""

    plain_head: bool = False
    classify: bool = False

    @nn.compact
    def __call__(self, image, label, keys, train=False):
        count = self.variable('stats', 'count', jnp.zeros, ())
        if train and not self.is_initializing():
            count.value += 1
        x = jnp.tanh(nn.Dense(5, name='hidden')(image.reshape(len(image), -1)))
        plain = nn.Dense(1, name='plain')(x)[:, 0] if self.plain_head else None
        logit = nn.Dense(1, name='logit')(x)[:, 0]
        if self.classify:
            return Judgement(logit, plain, split_classes(nn.Dense(sum(LABELS), name='classes')(x), LABELS))
        if label is not None:
            logit += jnp.sum(x * Embed(5, name='embed')(label), -1)
        return Judgement(logit, plain)


@dataclasses.dataclass(frozen=True)
class Model:
    """The networks above as a `model` section: `toy`, `coupled` or `classes`."""

    name: str = 'toy'

    def pair(self, problem, plain_head):
        discriminator = Discriminator(plain_head, classify=self.name == 'classes')
        return Pair(4, Generator(), discriminator, couples_images=self.name == 'coupled')


METHOD = {
    'name': 'gan',
    'loss': 'non_saturating',
    'penalty': 'none',
    'penalty_weight': '0',
    'penalty_interval': 1,
    'critic_steps': 1,
    'clip_weights': 0.0,
    'classification': 1.0,
    'transition_kimg': '',
    'anneal': 1.0,
    'ema_kimg': '0.01',
    'ema_rampup': 0.0,
    'augment': {'name': 'none'},
}


def gan(labels=LABELS, accumulate=1, pair='toy', steps=100, batch_size=BATCH, optim=SGD, **changes):
    config = build(GanConfig, copy.deepcopy(METHOD) | changes, 'method')
    optim = {name: build(OptimConfig, optim, f'optim.{name}') for name in FAMILY.networks}
    return FAMILY.make(Sections(config, Model(pair), optim), Problem(SHAPE, labels, batch_size, accumulate, steps))


def batch_of(seed=0, size=BATCH):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(0, n, size) for n in LABELS], 1).astype(np.int32)
    return {'image': rng.integers(0, 256, (size, *SHAPE, 3), np.uint8), 'label': label}


def one_hot(label):
    return jnp.concatenate([jax.nn.one_hot(label[:, a], n) for a, n in enumerate(LABELS)], 1)


def update(method, batch=None, state=None):
    batch = batch_of() if batch is None else batch
    start = state or method.init(stream(KEY, 'init'), batch, {})
    state, metrics = jax.jit(method.update)(start, batch, KEY)
    assert all(metric.weight == 1 for name, metric in metrics.items() if name != 'loss/penalty')
    return start, state, {name: metric.value for name, metric in metrics.items()}


def moved(start, state, name):
    """What plain gradient descent says the gradient was."""
    old, new = start.nets[name].params, state.nets[name].params
    return jax.tree.map(lambda a, b: (a - b) / SGD['learning_rate'], old, new)


def keys_of(name, size=BATCH):
    return sample_keys(stream(KEY, name), jnp.arange(size))


def fakes(method, params, name, label, label_weight=1.0):
    variables = {'params': params, 'stats': {'count': jnp.zeros(()), 'mean': jnp.zeros(())}}
    z = method.draw(keys_of(name, len(label)))
    return Generator().apply(variables, z, one_hot(label), None, label_weight=label_weight)


def verdict(params, image, label, **fields):
    return Discriminator(**fields).apply(
        {'params': params, 'stats': {'count': jnp.zeros(())}}, image, one_hot(label), None
    )


def close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6), a, b)


@pytest.mark.parametrize(
    'loss, penalty',
    [
        *((loss, 'none') for loss in sorted(ADVERSARIAL)),
        *(('non_saturating', penalty) for penalty in sorted(PENALTIES)),
        *(('wasserstein', 'wgan_gp'), ('relativistic', 'r1_r2'), ('hinge', 'dragan')),
    ],
)
def test_both_players_descend_what_loss_and_penalty_say(loss, penalty):
    """Any loss with any penalty: the discriminator's step against the objective written out, the generator's too."""
    method, batch = gan(loss=loss, penalty=penalty, penalty_weight='0.7'), batch_of()
    start, state, metrics = update(method, batch)
    real, label = to_float(batch['image']), batch['label']

    def g_loss(params):
        d = start.nets['discriminator'].params
        fake = verdict(d, fakes(method, params, 'generator', label), label).logit
        return jnp.mean(ADVERSARIAL[loss].generator(verdict(d, real, label).logit, fake))

    def d_loss(params):
        fake = fakes(method, state.nets['generator'].params, 'discriminator', label)
        logits = lambda image: verdict(params, image, label).logit
        value = jnp.mean(ADVERSARIAL[loss].discriminator(logits(real), logits(fake)))
        if penalty == 'none':
            return value
        keys = jax.vmap(lambda key: stream(key, 'penalty'))(keys_of('discriminator'))
        return value + 0.7 * jnp.mean(PENALTIES[penalty](logits, real, fake, keys))

    close(moved(start, state, 'generator'), jax.grad(g_loss)(start.nets['generator'].params))
    close(moved(start, state, 'discriminator'), jax.grad(d_loss)(start.nets['discriminator'].params))
    assert ('loss/penalty' in metrics) == (penalty != 'none')
    assert ('sign/real' in metrics) == (loss in ('hinge', 'minimax', 'non_saturating'))


def test_lazy_penalties_take_steps_of_their_own():
    method = gan(penalty='r1', penalty_weight='0.7', penalty_interval=3)
    state, weights, values = method.init(KEY, batch_of(), {}), [], []
    run = jax.jit(method.update)
    for step in range(5):
        state, metrics = run(state, batch_of(step), jax.random.fold_in(KEY, step))
        weights.append(float(metrics['loss/penalty'].weight))
        values.append(float(metrics['loss/penalty'].value))
    assert weights == [1, 0, 0, 1, 0]  # so that a mean over updates is over those in which it was due
    assert values[1] == values[2] == values[4] == 0 < min(values[0], values[3]) and values[0] != values[3]
    assert not state.extra


def test_several_critic_steps_share_the_batch_among_them():
    method, batch = gan(critic_steps=4, loss='wasserstein'), batch_of()
    start, state, _ = update(method, batch)
    g, d = state.nets['generator'], start.nets['discriminator'].params
    keys = sample_keys(stream(KEY, 'discriminator'), jnp.arange(8)).reshape(4, 2)
    for turn in range(4):  # two images each
        rows = {name: x[turn::4] for name, x in batch.items()}
        z = method.draw(keys[turn])
        variables = {'params': g.params, 'stats': g.stats}
        fake = Generator().apply(variables, z, one_hot(rows['label']), None)

        def loss(params, fake=fake, rows=rows):
            logit = lambda image: verdict(params, image, rows['label']).logit
            return jnp.mean(logit(fake) - logit(to_float(rows['image'])))

        d = optax.apply_updates(d, jax.tree.map(lambda x: -SGD['learning_rate'] * x, jax.grad(loss)(d)))
    close(state.nets['discriminator'].params, d)
    assert state.nets['discriminator'].stats['count'] == 8 and g.stats['count'] == 1


def test_running_statistics_are_those_of_the_averaged_weights():
    """They are used with these alone: those of the weights of the moment would fit others."""
    method, batch = gan(critic_steps=2), batch_of()
    _, state, _ = update(method, batch)
    g, label = state.nets['generator'], batch['label'][::2]
    made = fakes(method, g.ema, 'statistics', label)
    np.testing.assert_allclose(g.stats['mean'], jnp.mean(jnp.arctanh(made)), rtol=1e-4, atol=1e-6)
    assert g.stats['count'] == 1
    assert abs(float(jnp.mean(jnp.arctanh(fakes(method, g.params, 'statistics', label))) - g.stats['mean'])) > 1e-4


def test_the_penalty_steps_of_a_critic_count_in_its_own_steps():
    """Two critic steps an iteration, a penalty every second one: c = 4 / 5 corrects the rate."""
    method = gan(penalty='r1', penalty_weight='1', penalty_interval=2, critic_steps=2)
    grads = jax.tree.map(jnp.ones_like, {'w': jnp.zeros(2)})
    updates, _ = method.critic.tx.update(grads, method.critic.tx.init(grads), grads)
    np.testing.assert_allclose(updates['w'], -SGD['learning_rate'] * 4 / 5, rtol=1e-6)


@pytest.mark.parametrize('interval', [None, 1, 3])
def test_clipped_weights_stay_within_the_bound(interval):
    """After a penalty too, be it in the same step or one of its own; its weight throws them far."""
    penalty = {'penalty': 'r1', 'penalty_weight': '1e4', 'penalty_interval': interval} if interval else {}
    _, state, _ = update(gan(clip_weights=0.01, loss='wasserstein', **penalty))
    sizes = [float(jnp.abs(x).max()) for x in jax.tree.leaves(state.nets['discriminator'].params)]
    assert max(sizes) <= 0.01 + 1e-9 and sizes.count(max(sizes)) > 1
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(state.nets['generator'].params)) > 0.01


def augmented_by(method, augment):
    return dataclasses.replace(method, critic=dataclasses.replace(method.critic, augment=augment))


def test_real_images_are_augmented_independently_of_the_fake_ones():
    """With an augmentation that adds noise of its keys, and a loss in which both sides count for both players."""
    noise = lambda keys: jax.vmap(lambda key: jax.random.normal(key, (*SHAPE, 3)))(keys)
    method, batch = gan(loss='relativistic'), batch_of()
    start, state, _ = update(augmented_by(method, lambda image, p, keys: image + noise(keys)), batch)
    real, label = to_float(batch['image']), batch['label']

    def losses(g, d, name):
        one = lambda *path: jax.vmap(lambda key: functools.reduce(stream, path, key))(keys_of(name))
        fake_logit = verdict(d, fakes(method, g, name, label) + noise(one('augment')), label).logit
        real_logit = verdict(d, real + noise(one('real', 'augment')), label).logit
        loss = ADVERSARIAL['relativistic']
        return [jnp.mean(player(real_logit, fake_logit)) for player in (loss.generator, loss.discriminator)]

    (g, d), new = (start.nets[name].params for name in ('generator', 'discriminator')), state.nets['generator'].params
    close(moved(start, state, 'generator'), jax.grad(lambda g: losses(g, d, 'generator')[0])(g))
    close(moved(start, state, 'discriminator'), jax.grad(lambda d: losses(new, d, 'discriminator')[1])(d))


@pytest.mark.parametrize('name, logged', [('none', False), ('diffaugment', False), ('ada', True)])
def test_the_probability_is_logged_where_it_is_used(name, logged):
    augment = {'name': name, 'transforms': {'ada': 'xflip', 'diffaugment': 'color'}.get(name, '')}
    method = gan(augment=augment)
    state = jax.eval_shape(method.init, KEY, batch_of(), {})
    assert ('augment_p' in jax.eval_shape(method.update, state, batch_of(), KEY)[1]) == logged


def test_class_terms_are_of_real_and_fake_images_for_the_discriminator_and_of_fake_ones_for_the_generator():
    """AC-GAN, equations 2 and 3: L_S + L_C over both for the discriminator, over fakes for the generator."""
    method, batch = gan(pair='classes', classification=0.3), batch_of()
    start, state, metrics = update(method, batch)
    real, label = to_float(batch['image']), batch['label']

    def entropy(classes):
        terms = [optax.softmax_cross_entropy_with_integer_labels(x, label[:, a]) for a, x in enumerate(classes)]
        return jnp.mean(sum(terms))

    def d_loss(params):
        fake = verdict(
            params, fakes(method, state.nets['generator'].params, 'discriminator', label), label, classify=True
        )
        true = verdict(params, real, label, classify=True)
        adversarial = jnp.mean(jax.nn.softplus(-true.logit) + jax.nn.softplus(fake.logit))
        return adversarial + 0.3 * (entropy(true.classes) + entropy(fake.classes))

    def g_loss(params):
        fake = fakes(method, params, 'generator', label)
        fake = verdict(start.nets['discriminator'].params, fake, label, classify=True)
        return jnp.mean(jax.nn.softplus(-fake.logit)) + 0.3 * entropy(fake.classes)

    close(moved(start, state, 'generator'), jax.grad(g_loss)(start.nets['generator'].params))
    close(moved(start, state, 'discriminator'), jax.grad(d_loss)(start.nets['discriminator'].params))


def test_labels_gain_weight_during_the_transition():
    """Before it begins nothing depends on labels; halfway the conditional game has half its weight."""
    method, batch = gan(transition_kimg='0.016->0.048'), batch_of()
    other = batch | {'label': (batch['label'] + 1) % np.int32(LABELS)}
    start, state, metrics = update(method, batch)
    assert metrics['label_share'] == 0
    close(update(method, other)[1].nets['generator'].params, state.nets['generator'].params)
    later = start.replace(step=jnp.int32(4))  # 32 images: halfway from 16 to 48
    _, state, metrics = update(method, batch, later)
    assert metrics['label_share'] == 0.5
    label = batch['label']

    def g_loss(params):
        fake = fakes(method, params, 'generator', label, label_weight=0.5)
        said = verdict(start.nets['discriminator'].params, fake, label, plain_head=True)
        return jnp.mean(jax.nn.softplus(-said.plain) + 0.5 * jax.nn.softplus(-said.logit))

    close(moved(start, state, 'generator'), jax.grad(g_loss)(start.nets['generator'].params))


def test_a_batch_in_parts_gives_what_the_whole_gives():
    for changes in ({'penalty': 'wgan_gp', 'penalty_weight': '10'}, {'critic_steps': 2, 'loss': 'hinge'}):
        whole, parts = (update(gan(accumulate=n, **changes))[1] for n in (1, 2))
        for name in ('generator', 'discriminator'):
            close(parts.nets[name].params, whole.nets[name].params)


def test_the_average_and_its_half_life_move():
    method = gan(ema_kimg='0.008->0.016', steps=2)
    start, state, _ = update(method)
    g = state.nets['generator']  # eight images: one half-life
    close(g.ema, jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, start.nets['generator'].params, g.params))
    _, after, _ = update(method, state=state)  # halfway the half-life is 12 images
    decay = 0.5 ** (8 / 12)
    close(
        after.nets['generator'].ema,
        jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, g.ema, after.nets['generator'].params),
    )


def test_penalty_weights_move_over_their_fraction_of_the_training():
    weights = gan(penalty='r1', penalty_weight='10->2', anneal=0.5).critic.penalty_weight
    np.testing.assert_allclose([weights(0), weights(25), weights(50), weights(99)], [10, 6, 2, 2], rtol=1e-5)


def test_truncation_scales_z():
    method = gan()
    state = method.init(KEY, batch_of(), {})
    batch = {'seed': np.arange(3, dtype=np.int32), 'label': batch_of()['label'][:3]}
    zero = method.generate(state, batch, KEY, {'truncation': np.zeros(3, np.float32)})
    bias = state.nets['generator'].ema['pixels']['bias']
    embedded = one_hot(batch['label']) @ state.nets['generator'].ema['embed']['kernel']
    np.testing.assert_allclose(zero.reshape(3, -1), np.tanh(bias + embedded), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(method.generate(state, batch, KEY, {'truncation': 0.0}), zero)
    one, half = (method.generate(state, batch, KEY, {'truncation': np.float32([psi] * 3)}) for psi in (1, 0.5))
    np.testing.assert_array_equal(method.generate(state, batch, KEY, {}), one)
    raw = lambda image: np.arctanh(np.float64(image))
    np.testing.assert_allclose(raw(half), (raw(zero) + raw(one)) / 2, rtol=1e-3, atol=1e-4)
    assert isinstance(method, Generates) and [knob.name for knob in method.knobs] == ['truncation']


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'loss': 'hinged'}, r"method\.loss: .*did you mean 'hinge'"),
        ({'penalty': 'wgangp'}, r"method\.penalty: .*did you mean 'wgan_gp'"),
        ({'penalty_interval': 0}, r'method\.penalty_interval: 0 is less than 1'),
        ({'critic_steps': 0}, r'method\.critic_steps: 0 is less than 1'),
        ({'critic_steps': 3}, r'method\.critic_steps: the 8 images .* the nearest that can is 9'),
        ({'clip_weights': -1.0}, r'method\.clip_weights: must not be negative'),
        ({'penalty': 'r1'}, r"method\.penalty_weight: 'r1' needs a positive one, not 0"),
        ({'penalty': 'r1', 'penalty_weight': '-1->2'}, r'method\.penalty_weight: .*needs a positive one'),
        ({'clip_weights': 0.1, 'optim': SGD | {'freeze': 'hidden'}}, r'method\.clip_weights: .*freeze'),
        ({'pair': 'stylegan2'}, r'model\.name: .*method\.name=stylegan2'),
        ({'penalty': 'wgan_gp', 'penalty_weight': 'auto'}, r"method\.penalty_weight: 'auto' is a rule for 'r1'"),
        ({'anneal': 0.0}, r'method\.anneal: 0.0 is not a fraction'),
        ({'anneal': 1.5}, r'method\.anneal: 1.5 is not a fraction'),
        ({'ema_kimg': '-5'}, r'method\.ema_kimg: .*not be negative, got -5'),
        ({'ema_kimg': '5->-1'}, r'method\.ema_kimg: .*not be negative'),
        ({'penalty_weight': 'much'}, r'method\.penalty_weight: expected a number'),
        ({'penalty_weight': '1->2', 'steps': None}, r'method\.penalty_weight: .*train\.duration'),
        ({'ema_kimg': 'long'}, r'method\.ema_kimg: expected a number'),
        ({'transition_kimg': '30'}, r"method\.transition_kimg: expected 'A->B'"),
        ({'transition_kimg': '1->2', 'labels': ()}, r'method\.transition_kimg: there are no labels'),
        ({'pair': 'coupled', 'penalty': 'wgan_gp'}, r'method\.penalty: .*normalises over the batch'),
        ({'loss': 'wasserstein', 'augment': {'name': 'ada'}}, r'method\.augment\.target: .*set it to 0'),
        ({'augment': {'name': 'ada', 'p': '0->0.3'}}, r'method\.augment\.p: .*set method\.augment\.target to 0'),
        ({'augment': {'name': 'ada', 'p': '0->3', 'target': 0.0}}, r'method\.augment\.p: expected a probability'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        gan(**changes)


def test_an_unknown_pair_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"model\.name: there is no 'dcgam'; did you mean 'dcgan'"):
        family_of({'method': METHOD, 'model': {'name': 'dcgam'}})
