"""Random streams, accumulated gradients, one optimiser step, averages of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from productgen.core.pixels import to_float, to_uint8
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import create_net
from productgen.core.step import average, ema_decay, gradients, step_net

KEY = jax.random.key(0)
data = jax.random.key_data


# Random streams.


@pytest.mark.parametrize(
    'name, number', [('z', 1657960367), ('other', 1498952992), ('generator', 1252948848), ('conv0_1', 2119214804)]
)
def test_a_stream_is_the_key_folded_with_the_crc32_of_its_name(name, number):
    """Literal numbers, so that runs of earlier versions can be resumed and their seeds give the same pictures."""
    np.testing.assert_array_equal(data(stream(KEY, name)), data(jax.random.fold_in(KEY, number)))


def test_streams_differ_by_name_by_key_and_from_their_key():
    keys = [KEY, *(stream(key, name) for key in (KEY, jax.random.key(1)) for name in ('z', 'noise', 'augment'))]
    assert len({tuple(data(key).tolist()) for key in keys}) == 7


def test_the_key_of_a_sample_depends_only_on_its_index():
    keys = sample_keys(KEY, jnp.array([0, 5, 2**31 - 1, 5]))
    expected = [jax.random.fold_in(KEY, i) for i in (0, 5, 2**31 - 1, 5)]
    np.testing.assert_array_equal(data(keys), [data(key) for key in expected])
    assert len({tuple(row) for row in data(keys).tolist()}) == 3


def test_streams_of_many_keys_are_those_of_each():
    keys = sample_keys(KEY, jnp.arange(3))
    np.testing.assert_array_equal(data(streams(keys, 'z')), [data(stream(key, 'z')) for key in keys])


def test_normal_values_of_a_sample_come_from_its_own_key():
    keys = sample_keys(KEY, jnp.arange(3))
    values = normal(keys, (2, 5))
    assert values.shape == (3, 2, 5)
    np.testing.assert_array_equal(values, [jax.random.normal(key, (2, 5)) for key in keys])


# Gradients.


def quadratic(params, stats, batch):
    error = batch['x'] @ params['w'] + params['b'] - batch['y']
    stats = {'order': 2 * stats['order'] + jnp.mean(batch['x'])}
    return jnp.mean(error**2), (stats, {'mean': jnp.mean(error), 'abs': jnp.mean(jnp.abs(error))})


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    x, y, w = (rng.normal(size=size).astype(np.float32) for size in ((8, 3), (8,), (3,)))
    return {'w': w, 'b': np.float32(0.5)}, {'order': np.float32(1)}, {'x': x, 'y': y}


@pytest.mark.parametrize('accumulate', [1, 2, 4, 8])
def test_gradients_of_parts_average_to_those_of_the_batch(problem, accumulate):
    params, stats, batch = problem
    grads, _, metrics = jax.jit(lambda *args: gradients(quadratic, *args, accumulate))(params, stats, batch)
    error = batch['x'] @ params['w'] + params['b'] - batch['y']
    np.testing.assert_allclose(grads['w'], 2 * error @ batch['x'] / 8, rtol=1e-5)
    np.testing.assert_allclose(grads['b'], 2 * error.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['mean'], error.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['abs'], np.abs(error).mean(), rtol=1e-5)


@pytest.mark.parametrize('accumulate, devices', [(1, 1), (2, 1), (4, 1), (2, 2), (2, 4), (4, 2)])
def test_stats_pass_through_the_parts_in_order(problem, accumulate, devices):
    params, stats, batch = problem
    expected = stats['order']
    of_devices = [np.split(rows, accumulate) for rows in np.split(batch['x'], devices)]  # consecutive samples
    for part in zip(*of_devices, strict=True):
        expected = 2 * expected + np.mean(part)
    new = gradients(quadratic, params, stats, batch, accumulate, devices)[1]
    np.testing.assert_allclose(new['order'], expected, rtol=1e-5)


@pytest.mark.parametrize('accumulate', [1, 2])
def test_step_net_is_a_step_of_the_optimiser(problem, accumulate):
    params, stats, batch = problem
    tx = optax.adamw(0.1, weight_decay=0.3)
    net = create_net(params, tx, stats, ema=True)
    grad = jax.grad(lambda params: quadratic(params, stats, batch)[0])
    opt, by_hand = tx.init(params), params
    for _ in range(2):
        grads = grad(by_hand)
        with jax.numpy_dtype_promotion('standard'):
            updates, opt = tx.update(grads, opt, by_hand)
        by_hand = optax.apply_updates(by_hand, updates)
        net, metrics = step_net(net, tx, quadratic, batch, accumulate=accumulate)
    for got, expected in ((net.params, by_hand), (net.opt, opt), (net.ema, params)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, expected)
    norm = np.sqrt(np.sum(np.square(grads['w'])) + np.square(grads['b']))
    np.testing.assert_allclose(metrics['grad_norm'], norm, rtol=1e-5)
    assert net.stats['order'] != stats['order'] and set(metrics) == {'mean', 'abs', 'grad_norm'}


# Averages.


def test_an_average_starts_as_a_copy_of_the_weights():
    params = {'w': jnp.ones(3)}
    net = create_net(params, optax.sgd(1.0), ema=True)
    np.testing.assert_array_equal(net.ema['w'], 1)
    assert net.ema['w'].unsafe_buffer_pointer() != params['w'].unsafe_buffer_pointer()  # so both can be donated
    assert create_net(params, optax.sgd(1.0)).ema is None


def test_average_moves_the_average_and_nothing_else():
    net = create_net({'w': jnp.full(3, 10.0)}, optax.sgd(1.0), ema=True).replace(ema={'w': jnp.full(3, 2.0)})
    moved = average(net, 0.75)
    np.testing.assert_allclose(moved.ema['w'], 0.75 * 2 + 0.25 * 10)
    assert moved.params is net.params and moved.opt is net.opt


def test_weights_count_half_after_a_half_life():
    decay = float(ema_decay(jnp.int32(10**6), 32, 2.0, 0.0))
    assert decay ** (2000 / 32) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize('step, half_life', [(0, 0.05 * 32), (99, 0.05 * 3200), (10**5, 20_000)])
def test_with_rampup_the_half_life_is_a_fraction_of_the_images_seen(step, half_life):
    np.testing.assert_allclose(ema_decay(jnp.int32(step), 32, 20.0, 0.05), 0.5 ** (32 / half_life), rtol=1e-5)


def test_images_of_another_batch_size_count_in_the_rampup():
    """100 steps of 8 images, then 10 of 32: 1120 images seen before the update."""
    decay = ema_decay(jnp.int32(110), 32, 20.0, 0.05, images_before=100 * (8 - 32))
    np.testing.assert_allclose(decay, 0.5 ** (32 / (0.05 * (1120 + 32))), rtol=1e-5)


def test_without_a_half_life_the_average_is_the_weights():
    assert ema_decay(jnp.int32(7), 32, 0.0, 0.0) == 0


# Pictures.


def test_every_byte_survives_the_way_to_float_and_back():
    image = np.arange(256, dtype=np.uint8)
    floats = to_float(image)
    assert (floats.dtype, floats[0], floats[-1]) == (jnp.float32, -1, 1)
    np.testing.assert_array_equal(to_uint8(floats), image)


def test_floats_out_of_range_are_clipped_and_others_rounded():
    np.testing.assert_array_equal(to_uint8(jnp.array([-3, 0.0039, 0.0041, 1.5])), [0, 128, 128, 255])
    np.testing.assert_array_equal(to_uint8(jnp.array([126.4, 126.6]) / 127.5 - 1), [126, 127])
