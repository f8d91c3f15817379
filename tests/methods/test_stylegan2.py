"""The StyleGAN2 method: its steps, its lazy regularisers, style mixing, and generation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from tiny_stylegan2 import BATCH, CONFIG, KEY, LABELS, RESOLUTION, batch_of, tiny

from productgen.augment import ADAPT_INTERVAL
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import create_net
from productgen.core.step import ema_decay
from productgen.losses.penalties import path_lengths
from productgen.methods import Generates, HasLatents
from productgen.methods.parts.critic import Phase, Pictures


@functools.cache
def compiled(accumulate):
    """The jitted update: slow to compile, so once for all tests."""
    return jax.jit(tiny(accumulate=accumulate).update)


@pytest.fixture(scope='module')
def method():
    return tiny()


@pytest.fixture(scope='module')
def start(method):
    return jax.jit(method.init)(stream(KEY, 'init'), batch_of(), {})


@pytest.fixture(scope='module')
def history(start):
    """The state before and after each of seven updates, and the metrics of each."""
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
    rng, state = jax.random.key(1), jax.eval_shape(method.init, KEY, batch_of(), {})
    after, metrics = jax.eval_shape(compiled(1), state, batch_of(), rng)
    describe = lambda tree: jax.tree.map(lambda x: (x.shape, str(x.dtype), x.weak_type), tree)
    assert describe(after) == describe(state)
    assert all(x.shape == () and x.dtype == np.float32 for x in jax.tree.leaves(metrics))


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
        assert all(np.isfinite(metric.value) and metric.weight in (0, 1) for metric in row.values())


def test_terms_that_are_off_are_no_metrics():
    method = tiny(method__penalty='none', method__path_weight=0.0)
    state = jax.eval_shape(method.init, KEY, batch_of(), {})
    metrics = jax.eval_shape(method.update, state, batch_of(), KEY)[1]
    assert set(state.extra) == {'augment_p', 'sign_sum'}
    assert not {'loss/penalty', 'loss/path', 'path_mean'} & set(metrics)


def test_lazy_terms_run_on_their_intervals_with_a_step_of_their_own(history):
    states, metrics = history
    due = lambda name: [step for step, row in enumerate(metrics) if row[name].weight]
    assert due('loss/penalty') == [0, 3, 6]
    assert due('loss/path') == changes(states, 'path_mean') == [0, 2, 4, 6]
    for name in ('loss/penalty', 'loss/path'):
        assert all((row[name].value > 0) == bool(row[name].weight) for row in metrics)
    assert all(
        row['path_mean'].value == state.extra['path_mean'] for row, state in zip(metrics, states[1:], strict=True)
    )
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
    w = method.generator.apply({'params': before.nets['generator'].params}, z, one_hot.astype(np.float32), method='map')
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
    assert metrics['augment_p'].value == np.float32(p)  # used by this update


def test_between_moves_the_signs_add_up(start):
    for step in range(ADAPT_INTERVAL - 1):
        p, total, metrics = adapted(start, 0.3, 2.0, step)
        assert p == np.float32(0.3) and total == pytest.approx(2 + float(metrics['sign/real'].value), abs=1e-6)


def test_a_fixed_p_is_no_state():
    method = tiny(method__augment=CONFIG['method']['augment'] | {'target': 0.0})
    assert not {'augment_p', 'sign_sum'} & set(jax.eval_shape(method.init, KEY, batch_of(), {}).extra)
    assert method.critic.augment_p(1000) == 0.3


# Gradients of the lazy terms.


def widen(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)


def along(params, direction, step):
    return jax.tree.map(lambda p, d: p + step * d, params, direction)


def assert_descends(step, value, params, weight):
    """A plain gradient step moves by the gradient of weight x value, compared with differences in random directions."""
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
    method = tiny()
    critic = dataclasses.replace(method.critic, tx=optax.sgd(1.0))
    method = dataclasses.replace(method, tx=optax.sgd(1.0), critic=critic)
    params = {name: widen(net.params) for name, net in start.nets.items()}
    batch = batch_of() | {'image': jnp.asarray(to_float(batch_of()['image']), jnp.float64)}
    return method, params, batch | {'key': sample_keys(KEY, jnp.arange(BATCH))}


def test_the_r1_step_descends_the_gradient_norm_of_augmented_reals(double):
    method, params, batch = double
    critic, phase, params = method.critic, Phase(0, jnp.float64(0.8)), params['discriminator']
    show = lambda rows: Pictures(rows['image'], jnp.zeros_like(rows['image']), method.context(rows))
    step = lambda params: critic.penalty_step(create_net(params, critic.tx), batch, show, phase, method.problem)
    run = jax.jit(step)
    penalty = lambda params: run(params)[1]
    assert_descends(lambda net: run(net.params)[0], penalty, params, weight=1.5 * 3)

    @jax.jit
    def by_hand(params):
        label = jnp.concatenate([jax.nn.one_hot(batch['label'][:, a], n) for a, n in enumerate(LABELS)], 1)

        def total(image):
            image = critic.augment(image, phase.p, streams(batch['key'], 'augment'))
            return jnp.sum(critic.network.apply({'params': params}, image, label).logit)

        return 0.5 * jnp.sum(jnp.square(jax.grad(total)(batch['image']))) / BATCH

    assert float(penalty(params)) == pytest.approx(float(by_hand(params)), rel=1e-6)


def test_the_path_step_descends_the_spread_of_path_lengths(double):
    method, params, batch = double
    mean = jnp.float64(0.3)
    run = jax.jit(lambda params: method._path_step(create_net(params, method.tx), batch, mean))
    assert_descends(lambda net: run(net.params)[0], lambda params: run(params)[2], params['generator'], weight=2.0 * 2)
    _, new_mean, value = run(params['generator'])
    half = {'key': batch['key'][::2], 'label': batch['label'][::2]}
    noise = normal(streams(half['key'], 'path'), (*RESOLUTION, 3))

    @jax.jit
    def lengths(params):
        _, ws, _ = method._fake(params, half, 1.0)
        return path_lengths(lambda ws: method._synthesize(params, ws, half['key']), ws, noise)

    found = lengths(params['generator'])
    assert found.shape == (BATCH // 2,)
    assert float(new_mean) == pytest.approx(0.9 * 0.3 + 0.1 * float(found.mean()), rel=1e-6)
    assert float(value) == pytest.approx(float(jnp.mean((found - 0.3) ** 2)), rel=1e-6)


def test_labels_have_no_weight_in_path_lengths_and_latents_before_the_transition(start):
    method = tiny(method__transition_kimg='0.016->0.048')
    g, batch = start.nets['generator'], batch_of() | {'key': sample_keys(KEY, jnp.arange(BATCH))}
    other = batch | {'label': (batch['label'] + 1) % np.int32(LABELS)}
    run = jax.jit(lambda batch, weight: method.regularise(g, batch, start.extra, Phase(0, 0.0, weight))[1]['path_mean'])
    assert run(batch, 0.0) == run(other, 0.0) and run(batch, 1.0) != run(other, 1.0)
    z = method.draw(batch['key'])
    for step, same in ((0, True), (4, False)):
        state = start.replace(step=jnp.int32(step))
        first, second = (method.latents(state, z, one['label'], 1.0) for one in (batch, other))
        assert np.array_equal(first, second) == same


# Style mixing.


def test_the_fraction_of_mixed_samples_is_mixing_and_layers_are_drawn_evenly(method):
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
    """A state whose averaged weights, mean latent and noise strengths are not the initial ones."""
    return history[0][-1]


@pytest.fixture(scope='module')
def sample(method):
    run = jax.jit(method.generate)

    def images(state, seeds, label, truncation=1.0):
        batch, knobs = {'seed': np.int32(seeds), 'label': np.int32(label)}, np.full(len(seeds), truncation, 'f')
        return np.asarray(run(state, batch, KEY, {'truncation': knobs}))

    return images


def test_it_generates_and_has_latents(method):
    assert isinstance(method, Generates) and isinstance(method, HasLatents)
    assert [knob.name for knob in method.knobs] == ['truncation']


def test_a_sample_depends_on_its_own_seed_and_label_only(sample, trained):
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
    one_for_all = method.latents(trained, z, label, 0.25)
    np.testing.assert_allclose(one_for_all[1], ws[1], rtol=1e-5, atol=1e-6)
    assert ws.shape == (3, method.num_latents, 8)
    for layer in range(method.num_latents):
        np.testing.assert_allclose(ws[0, layer], mean, atol=1e-6)
        np.testing.assert_allclose(ws[1, layer], 0.25 * w[1] + 0.75 * mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ws[2, layer], w[2], rtol=1e-4, atol=1e-5)


def test_at_truncation_zero_labels_and_latents_are_forgotten_and_noise_is_not(sample, trained):
    images = sample(trained, [5, 5, 6, 6], [[0, 0], [1, 1], [0, 0], [2, 1]], 0.0)
    np.testing.assert_allclose(images[::2], images[1::2], atol=1e-6)
    assert np.abs(images[0] - images[2]).max() > 1e-4
