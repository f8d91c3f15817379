"""Normalisation layers against NumPy, Flax and singular values."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.nets.conv import conv_same
from productgen.nets.norms import BatchNorm, Grouped, LayerNorm, Linear


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def trained(net, variables, x, train, *args):
    """Output and variables after a training pass."""
    out, new = trained_pass(net, train, variables, x, *args)
    return np.asarray(out), variables | new


@functools.partial(jax.jit, static_argnums=(0, 1))
def trained_pass(net, train, variables, x, *args):
    return net.apply(variables, x, train, *args, mutable=['stats'])


@functools.partial(jax.jit, static_argnums=(0, 2))
def apply(net, variables, options, *args):
    return net.apply(variables, *args, **dict(options))


@functools.partial(jax.jit, static_argnums=(0, 3))
def init(net, key, x, train=None, *args):
    return net.init(key, x, *([] if train is None else [train]), *args)


def converged(net, variables, x):
    """Variables after many training passes."""
    step = lambda _, stats: net.apply(variables | {'stats': stats}, x, True, mutable=['stats'])[1]['stats']
    return variables | {'stats': jax.jit(lambda stats: jax.lax.fori_loop(0, 200, step, stats))(variables['stats'])}


# Batch norm.


@pytest.mark.parametrize('shape', [(6, 5), (3, 4, 2, 5)])
def test_batch_norm_matches_flax(shape):
    net, other = BatchNorm(momentum=0.8, eps=1e-3), nn.BatchNorm(momentum=0.8, epsilon=1e-3)
    x, params = 3 + 2 * draw(*shape), {'gain': draw(5, seed=1), 'bias': draw(5, seed=2)}
    mine = init(net, jax.random.key(0), x, True) | {'params': params}
    theirs = {
        'params': {'scale': params['gain'], 'bias': params['bias']},
        'batch_stats': {'mean': np.zeros(5, np.float32), 'var': np.ones(5, np.float32)},
    }
    step = jax.jit(lambda theirs, x: other.apply(theirs, x, use_running_average=False, mutable=['batch_stats']))
    for seed in range(3):
        x = seed + draw(*shape, seed=seed)
        out, mine = trained(net, mine, x, True)
        expected, new = step(theirs, x)
        theirs |= new
        np.testing.assert_allclose(out, expected, atol=1e-5)
    for name in ('mean', 'var'):
        np.testing.assert_allclose(mine['stats'][name], theirs['batch_stats'][name], rtol=1e-5, atol=1e-6)
    both = lambda mine, theirs, x: (net.apply(mine, x, False), other.apply(theirs, x, use_running_average=True))
    np.testing.assert_allclose(*jax.jit(both)(mine, theirs, x), rtol=1e-5, atol=1e-5)


def test_running_statistics_start_at_zero_and_one_and_converge_to_those_of_the_data():
    net, data = BatchNorm(), 5 + 3 * draw(4000, 2).astype(np.float64)
    variables = init(net, jax.random.key(0), np.float32(data[:2]), True)
    assert np.array_equal(variables['stats']['mean'], [0, 0]) and np.array_equal(variables['stats']['var'], [1, 1])
    variables = converged(net, variables, np.float32(data))
    np.testing.assert_allclose(variables['stats']['mean'], data.mean(0), rtol=1e-4)
    np.testing.assert_allclose(variables['stats']['var'], data.var(0), rtol=1e-4)


def test_batch_norm_without_running_statistics_uses_those_of_the_batch():
    net, x = BatchNorm(running=False), 4 + draw(8, 3)
    variables = init(net, jax.random.key(0), x, True)
    assert variables.keys() == {'params'}
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    for train in (True, False):
        found = apply(net, variables, (('train', train),), x)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_conditional_gains_and_biases_are_summed_over_attributes():
    net, x = BatchNorm(), draw(4, 3, 3, 2)
    # Two attributes, of two and three values; unknown are the first one in the third row and both in the last.
    label = np.float32([[1, 0, 0, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]])
    values = {'gain': draw(2), 'bias': draw(2), 'label_gain': draw(5, 2, seed=3), 'label_bias': draw(5, 2, seed=4)}
    stats = init(net, jax.random.key(0), x, True, label)['stats']
    normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    picks = [[0, 3], [1, 2], [4], []]
    for weight in (1.0, 0.25, 0.0):
        out, _ = trained(net, {'params': values, 'stats': stats}, x, True, label, weight)
        for i, pick in enumerate(picks):
            gain = values['gain'] + weight * sum(values['label_gain'][j] for j in pick)
            bias = values['bias'] + weight * sum(values['label_bias'][j] for j in pick)
            np.testing.assert_allclose(out[i], normal[i] * gain + bias, atol=1e-5)


def test_labels_initially_have_no_effect():
    net, x = BatchNorm(), draw(4, 3)
    variables = init(net, jax.random.key(0), x, True, np.eye(4, dtype=np.float32))
    conditional, _ = trained(net, variables, x, True, np.eye(4, dtype=np.float32))
    np.testing.assert_array_equal(conditional, trained(net, variables, x, True)[0])


# Layer norm.


def test_layer_norm_normalises_each_image():
    net, x = LayerNorm(), 2 + 3 * draw(3, 4, 5, 2)
    params = {'gain': draw(2, seed=1), 'bias': draw(2, seed=2)}
    out = np.asarray(apply(net, {'params': params}, (), x))
    for image, row in zip(x.astype(np.float64), out, strict=True):
        expected = (image - image.mean()) / np.sqrt(image.var() + 1e-5) * params['gain'] + params['bias']
        np.testing.assert_allclose(row, expected, atol=1e-5)


# Spectral norm.


def effective(net, variables, features):
    """The normalised matrix: the output of the layer for the unit vectors."""
    return np.asarray(apply(net, variables, (), np.eye(features, dtype=np.float32)))


def test_spectral_norm_converges_to_one():
    net, x = Linear(5, bias=False, spectral=True), np.eye(7, dtype=np.float32)
    variables = converged(net, init(net, jax.random.key(0), x, True), x)
    kernel = np.asarray(variables['params']['kernel'])
    np.testing.assert_allclose(effective(net, variables, 7), kernel / np.linalg.svd(kernel)[1][0], atol=1e-4)


def test_convolutions_are_normalised_as_matrices():
    net, x = Linear(4, (3, 3), conv_same, bias=False, spectral=True), draw(1, 5, 5, 3)
    variables = converged(net, init(net, jax.random.key(1), x, True), x)
    kernel = variables['params']['kernel']
    sigma = np.linalg.svd(np.asarray(kernel).reshape(27, 4))[1][0]
    found, plain = jax.jit(lambda variables, x: (net.apply(variables, x), conv_same(x, kernel)))(variables, x)
    np.testing.assert_allclose(found, plain / sigma, atol=1e-4)


def test_power_iteration_matches_flax():
    x, mine, theirs = draw(3, 6), Linear(4, bias=False, spectral=True), nn.SpectralNorm(nn.Dense(4, use_bias=False))
    variables = init(mine, jax.random.key(0), x, True)
    kernel, u = variables['params']['kernel'], variables['stats']['u']
    other = jax.jit(lambda x: theirs.init(jax.random.key(0), x, update_stats=False))(x)
    step = jax.jit(lambda other, x: theirs.apply(other, x, update_stats=True, mutable=['batch_stats']))
    other = {
        'params': {'layer_instance': {'kernel': kernel}},
        'batch_stats': jax.tree.map(lambda s: u[None] if s.shape else s, other['batch_stats']),
    }
    for _ in range(3):
        out, variables = trained(mine, variables, x, True)
        expected, new = step(other, x)
        other |= new
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_spectral_norm_is_updated_only_in_training():
    net, x = Linear(4, spectral=True), draw(3, 6)
    variables = init(net, jax.random.key(0), x, True)
    _, new = trained(net, variables, x, False)
    np.testing.assert_array_equal(new['stats']['u'], variables['stats']['u'])
    _, new = trained(net, variables, x, True)
    assert not np.array_equal(new['stats']['u'], variables['stats']['u'])


def test_spectral_norm_gradient_treats_the_singular_vectors_as_constants():
    """Section 2.4 for the loss sum(W / sigma * G): (G - <W / sigma, G> v u^T) / sigma, before u has converged."""
    net, x, g = Linear(3, bias=False, spectral=True), np.eye(4, dtype=np.float32), draw(4, 3, seed=5)
    variables = init(net, jax.random.key(2), x, True)
    kernel, u = np.asarray(variables['params']['kernel'], np.float64), np.asarray(variables['stats']['u'], np.float64)
    v = kernel @ u / np.linalg.norm(kernel @ u)
    u = v @ kernel / np.linalg.norm(v @ kernel)
    sigma = v @ kernel @ u
    assert sigma < 0.98 * np.linalg.svd(kernel)[1][0]
    loss = lambda params: jnp.sum(net.apply(variables | {'params': params}, x) * g)
    expected = (g - np.sum(kernel / sigma * g) * np.outer(v, u)) / sigma
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(variables['params'])['kernel'], expected, atol=1e-5)


def test_linear_without_normalisation_matches_flax():
    x, params = draw(2, 5, 4, 3), {'kernel': draw(3, 3, 3, 2), 'bias': draw(2)}
    net = Linear(2, (3, 3), conv_same)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, shapes) == {'params': {'kernel': (3, 3, 3, 2), 'bias': (2,)}}
    both = lambda x: (net.apply({'params': params}, x), nn.Conv(2, (3, 3)).apply({'params': params}, x))
    np.testing.assert_allclose(*jax.jit(both)(x), atol=1e-5)


# Group norm.


@pytest.mark.parametrize('shape', [(3, 8), (2, 3, 5, 12), (2, 4, 4, 4, 8)])
def test_group_norm_and_its_gradients_match_flax(shape, x64):
    c = shape[-1]
    x, params = 2 + 3.0 * draw(*shape), {'scale': draw(c, seed=1), 'bias': draw(c, seed=2)}
    x, params, cotangent = jax.tree.map(np.float64, (x, params, draw(*shape, seed=3)))

    def slopes(net):
        value, pull = jax.vjp(lambda params, x: net.apply({'params': params}, x), params, x)
        return value, pull(cotangent)

    mine = jax.jit(slopes, static_argnums=0)(Grouped(4))
    with jax.numpy_dtype_promotion('standard'):
        theirs = jax.jit(slopes, static_argnums=0)(nn.GroupNorm(4))
        other = jax.eval_shape(nn.GroupNorm(4).init, jax.random.key(0), x)
    assert jax.tree.structure(jax.eval_shape(Grouped(4).init, jax.random.key(0), x)) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def test_group_norm_matches_its_formula():
    x = 5 + draw(2, 3, 3, 6)
    groups = x.astype(np.float64).reshape(2, 9, 2, 3)
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    params = {'scale': draw(6, seed=1), 'bias': draw(6, seed=2)}
    expected = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape) * params['scale'] + params['bias']
    np.testing.assert_allclose(apply(Grouped(2), {'params': params}, (), x), expected, atol=2e-5)


def test_group_norm_of_bfloat16_computes_in_float32():
    x = (8 + draw(2, 16, 16, 4)).astype(jnp.bfloat16)
    params = {'scale': np.ones(4, np.float32), 'bias': np.zeros(4, np.float32)}
    y = apply(Grouped(1), {'params': params}, (), x)
    np.testing.assert_allclose(y, apply(Grouped(1), {'params': params}, (), x.astype(np.float32)), rtol=1e-6)


def test_group_norm_raises_if_groups_do_not_divide_channels():
    with pytest.raises(ValueError, match='6 channels .* 4 groups'):
        Grouped(4).init(jax.random.key(0), jnp.zeros((1, 2, 2, 6)))
