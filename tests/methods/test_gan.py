"""The adversarial method: losses, penalties and schedules, compared with updates written out by hand."""

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
    LABELS,
    METHOD,
    SGD,
    SHAPE,
    Generator,
    batch_of,
    close,
    fakes,
    gan,
    keys_of,
    moved,
    one_hot,
    slopes,
    start_of,
    update,
    verdict,
)

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream
from productgen.core.state import State, create_net
from productgen.losses.adversarial import ADVERSARIAL
from productgen.losses.penalties import PENALTIES
from productgen.methods import Generates
from productgen.methods.base import Sections, weighted
from productgen.methods.gan import FAMILY, Gan
from productgen.methods.models import PAIRS
from productgen.model.config import family_of

LINEAR = SGD | {'schedule': 'linear'}
shared = functools.cache(gan)


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
    method, batch = shared(loss=loss, penalty=penalty, penalty_weight='0.7'), batch_of()
    start, state, metrics = update(method, batch)
    real, label = to_float(batch['image']), batch['label']
    keys = jax.vmap(lambda key: stream(key, 'penalty'))(keys_of('discriminator'))

    def g_loss(params):
        d = start.nets['discriminator'].params
        fake = verdict(d, fakes(params, 'generator', label), label).logit
        return jnp.mean(ADVERSARIAL[loss].generator(verdict(d, real, label).logit, fake))

    def d_loss(params):
        fake = fakes(state.nets['generator'].params, 'discriminator', label)
        logits = lambda image: verdict(params, image, label).logit
        value = jnp.mean(ADVERSARIAL[loss].discriminator(logits(real), logits(fake)))
        if penalty == 'none':
            return value
        return value + 0.7 * jnp.mean(PENALTIES[penalty](logits, real, fake, keys))

    g_slope, d_slope = slopes(g_loss, d_loss, start)
    close(moved(start, state, 'generator'), g_slope)
    close(moved(start, state, 'discriminator'), d_slope)
    assert ('loss/penalty' in metrics) == (penalty != 'none')
    assert ('sign/real' in metrics) == (loss in ('hinge', 'minimax', 'non_saturating'))


def test_lazy_penalties_take_steps_of_their_own():
    method = gan(penalty='r1', penalty_weight='0.7', penalty_interval=3)
    state, weights, values = start_of(method), [], []
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
    g = state.nets['generator']

    @jax.jit
    def stepped(d):
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
        return d

    close(state.nets['discriminator'].params, stepped(start.nets['discriminator'].params))
    assert state.nets['discriminator'].stats['count'] == 8 and g.stats['count'] == 1


def test_running_statistics_are_those_of_the_averaged_weights():
    """They are only used with these; statistics of the current weights would not fit."""
    method, batch = gan(critic_steps=2), batch_of()
    _, state, _ = update(method, batch)
    g, label = state.nets['generator'], batch['label'][::2]
    mean = jax.jit(lambda params: jnp.mean(jnp.arctanh(fakes(params, 'statistics', label))))
    np.testing.assert_allclose(g.stats['mean'], mean(g.ema), rtol=1e-4, atol=1e-6)
    assert g.stats['count'] == 1
    assert abs(float(mean(g.params) - g.stats['mean'])) > 1e-4


def test_the_penalty_steps_of_a_critic_count_in_its_own_steps():
    """Two critic steps an iteration, a penalty every second one: c = 4 / 5 corrects the rate."""
    method = gan(penalty='r1', penalty_weight='1', penalty_interval=2, critic_steps=2)
    grads = jax.tree.map(jnp.ones_like, {'w': jnp.zeros(2)})
    updates, _ = method.critic.tx.update(grads, method.critic.tx.init(grads), grads)
    np.testing.assert_allclose(updates['w'], -SGD['learning_rate'] * 4 / 5, rtol=1e-6)
    # Its schedule, too: of ten iterations with two steps each, and five of the penalty, half are done.
    method = gan(penalty='r1', penalty_weight='1', penalty_interval=2, critic_steps=2, steps=10, optim=LINEAR)
    counted = lambda x: jnp.full_like(x, 12) if x.dtype == jnp.int32 else x  # of 25, an odd number
    state = jax.tree.map(counted, method.critic.tx.init(grads))
    updates, _ = method.critic.tx.update(grads, state, grads)
    np.testing.assert_allclose(updates['w'], -SGD['learning_rate'] * 4 / 5 * 13 / 25, rtol=1e-6)


@pytest.mark.parametrize('interval', [pytest.param(None, marks=pytest.mark.slow), 1, 3])
def test_clipped_weights_stay_within_the_bound(interval):
    """After a penalty too, be it in the same step or one of its own; its weight throws them far."""
    penalty = {'penalty': 'r1', 'penalty_weight': '1e4', 'penalty_interval': interval} if interval else {}
    _, state, _ = update(gan(clip_weights=0.01, loss='wasserstein', **penalty))
    sizes = [float(jnp.abs(x).max()) for x in jax.tree.leaves(state.nets['discriminator'].params)]
    assert max(sizes) <= 0.01 + 1e-9 and sizes.count(max(sizes)) > 1
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(state.nets['generator'].params)) > 0.01


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
        fake = fakes(params, 'generator', label, label_weight=0.5)
        said = verdict(start.nets['discriminator'].params, fake, label, plain_head=True)
        return jnp.mean(jax.nn.softplus(-said.plain) + 0.5 * jax.nn.softplus(-said.logit))

    close(moved(start, state, 'generator'), jax.jit(jax.grad(g_loss))(start.nets['generator'].params))


