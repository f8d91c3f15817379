"""Optimisers and schedules by name, against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.config import UserError
from productgen.core.optim import (
    OPTIMIZERS,
    SCHEDULES,
    OptimConfig,
    check_freeze,
    frozen_or_free,
    learning_rate,
    make_optimizer,
)
from productgen.core.state import create_net
from productgen.core.step import apply_gradients


def trace(tx, grads, start=1.0):
    """The value of a parameter after each of several gradients."""

    def step(net, grad):
        net = apply_gradients(net, tx, {'w': jnp.full((2, 3), grad)})
        return net, net.params['w'][0, 0]

    def run(grads):
        return jax.lax.scan(step, create_net({'w': jnp.full((2, 3), start)}, tx), grads)[1]

    return np.asarray(jax.jit(run)(np.float32(grads)), float)


def rate_at(schedule, count):
    """A learning rate after `count` updates, computed as `apply_gradients` does."""
    with jax.numpy_dtype_promotion('standard'):
        return schedule(jnp.int32(count))


def rates(config, steps, lazy=None, updates=None):
    """Learning rate of each update, measured with plain gradient descent."""
    values = trace(make_optimizer(config, steps, lazy), [1.0] * (updates or steps), 0.0)
    return -np.diff(values, prepend=0)


@pytest.mark.parametrize('lazy, c', [(None, 1), (16, 16 / 17), (4, 4 / 5), (1, 1 / 2)])
def test_adam_is_kingma_and_bas_with_the_lazy_correction(lazy, c):
    rate, b1, b2, eps = 0.1 * c, 0.5**c, 0.8**c, 1e-3
    grads, w, m, v, expected = [0.5, -2.0, 3.0, 0.1], 1.0, 0.0, 0.0, []
    for t, grad in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        w -= rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        expected.append(w)
    tx = make_optimizer(OptimConfig('adam', 0.1, 0.5, 0.8, eps), 100, lazy)
    np.testing.assert_allclose(trace(tx, grads), expected, rtol=1e-5)


def test_adamw_is_adam_with_decoupled_decay():
    rate, b1, b2, eps, decay = 0.1, 0.5, 0.8, 1e-3, 0.2
    grads, w, m, v, expected = [0.5, -2.0, 3e-4], 1.0, 0.0, 0.0, []
    for t, grad in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        w -= rate * ((m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
        expected.append(w)
    tx = make_optimizer(OptimConfig('adamw', rate, b1, b2, eps, decay), None)
    np.testing.assert_allclose(trace(tx, grads), expected, rtol=1e-5)


@pytest.mark.parametrize('name', sorted(OPTIMIZERS))
def test_every_optimiser_goes_downhill(name):
    values = trace(make_optimizer(OptimConfig(name, 0.1), None), [1.0, 1.0])
    assert values[1] < values[0] < 1


@pytest.mark.parametrize('name', sorted(set(OPTIMIZERS) - {'adam'}))
def test_weight_decay_is_decoupled_from_the_gradient(name):
    """Without a gradient each step reduces a weight by the fraction rate x decay, whatever the momentum."""
    tx = make_optimizer(OptimConfig(name, 0.1, weight_decay=0.2), None)
    np.testing.assert_allclose(trace(tx, [0.0] * 3), (1 - 0.1 * 0.2) ** np.arange(1, 4), rtol=1e-5)


def test_rmsprop_divides_by_the_root_of_the_running_square():
    w, v, expected = 1.0, 0.0, []
    for grad in (0.5, -2.0, 3.0):
        v = 0.8 * v + 0.2 * grad**2
        w -= 0.1 * grad / (np.sqrt(v) + 1e-3)
        expected.append(w)
    tx = make_optimizer(OptimConfig('rmsprop', 0.1, b2=0.8, eps=1e-3), None)
    np.testing.assert_allclose(trace(tx, [0.5, -2.0, 3.0]), expected, rtol=1e-5)


def test_adam_refuses_weight_decay_and_names_adamw():
    with pytest.raises(UserError, match='weight_decay.*adamw'):
        make_optimizer(OptimConfig('adam', 0.1, weight_decay=0.1), None)


@pytest.mark.parametrize(
    'options, field',
    [
        ({'learning_rate': -0.1}, 'learning_rate'),
        ({'eps': -1e-8}, 'eps'),
        ({'name': 'adamw', 'weight_decay': -0.1}, 'weight_decay'),
        ({'clip': -1.0}, 'clip'),
        ({'b1': -0.1}, 'b1'),
        ({'b1': 1.0}, 'b1'),
        ({'b2': -0.1}, 'b2'),
        ({'b2': 1.5}, 'b2'),
        ({'end_b2': 1.0}, 'end_b2'),
        ({'name': 'adamw', 'end_b2': 0.99}, "end_b2: only adam can change its b2, 'adamw' cannot"),
        ({'name': 'sgd', 'end_b2': 0.0}, 'end_b2'),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(options, field):
    with pytest.raises(UserError, match=rf'^optim\.\*\.{field}'):
        OptimConfig(**{'name': 'adam', 'learning_rate': 0.1} | options)


def test_gradients_are_clipped_by_their_global_norm():
    config = OptimConfig('sgd', 1.0, b1=0.0, clip=0.5)
    moved = 1 - trace(make_optimizer(config, None), [3.0])
    np.testing.assert_allclose(moved, 0.5 / np.sqrt(6), rtol=1e-5)  # of six equal numbers
    np.testing.assert_allclose(1 - trace(make_optimizer(config, None), [0.1]), 0.1, rtol=1e-5)
    slow = OptimConfig('sgd', 0.1, b1=0.0, clip=0.5)  # clipped before the learning rate
    np.testing.assert_allclose(1 - trace(make_optimizer(slow, None), [3.0]), 0.1 * 0.5 / np.sqrt(6), rtol=1e-5)


@pytest.mark.parametrize(
    'schedule, at',
    [
        ('constant', {0: 1, 50: 1, 100: 1}),
        ('linear', {0: 1, 25: 0.75, 50: 0.5, 100: 0}),
        ('cosine', {0: 1, 25: (1 + np.cos(np.pi / 4)) / 2, 50: 0.5, 100: 0}),
    ],
)
def test_schedules_end_with_the_training(schedule, at):
    rate = learning_rate(OptimConfig('sgd', 0.2, schedule=schedule), 100)
    for count, fraction in at.items():
        np.testing.assert_allclose(rate_at(rate, count), 0.2 * fraction, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('schedule, half', [('constant', 1), ('linear', 0.5), ('cosine', 0.5)])
def test_warmup_rises_from_zero_and_the_schedule_takes_the_rest(schedule, half):
    rate = learning_rate(OptimConfig('sgd', 0.2, schedule=schedule, warmup=0.2), 100)
    for count, fraction in {0: 0, 5: 0.25, 10: 0.5, 20: 1, 60: half}.items():
        np.testing.assert_allclose(rate_at(rate, count), 0.2 * fraction, rtol=1e-5, atol=1e-7)


def test_the_rate_in_use_is_that_of_the_schedule():
    got = rates(OptimConfig('sgd', 1.0, b1=0.0, schedule='linear'), 10)
    np.testing.assert_allclose(got, np.arange(10, 0, -1) / 10, rtol=1e-4)


@pytest.mark.parametrize('steps', [8, 9])
def test_with_lazy_steps_the_schedule_counts_both_kinds(steps):
    """Every fourth iteration, beginning with the first, has two updates; each has an effect."""
    updates = steps + len(range(0, steps, 4))
    got = rates(OptimConfig('sgd', 1.0, b1=0.0, schedule='linear'), steps, 4, updates)
    np.testing.assert_allclose(got, 0.8 * np.arange(updates, 0, -1) / updates, rtol=1e-4)


@pytest.mark.parametrize('options', [{'schedule': 'linear'}, {'schedule': 'cosine'}, {'warmup': 0.1}])
def test_a_schedule_needs_an_end_that_is_not_a_time(options):
    with pytest.raises(UserError, match=r'optim.*schedule.*train\.duration'):
        make_optimizer(OptimConfig('adam', 0.1, **options), None)


@pytest.mark.parametrize('warmup', [-0.1, 1.0, 5.0])
def test_warmup_is_a_fraction(warmup):
    with pytest.raises(UserError, match='warmup'):
        make_optimizer(OptimConfig('adam', 0.1, warmup=warmup), 100)


def test_unknown_names_bring_the_nearest_known_one():
    with pytest.raises(
        UserError, match=r"optim.*name.*'adamm'.*did you mean 'adam'.*adafactor, adam, adamw, rmsprop, sgd"
    ):
        make_optimizer(OptimConfig('adamm', 0.1), 100)
    with pytest.raises(UserError, match="optim.*schedule.*'cosin'.*did you mean 'cosine'"):
        make_optimizer(OptimConfig('adam', 0.1, schedule='cosin'), 100)
    assert set(SCHEDULES) == {'constant', 'linear', 'cosine'}


def test_a_schedule_can_end_early_and_above_zero():
    rate = learning_rate(OptimConfig('adam', 0.2, schedule='cosine', anneal=0.5, end=0.25), 100)
    for count, fraction in {0: 1, 25: 0.625, 50: 0.25, 100: 0.25}.items():
        np.testing.assert_allclose(rate_at(rate, count), 0.2 * fraction, rtol=1e-5)


@pytest.mark.parametrize('anneal, lazy, end', [(1.0, None, 10), (0.5, None, 5), (1.0, 4, 13)])
def test_b2_follows_its_schedule(anneal, lazy, end):
    """Compared with Adam written out, its bias correction with the b2 of the same step."""
    config = OptimConfig('adam', 0.1, b1=0.0, b2=0.9, end_b2=0.99, anneal=anneal)
    tx = make_optimizer(config, 10, lazy)
    c = lazy / (lazy + 1) if lazy else 1.0
    net, second, expected = create_net(np.zeros(3, np.float32), tx), np.zeros(3), np.zeros(3)
    update = jax.jit(lambda net, grad: apply_gradients(net, tx, grad))
    for step in range(10):
        grad = np.array([1.0, -0.5, 0.1]) * (1 + step)
        net = update(net, np.float32(grad))
        b2 = 0.99**c + (0.9**c - 0.99**c) * 0.5 * (1 + np.cos(np.pi * min(step / end, 1)))
        second = b2 * second + (1 - b2) * grad**2
        expected -= 0.1 * c * grad / (np.sqrt(second / (1 - b2 ** (step + 1))) + 1e-8)
    np.testing.assert_allclose(net.params, expected, rtol=1e-4)


@pytest.mark.parametrize('options', [{'anneal': 0.0}, {'anneal': 1.5}, {'end': -1.0}])
def test_annealing_out_of_range_is_refused(options):
    with pytest.raises(UserError, match=rf'^optim\.\*\.{next(iter(options))}: '):
        make_optimizer(OptimConfig('adam', 0.1, schedule='cosine', **options), 100)


PARAMS = {
    'conv5_0': {'kernel': np.full((2, 3), 0.3, np.float32)},
    'conv5_1': {'bias': np.ones((2, 3), np.float32)},
    'from_rgb': {'w': np.ones((2, 3), np.float32)},
}


def moved(config, params):
    """Names of the layers that three steps change, with gradients of one everywhere."""
    tx = make_optimizer(config, 100)
    step = lambda _, net: apply_gradients(net, tx, jax.tree.map(jnp.ones_like, params))
    after = jax.jit(lambda params: jax.lax.fori_loop(0, 3, step, create_net(params, tx)).params)(params)
    same = jax.tree.map(np.array_equal, after, params)
    return {name for name, layer in same.items() if not any(jax.tree.leaves(layer))}


@pytest.mark.parametrize('name', sorted(OPTIMIZERS))
@pytest.mark.parametrize(
    'freeze, free',
    [
        ('', {'conv5_0', 'conv5_1', 'from_rgb'}),
        ('from_rgb', {'conv5_0', 'conv5_1'}),
        ('conv5_.*, from_rgb', set()),
        ('conv5_1/bias,conv5_0', {'from_rgb'}),
        ('conv5', {'conv5_0', 'conv5_1', 'from_rgb'}),  # a part of a name does not match
        ('.*', set()),
    ],
)
def test_frozen_parameters_keep_their_bits(name, freeze, free):
    decay = 0.0 if name == 'adam' else 0.1
    config = OptimConfig(name, 0.1, weight_decay=decay, warmup=0.0, clip=1.0, freeze=freeze)
    assert moved(config, PARAMS) == free


def test_the_gradients_of_frozen_parameters_do_not_count_for_clipping():
    tx = make_optimizer(OptimConfig('sgd', 1.0, b1=0.0, clip=1.0, freeze='large'), None)
    params = {'large': jnp.ones(1), 'small': jnp.ones(1)}
    grads = {'large': np.float32([1e6]), 'small': np.float32([0.5])}
    updates = jax.jit(lambda grads: tx.update(grads, tx.init(params), params)[0])(grads)
    assert updates['small'] == -0.5 and updates['large'] == 0


def test_frozen_parameters_have_no_moments():
    tx = make_optimizer(OptimConfig('adam', 0.1, freeze='conv5_.*'), None)
    assert sum(x.size for x in jax.tree.leaves(tx.init(PARAMS)) if x.ndim) == 2 * 2 * 3


def test_a_pattern_that_matches_no_parameter_is_refused_with_the_nearest():
    check_freeze([PARAMS], 'conv5_.*,from_rgb', 'optim.d.freeze')
    with pytest.raises(UserError, match=r"optim\.d\.freeze: 'conv6_0' matches no parameter; .* conv5_0/kernel"):
        check_freeze([PARAMS, {'other': jnp.ones(1)}], 'from_rgb,conv6_0', 'optim.d.freeze')
    with pytest.raises(UserError, match=r"optim.*freeze: '\(' is not a regular expression"):
        OptimConfig('adam', 0.1, freeze='(')
    assert frozen_or_free(PARAMS, 'from_rgb/.')['from_rgb']['w'] == 'frozen'
