"""The StyleGAN2 method, tiny and with everything on: labels, mixing, ADA, both lazy regularisers."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from productgen.augment import ADAPT_INTERVAL
from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.state import create_net
from productgen.core.step import ema_decay
from productgen.methods import Problem
from productgen.methods.stylegan2 import make

RESOLUTION, LABELS, BATCH = (8, 6), (3, 2), 8
KEY = jax.random.key(0)
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.1, 'b1': 0.0, 'b2': 0.99, 'eps': 0.1}
CONFIG = {
    'method': {
        'name': 'stylegan2',
        'loss': 'non_saturating',
        'penalty': 'r1',
        'penalty_weight': 1.5,
        'penalty_interval': 3,
        'critic_steps': 1,
        'clip_weights': 0.0,
        'classification': 1.0,
        'transition_kimg': '',
        'anneal': 1.0,
        **{'path_weight': 2.0, 'path_interval': 2, 'path_shrink': 2, 'path_decay': 0.9},
        **{'mixing': 0.9, 'w_decay': 0.8},
        'ema_kimg': 0.05,
        'ema_rampup': 0.0,
        'augment': {'name': 'ada', 'transforms': 'xflip,contrast', 'p': 0.3, 'target': 0.6, 'adjust_kimg': 0.2},
    },
    'model': {
        'name': 'stylegan2',
        'z_dim': 8,
        'w_dim': 8,
        'mapping_layers': 2,
        'mapping_lr': 0.1,
        'label_layers': 1,
        'channel_base': 64,
        'channel_max': 8,
        'stddev_group': 4,
        'bf16_levels': 0,
    },
    'optim': {'generator': ADAM, 'discriminator': ADAM},
}


def tiny(labels=LABELS, accumulate=1, batch_size=BATCH, resolution=RESOLUTION, **changes):
    """The method, with fields such as method__mixing changed."""
    config = copy.deepcopy(CONFIG)
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    return make(config, Problem(resolution, labels, batch_size, accumulate, 100))


def batch_of(seed=0, labels=LABELS):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in labels], 1) if labels else np.zeros((BATCH, 0))
    return {'image': rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8), 'label': label.astype(np.int32)}


@functools.cache
def compiled(accumulate):
    """The jitted update: slow to compile, so once for all tests."""
    return jax.jit(tiny(accumulate=accumulate).update)


@pytest.fixture(scope='module')
def method():
    return tiny()


@pytest.fixture(scope='module')
def start(method):
    return jax.jit(method.init)(stream(KEY, 'init'), batch_of())


@pytest.fixture(scope='module')
def history(start):
    """The states of seven updates, the first included, and the metrics of each."""
    states, metrics = [start], []
    for step in range(7):
        state, row = compiled(1)(states[-1], batch_of(step), jax.random.fold_in(KEY, step))
        states, metrics = [*states, state], [*metrics, row]
    return states, metrics


def changes(states, name):
    values = [float(state.extra[name]) for state in states]
    return [step for step, (a, b) in enumerate(zip(values, values[1:], strict=False)) if a != b]


# An update.


def test_an_update_keeps_structure_shapes_and_types(method, start):
    """Weak types too, which would compile the update a second time."""
    rng, state = jax.random.key(1), jax.eval_shape(method.init, KEY, batch_of())
    after, metrics = jax.eval_shape(method.update, state, batch_of(), rng)
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)
    assert describe(after) == describe(state)
    assert all(m.shape == () for m in metrics.values())


def test_every_parameter_and_its_average_move(history):
    first, last = history[0][0], history[0][-1]
    for name in ('generator', 'discriminator'):
        pairs = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), first.nets[name].params, last.nets[name].params)
        assert all(jax.tree.leaves(pairs)), [p for p, moved in jax.tree.leaves_with_path(pairs) if not moved]
    g = first.nets['generator'], last.nets['generator']
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.any(a != b)), g[0].ema, g[1].ema)))
    assert last.nets['discriminator'].ema is None


def test_metrics_are_finite_and_complete(history):
    expected = {f'{kind}/{net}' for kind in ('loss', 'grad_norm') for net in ('generator', 'discriminator')}
    expected |= {f'{kind}/{which}' for kind in ('logits', 'sign') for which in ('real', 'fake')}
    expected |= {'augment_p', 'loss/penalty', 'loss/path', 'path_mean'}
    for row in history[1]:
        assert set(row) == expected
        assert all(np.isfinite(value) for value in row.values())


def test_terms_that_are_off_are_no_metrics():
    method = tiny(method__penalty='none', method__path_weight=0.0)
    state = jax.eval_shape(method.init, KEY, batch_of())
    metrics = jax.eval_shape(method.update, state, batch_of(), KEY)[1]
    assert not {'loss/penalty', 'loss/path', 'path_mean'} & set(metrics)


def test_lazy_terms_run_on_their_intervals_with_a_step_of_their_own(history):
    states = history[0]
    assert changes(states, 'penalty') == [0, 3, 6]
    assert changes(states, 'path') == changes(states, 'path_mean') == [0, 2, 4, 6]
    assert [int(state.step) for state in states] == list(range(8))
    for name, lazy in (('generator', 4), ('discriminator', 3)):
        counts = optax.tree_utils.tree_get_all_with_path(states[-1].nets[name].opt, 'count')
        assert counts and all(count == 7 + lazy for _, count in counts)


def test_the_average_takes_one_step_towards_the_new_weights(history):
    before, after = (history[0][i].nets['generator'] for i in (4, 5))
    decay = float(ema_decay(jnp.int32(4), BATCH, 0.05, 0.0))
    assert 0.5 < decay < 0.95
    expected = jax.tree.map(lambda e, p: decay * e + (1 - decay) * p, before.ema, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), after.ema, expected)


def test_the_mean_latent_follows_the_latents_of_the_batch(method, history):
    before, after = history[0][2], history[0][3]
    label = batch_of(2)['label']
    keys = sample_keys(stream(jax.random.fold_in(KEY, 2), 'generator'), jnp.arange(BATCH))
    z = jnp.stack([jax.random.normal(stream(key, 'z'), (8,)) for key in keys])
    one_hot = np.concatenate([np.eye(n + 1)[label[:, a]][:, :n] for a, n in enumerate(LABELS)], 1)  # -1 is the last
    w = method.pair.generator.apply(
        {'params': before.nets['generator'].params}, z, one_hot.astype(np.float32), method='map'
    )
    expected = 0.8 * before.nets['generator'].stats['w_mean'] + 0.2 * np.mean(w, 0)
    np.testing.assert_allclose(after.nets['generator'].stats['w_mean'], expected, rtol=1e-4, atol=1e-5)


def test_a_batch_in_parts_gives_what_the_whole_gives(history):
    start, whole, metrics = history[0][0], history[0][1], history[1][0]
    parts, part_metrics = compiled(2)(start, batch_of(0), jax.random.fold_in(KEY, 0))
    moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), whole.nets, start.nets)
    assert np.median(jax.tree.leaves([moved[name].params for name in moved])) > 1e-3  # far above the tolerance
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
    for got, expected in ((parts.nets, whole.nets), (parts.extra, whole.extra), (part_metrics, metrics)):
        jax.tree.map(close, got, expected)


# Augmentation probability.


def adapted(start, p, sign_sum, step):
    extra = start.extra | {'augment_p': jnp.float32(p), 'sign_sum': jnp.float32(sign_sum)}
    state, metrics = compiled(1)(start.replace(step=jnp.int32(step), extra=extra), batch_of(), KEY)
    return float(state.extra['augment_p']), float(state.extra['sign_sum']), metrics


@pytest.mark.parametrize(
    'p, sign_sum, expected',
    [(0.3, 10, 0.3 + 0.16), (0.3, -10, 0.3 - 0.16), (0.05, -10, 0), (0.95, 10, 0.999)],
)
def test_p_moves_by_the_sign_of_real_logits_and_stays_a_probability(start, p, sign_sum, expected):
    moved, rest, metrics = adapted(start, p, sign_sum, step=3)  # 4 x 8 images of 200
    assert moved == pytest.approx(expected, abs=1e-6) and moved < 1 and rest == 0
    assert metrics['augment_p'] == np.float32(p)  # what this update used


def test_between_moves_the_signs_add_up(start):
    for step in range(ADAPT_INTERVAL - 1):
        p, total, metrics = adapted(start, 0.3, 2.0, step)
        assert p == np.float32(0.3) and total == pytest.approx(2 + float(metrics['sign/real']), abs=1e-6)


def test_a_fixed_p_is_no_state():
    method = tiny(method__augment=CONFIG['method']['augment'] | {'target': 0.0})
    assert not {'augment_p', 'sign_sum'} & set(jax.eval_shape(method.init, KEY, batch_of()).extra)
    assert method.augment_p(1000) == 0.3


# Gradients of the lazy terms.


def widen(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def along(params, direction, step):
    return jax.tree.map(lambda p, d: p + step * d, params, direction)


def assert_descends(step, value, params, weight):
    """A plain gradient step moves by the gradient of weight x value, as differences in random directions tell it."""
    tx = optax.sgd(1.0)
    moved = step(create_net(params, tx, ema=True))
    rng, h = np.random.default_rng(0), 1e-6
    for _ in range(3):
        direction = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        slope = (value(along(params, direction, h)) - value(along(params, direction, -h))) / (2 * h)
        products = jax.tree.map(lambda a, b, d: jnp.sum((a - b) * d), params, moved.params, direction)
        assert sum(jax.tree.leaves(products)) == pytest.approx(weight * float(slope), rel=1e-5)
        assert abs(slope) > 1e-4


@pytest.fixture
def double(start, float64):
    """In float64: the method with plain gradient descent, weights of both networks, and a batch."""
    method = dataclasses.replace(tiny(), g_tx=optax.sgd(1.0), d_tx=optax.sgd(1.0))
    params = {name: widen(net.params) for name, net in start.nets.items()}
    batch = batch_of() | {'image': jnp.asarray(to_float(batch_of()['image']), jnp.float64)}
    return method, params, batch | {'key': sample_keys(KEY, jnp.arange(BATCH))}


def test_the_r1_step_descends_the_gradient_norm_of_augmented_reals(double):
    method, params, batch = double
    p = jnp.float64(0.8)
    params, g = params['discriminator'], create_net(params['generator'], method.g_tx)
    run = jax.jit(lambda params: method._penalty_step(create_net(params, method.d_tx), g, batch, p, 1.0, 0))
    penalty = lambda params: run(params)[1]
    assert_descends(lambda net: run(net.params)[0], penalty, params, weight=1.5 * 3)

    @jax.jit
    def by_hand(params):
        label = jnp.concatenate([jax.nn.one_hot(batch['label'][:, a], n) for a, n in enumerate(LABELS)], 1)

        def total(image):
            image = method.augment(image, p, streams(batch['key'], 'augment'))
            return jnp.sum(method.pair.discriminator.apply({'params': params}, image, label).logit)

        return 0.5 * jnp.sum(jnp.square(jax.grad(total)(batch['image']))) / BATCH

    assert float(penalty(params)) == pytest.approx(float(by_hand(params)), rel=1e-6)


def test_the_path_step_descends_the_spread_of_path_lengths(double):
    method, params, batch = double
    mean = jnp.float64(0.3)
    run = jax.jit(lambda params: method._path_step(create_net(params, method.g_tx), batch, mean))
    assert_descends(lambda net: run(net.params)[0], lambda params: run(params)[2], params['generator'], weight=2.0 * 2)


# Style mixing.


def test_the_share_of_mixed_samples_is_mixing_and_layers_are_drawn_evenly(method):
    taken = np.asarray(method._crossover(sample_keys(KEY, jnp.arange(4000))))
    first = method.num_latents - taken.sum(1)  # first layer that takes the second latent
    np.testing.assert_array_equal(taken, np.arange(method.num_latents) >= first[:, None])  # and all after it
    assert first.min() == 1
    mixed = first < method.num_latents
    assert scipy.stats.binomtest(int(mixed.sum()), 4000, 0.9).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(first[mixed], minlength=method.num_latents)[1:]).pvalue > 1e-3


def test_layers_from_the_crossover_on_take_the_second_latent(method, start):
    params, label = start.nets['generator'].params, batch_of()['label']
    batch = {'key': sample_keys(jax.random.key(3), jnp.arange(BATCH)), 'label': label}
    _, ws, w = jax.jit(lambda params, batch: method._fake(params, batch, 1.0))(params, batch)
    other = method._map(params, method.draw(streams(batch['key'], 'other')), label)
    second = np.asarray(method._crossover(batch['key']))
    assert second.any() and np.abs(other - w).min(1).max() > 0
    expected = np.where(second[:, :, None], np.asarray(other)[:, None], np.asarray(w)[:, None])
    np.testing.assert_allclose(ws, expected, rtol=1e-5, atol=1e-6)


# Sampling.


@pytest.fixture(scope='module')
def trained(history):
    """A state whose averaged weights, mean latent and noise differ from those at the start."""
    return history[0][-1]


@pytest.fixture(scope='module')
def sample(method):
    run = jax.jit(method.sample)

    def images(state, seeds, label, truncation=1.0):
        batch = {'seed': np.int32(seeds), 'label': np.int32(label), 'truncation': np.full(len(seeds), truncation, 'f')}
        return np.asarray(run(state, batch, KEY)['image'])

    return images


def test_a_sample_depends_on_its_own_seed_and_label_alone(sample, trained):
    label = [[0, 0], [1, 1], [2, 0], [-1, -1]]
    images = sample(trained, [3, 1, 4, 15], label)
    assert images.shape == (4, *RESOLUTION, 3) and np.abs(images).max() <= 1
    shuffled = sample(trained, [15, 92, 3, 4], [label[3], [0, 1], label[0], label[2]])
    np.testing.assert_allclose(shuffled[[2, 3, 0]], images[[0, 2, 3]], atol=1e-5)
    distances = [np.abs(a - b).max() for i, a in enumerate(images) for b in images[:i]]
    assert min(distances) > 1e-3


@pytest.mark.parametrize('label', [[[0, 0], [1, 0]], [[0, 0], [0, 1]], [[0, 1], [-1, 1]]])
def test_every_attribute_changes_the_picture_of_a_seed(sample, trained, label):
    first, second = sample(trained, [7, 7, 0, 0], [*label, [0, 0], [0, 0]])[:2]
    assert np.abs(first - second).max() > 1e-3


def test_pictures_come_from_the_average_and_not_from_the_weights(sample, trained):
    g = trained.nets['generator']
    zero = jax.tree.map(jnp.zeros_like, g.params)
    seeds, label = [0, 1, 2, 3], [[0, 0]] * 4
    with_other = lambda **parts: trained.replace(nets=trained.nets | {'generator': g.replace(**parts)})
    images = sample(trained, seeds, label)
    np.testing.assert_array_equal(sample(with_other(params=zero), seeds, label), images)
    assert np.abs(sample(with_other(ema=zero), seeds, label) - images).max() > 1e-3


def test_truncation_goes_from_the_latent_to_the_mean(method, trained):
    g = trained.nets['generator']
    z, label = method.draw(sample_keys(KEY, jnp.arange(3))), jnp.array([[0, 1], [1, 0], [2, 1]])
    w, mean = np.asarray(method._map(g.ema, z, label)), np.asarray(g.stats['w_mean'])
    ws = method.latents(trained, z, label, jnp.array([0.0, 0.25, 1.0]))
    assert ws.shape == (3, method.num_latents, 8)
    for layer in range(method.num_latents):
        np.testing.assert_allclose(ws[0, layer], mean, atol=1e-6)
        np.testing.assert_allclose(ws[1, layer], 0.25 * w[1] + 0.75 * mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ws[2, layer], w[2], rtol=1e-4, atol=1e-5)


def test_at_truncation_zero_labels_and_latents_are_forgotten_and_noise_is_not(sample, trained):
    images = sample(trained, [5, 5, 6, 6], [[0, 0], [1, 1], [0, 0], [2, 1]], 0.0)
    np.testing.assert_allclose(images[::2], images[1::2], atol=1e-6)
    assert np.abs(images[0] - images[2]).max() > 1e-4


# Settings.


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'resolution': (10, 9)}, r'data\.resolution: 9x10 .*nearest'),
        ({'accumulate': 4}, r'model\.stddev_group: 4 does not divide the 2 images'),
        ({'method__path_shrink': 3}, r'method\.path_shrink: 3'),
        ({'method__loss': 'non_saturated'}, r"method\.loss: .*did you mean 'non_saturating'"),
        ({'method__penalty_weight': 'automatic'}, r"method\.penalty_weight: expected a number, .*got 'automatic'"),
        ({'method__penalty_interva': 3}, r"method\.penalty_interva: no such field; did you mean 'penalty_interval'"),
        ({'model__z_dim': 'wide'}, r"model\.z_dim: expected int, got 'wide'"),
        ({'method__augment': {'name': 'adda'}}, r"method\.augment.*'adda'.*did you mean 'ada'"),
        ({'optim__generator': {'name': 'adam'}}, r'optim\.generator\.learning_rate: missing'),
        ({'method__path_interval': 0}, r'method\.path_interval'),
        ({'method__path_shrink': 0}, r'method\.path_shrink'),
        ({'method__path_weight': -1.0}, r'method\.path_weight: must not be negative'),
        ({'model__mapping_lr': 0.0}, r'model\.mapping_lr: 0.0 is not above 0'),
        ({'method__mixing': 1.5}, r'method\.mixing'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_name(changes, message):
    with pytest.raises(UserError, match=message):
        tiny(**changes)


@pytest.mark.parametrize('gamma, expected', [('auto', 0.0002 * 8 * 6 / 8), ('0.25', 0.25), (3.0, 3.0)])
def test_the_penalty_weight_is_a_number_or_the_rule_of_stylegan2_ada(gamma, expected):
    assert tiny(method__penalty_weight=gamma).penalty_weight(0) == pytest.approx(expected)


def test_without_labels_the_networks_have_no_label_weights():
    method = tiny(labels=())
    state = jax.eval_shape(method.init, KEY, batch_of(labels=()))
    assert 'embed' not in state.nets['generator'].params['mapping']
    assert 'label' not in state.nets['discriminator'].params
    jax.eval_shape(method.update, state, batch_of(labels=()), KEY)
