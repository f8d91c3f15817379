"""Residual network against parameter counts by hand and XLA's convolutions; independence of images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.resnet import Block, Classifier, Projector, ResNet


def group_norm(x, groups):
    """Group normalisation of [H, W, C] in float64, without gain and bias."""
    x = x.astype(float)
    parts = x.reshape(*x.shape[:2], groups, -1)
    mean, var = parts.mean((0, 1, 3), keepdims=True), parts.var((0, 1, 3), keepdims=True)
    return ((parts - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)


def start(net, *args):
    """Initial parameters, by a compiled function."""
    return jax.jit(net.init)(jax.random.key(0), *args)['params']


@functools.partial(jax.jit, static_argnums=2)
def conv(x, kernel, stride=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )  # fmt: skip


def test_halving_block_matches_xla():
    x = np.random.default_rng(0).normal(size=(1, 6, 8, 8)).astype(np.float32)
    params = start(Block(16, halving=True), x)
    y = np.maximum(group_norm(x[0], 2), 0)[None].astype(np.float32)
    pooled = y.reshape(1, 3, 2, 4, 2, 8).mean((2, 4))
    z = np.asarray(conv(y, params['halve'], 2))
    z = np.maximum(group_norm(z[0], 4), 0)[None].astype(np.float32)
    expected = pooled @ np.asarray(params['skip']['kernel']) + conv(z, params['conv1']['kernel'])
    found = jax.jit(Block(16, halving=True).apply)({'params': params}, x)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_parameter_count():
    params = jax.eval_shape(ResNet(8, (1, 2)).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))['params']
    stem, first = 27 * 8, 2 * (2 * 8) + 2 * 9 * 8 * 8
    second = 2 * 8 + 2 * 16 + 8 * 16 + 9 * 8 * 16 + 9 * 16 * 16
    third = 2 * (2 * 16) + 2 * 9 * 16 * 16
    assert sum(x.size for x in jax.tree.leaves(params)) == stem + first + second + third + 2 * 16


def test_shapes_and_independence_of_images():
    net = Classifier(ResNet(8, (1, 1)), (3, 5))
    x = np.random.default_rng(0).normal(size=(3, 8, 12, 3)).astype(np.float32)
    run, params = jax.jit(net.apply), start(net, x)
    features, logits = run({'params': params}, x)
    assert features.shape == (3, 16) and [v.shape for v in logits] == [(3, 3), (3, 5)]
    single = run({'params': params}, x[1:2])[0]
    np.testing.assert_allclose(single[0], features[1], atol=1e-5)


def test_projector_projects_the_features():
    net = Projector(ResNet(8, (1,)), 4)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    params = start(net, x)
    features, projected = (np.asarray(y) for y in jax.jit(net.apply)({'params': params}, x))
    params = jax.tree.map(np.asarray, params)
    hidden = np.maximum(features @ params['projection0']['kernel'] + params['projection0']['bias'], 0)
    np.testing.assert_allclose(projected, hidden @ params['projection1']['kernel'], rtol=1e-4, atol=1e-6)
