"""Multilayer perceptrons against NumPy and the sizes of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.nets.mlp import Discriminator, Generator

DRAW = np.random.default_rng(0)
KEYS = sample_keys(jax.random.key(0), jnp.arange(4))
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


def draw(*shape):
    return np.float32(DRAW.normal(size=shape))


def start(net, *args):
    """Random parameters, including biases."""
    params = jax.eval_shape(net.init, jax.random.key(0), *args)['params']
    return {'params': jax.tree.map(lambda p: 0.3 * draw(*p.shape), params)}


def dense(variables, name, x):
    return x @ variables['params'][name]['kernel'] + variables['params'][name]['bias']


def embedded(variables, x, weight=1.0):
    return np.concatenate([x, weight * LABEL @ variables['params']['label']['kernel']], 1)


def count(net, *args):
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), *args)['params']))


@pytest.mark.parametrize('resolution', [(1, 1), (3, 5)])
@pytest.mark.parametrize('weight', [1.0, 0.5])
def test_generator_matches_numpy(resolution, weight):
    net, z = Generator(resolution, 7, 2, 3), draw(4, 6)
    variables = start(net, z, LABEL)
    x = embedded(variables, z, weight)
    for name in ('dense0', 'dense1'):
        x = np.maximum(dense(variables, name, x), 0)
    expected = np.tanh(dense(variables, 'image', x)).reshape(4, *resolution, 3)
    found = jax.jit(net.apply, static_argnums=4)(variables, z, LABEL, KEYS, True, weight)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('maxout', [0, 5])
def test_discriminator_matches_numpy(maxout):
    net, image = Discriminator(7, 2, 3, maxout), draw(4, 3, 2, 3)
    variables = start(net, image, LABEL)
    x = embedded(variables, image.reshape(4, 18))
    for name in ('dense0', 'dense1'):
        x = dense(variables, name, x)
        pieces = [x[:, i::5] for i in range(5)] if maxout else [x, 0.2 * x]
        x = np.max(pieces, 0)
        assert x.shape == (4, 7)
    output = jax.jit(net.apply, static_argnums=4)(variables, image, LABEL, KEYS, True)
    np.testing.assert_allclose(output.logit, dense(variables, 'logit', x)[:, 0], rtol=1e-5, atol=1e-5)


def test_parameter_counts_of_the_published_networks_for_mnist():
    """Two layers of 1200 units, and two of 240 maxout units with five pieces, on three channels."""
    z, image = jnp.zeros((1, 100)), jnp.zeros((1, 28, 28, 3))
    generator = 100 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 2352 + 2352
    assert count(Generator((28, 28), 1200, 2, 1), z, None) == generator
    discriminator = 2352 * 1200 + 1200 + 240 * 1200 + 1200 + 240 + 1
    assert count(Discriminator(240, 2, 1, maxout=5), image, None) == discriminator


def test_dropout_uses_the_keys_of_samples_and_only_in_training():
    image = draw(4, 2, 2, 3)
    for rates in ((0.5, 0.0), (0.0, 0.5)):
        net = Discriminator(32, 1, 1, 0, *rates)
        variables = start(net, image, None)
        call = lambda image, keys, train: net.apply(variables, image, None, keys, train).logit  # noqa: B023
        logit = jax.jit(call, static_argnums=2)
        dropped, kept = logit(image, KEYS, True), logit(image, KEYS, False)
        assert np.all(np.asarray(dropped) != np.asarray(kept))
        np.testing.assert_allclose(logit(image[1:3], KEYS[1:3], True), dropped[1:3], rtol=1e-5)
        np.testing.assert_allclose(logit(image, None, False), kept, rtol=1e-6)


def test_unconditional_networks_have_no_embedding():
    assert start(Generator((1, 1), 4, 1, 3), draw(4, 2), None)['params'].keys() == {'dense0', 'image'}
    assert start(Discriminator(4, 1, 3), draw(4, 1, 1, 3), None)['params'].keys() == {'dense0', 'logit'}