def test_a_batch_in_parts_gives_what_the_whole_gives():
    penalty = {'loss': 'non_saturating', 'penalty': 'wgan_gp', 'penalty_weight': '0.7'}
    for changes in (penalty, {'critic_steps': 2, 'loss': 'hinge'}):
        whole, parts = update(shared(**changes))[1], update(gan(accumulate=2, **changes))[1]
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


def test_early_weights_are_forgotten_with_a_rampup():
    """The half-life is at most a fraction of the images seen: here half of eight."""
    start, state, _ = update(gan(ema_kimg='1', ema_rampup=0.5))
    g = state.nets['generator']
    decay = 0.5 ** (8 / 4)
    close(g.ema, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, start.nets['generator'].params, g.params))


def test_penalty_weights_move_over_their_fraction_of_the_training():
    weights = gan(penalty='r1', penalty_weight='10->2', anneal=0.5).critic.penalty_weight
    np.testing.assert_allclose([weights(0), weights(25), weights(50), weights(99)], [10, 6, 2, 2], rtol=1e-5)


class Regularised(Gan):
    """Shifts all weights in place of a regulariser, and logs what it was given."""

    def regularise(self, g, batch, extra, phase):
        seen = {'seen': jnp.mean(jax.vmap(jax.random.normal)(batch['key'])), 'label': jnp.mean(batch['label'])}
        shifted = jax.tree.map(lambda x: x + 1, g.params)
        return g.replace(params=shifted), extra | {'steps': extra['steps'] + 1}, weighted(seen)


def test_a_regulariser_follows_the_generator_step_on_samples_of_its_own_and_precedes_the_average():
    plain, batch = gan(critic_steps=2), batch_of()
    method = Regularised(**{field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)})
    start = start_of(plain, batch).replace(extra={'steps': jnp.zeros(())})
    _, without, _ = update(plain, batch, start)
    _, state, metrics = update(method, batch, start)
    assert state.extra['steps'] == 1 and without.extra['steps'] == 0
    g = state.nets['generator']
    close(g.params, jax.tree.map(lambda x: x + 1, without.nets['generator'].params))
    decay = 0.5 ** (8 / 10)
    close(g.ema, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, start.nets['generator'].params, g.params))
    seen = jax.vmap(jax.random.normal)(keys_of('path', 4))
    np.testing.assert_allclose(metrics['seen'], jnp.mean(seen), rtol=1e-5)
    np.testing.assert_allclose(metrics['label'], np.mean(batch['label'][::2]), rtol=1e-6)


def test_in_one_part_there_are_no_loops():
    method, batch = gan(critic_steps=2, accumulate=2, penalty='r1', penalty_weight='1'), batch_of()
    one = method.in_one_part()
    assert (one.problem.accumulate, one.config.critic_steps, one.size) == (1, 1, BATCH)
    program = lambda m: str(jax.make_jaxpr(m.update)(start_of(m, batch), batch, KEY))
    assert 'scan[' in program(method) and 'scan[' not in program(one)


def test_images_come_from_the_averaged_weights_at_the_label_weight_of_the_step():
    method, label = gan(transition_kimg='0.016->0.048'), batch_of()['label'][:3]
    state = start_of(method)
    g = state.nets['generator']
    ema = jax.tree.map(lambda x: 2 * x + 0.1, g.params)
    state = state.replace(step=jnp.int32(4), nets=state.nets | {'generator': g.replace(ema=ema)})
    image = method.generate(state, {'seed': np.int32([5, 0, 7]), 'label': label}, KEY, {})
    z = method.draw(sample_keys(KEY, jnp.int32([5, 0, 7])))
    variables = {'params': ema, 'stats': g.stats}
    expected = Generator().apply(variables, z, one_hot(label), None, label_weight=0.5)
    np.testing.assert_allclose(image, expected, rtol=1e-5, atol=1e-6)


class Unbounded(nn.Module):
    """Images of the value 3 z."""

    @nn.compact
    def __call__(self, z, label, keys, train, label_weight):
        return jnp.broadcast_to(3 * z[:, None, None, :3], (len(z), *SHAPE, 3))


def test_images_are_clipped():
    method = dataclasses.replace(gan(), generator=Unbounded())
    net = create_net({}, method.tx, ema=True)
    state = State(jnp.int32(0), {'generator': net}, {}, {})
    image = method.generate(state, {'seed': np.arange(9, dtype=np.int32), 'label': np.zeros((9, 2), np.int32)}, KEY, {})
    z = method.draw(sample_keys(KEY, jnp.arange(9)))[:, None, None, :3]
    np.testing.assert_allclose(image, np.broadcast_to(np.clip(3 * z, -1, 1), image.shape), rtol=1e-6)
    assert np.abs(3 * z).max() > 2


def test_truncation_scales_z():
    method = gan()
    state = start_of(method)
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
        ({'augment': {'name': 'ada', 'p': '0->0.3'}}, r'method\.augment\.p: .*set method\.augment\.target=0'),
        ({'augment': {'name': 'ada', 'p': '0->3', 'target': 0.0}}, r'method\.augment\.p: expected a probability'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        gan(**changes)


@pytest.mark.parametrize('name', ['stylegan2', 'projected_stylegan2'])
def test_networks_with_latents_of_their_own_need_their_method(name):
    method = gan()
    sections = Sections(method.config, PAIRS[name](), {})
    with pytest.raises(UserError, match=f"model\\.name: '{name}' .*method\\.name=stylegan2"):
        FAMILY.make(sections, method.problem)


def test_an_unknown_pair_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"model\.name: there is no 'dcgam'; did you mean 'dcgan'"):
        family_of({'method': METHOD, 'model': {'name': 'dcgam'}})
