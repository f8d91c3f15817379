"""DCGAN's networks against Flax layers and the parameter counts of the paper."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.nets.dcgan import Discriminator, Generator

DRAW = np.random.default_rng(0)
KEYS = sample_keys(jax.random.key(0), jnp.arange(4))
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


def draw(*shape):
    return np.float32(DRAW.normal(size=shape))


def start(net, *args):
    """Variables with all parameters random, including biases and gains; running statistics are zero."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *args, train=True))
    zeros = jax.tree.map(lambda p: np.zeros(p.shape, np.float32), shapes)
    return zeros | {'params': jax.tree.map(lambda p: 0.3 * draw(*p.shape), shapes['params'])}


def call(net, variables, *args, **options):
    """Output and updated statistics."""
    run = lambda variables, args: net.apply(variables, *args, **options, mutable=['stats'])
    return jax.jit(run)(variables, args)


def count(net, *args):
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), *args)['params']))


def normal(x, p):
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) * p['gain'] + p['bias']


def doubled(x, p):
    layer = nn.ConvTranspose(p['kernel'].shape[-1], (4, 4), (2, 2), padding='SAME', use_bias=False)
    kernel = p['kernel'][::-1, ::-1]
    return np.asarray(jax.jit(layer.apply)({'params': {'kernel': kernel}}, x)) + p.get('bias', 0)


def halved(x, p):
    layer = nn.Conv(p['kernel'].shape[-1], (4, 4), (2, 2), padding=[(1, 1), (1, 1)], use_bias=False)
    return np.asarray(jax.jit(layer.apply)({'params': {'kernel': p['kernel']}}, x)) + p.get('bias', 0)


# Parameter counts and initialisation.


@pytest.mark.parametrize(
    'widths, generator, discriminator',
    [
        # 1024-512-256-128-3 (figure 1): kernels, gains and biases of norms, biases of layers without norm.
        (
            (1024, 512, 256, 128),
            100 * 16 * 1024
            + 16 * (1024 * 512 + 512 * 256 + 256 * 128)
            + 2 * (1024 + 512 + 256 + 128)
            + 16 * 128 * 3
            + 3,
            16 * 3 * 128 + 128 + 16 * (128 * 256 + 256 * 512 + 512 * 1024) + 2 * (256 + 512 + 1024) + 16 * 1024 + 1,
        ),
        # Half the widths, as in the most common implementation: 3,576,704 and 2,765,568 without biases.
        ((512, 256, 128, 64), 3_576_704 + 3, 2_765_568 + 64 + 1),
    ],
)
def test_parameter_counts_at_64_pixels(widths, generator, discriminator):
    assert count(Generator((4, 4), widths), jnp.zeros((2, 100)), None) == generator
    assert count(Discriminator(widths[::-1]), jnp.zeros((2, 64, 64, 3)), None) == discriminator


def test_initial_weights_have_the_published_scale():
    g, z = Generator((4, 4), (64, 32)), jnp.zeros((2, 100))
    params = jax.jit(g.init, static_argnums=2)(jax.random.key(0), z, None)['params']
    d = Discriminator((32, 64))
    d = jax.jit(d.init, static_argnums=2)(jax.random.key(0), jnp.zeros((2, 16, 16, 3)), None)['params']
    for kernel in (
        params['dense']['kernel'],
        params['conv1']['kernel'],
        d['conv1']['kernel'],
        d['head']['logit']['kernel'],
    ):
        assert np.std(kernel) == pytest.approx(0.02, rel=0.1) and np.mean(kernel) == pytest.approx(0, abs=0.002)
    for gain in (params['norm0']['gain'], d['norm1']['gain']):
        assert np.std(gain) == pytest.approx(0.02, rel=0.35) and np.mean(gain) == pytest.approx(1, abs=0.01)


# Comparison with Flax layers.


def test_generator_matches_flax():
    net, z = Generator((2, 3), (6, 4)), draw(4, 5)
    variables = start(net, z, None)
    p = variables['params']
    assert {k: set(v) for k, v in p.items()} == {
        'dense': {'kernel'},
        'norm0': {'gain', 'bias'},
        'conv1': {'kernel'},
        'norm1': {'gain', 'bias'},
        'image': {'kernel', 'bias'},
    }
    x = (z @ p['dense']['kernel']).reshape(4, 2, 3, 6)
    x = np.maximum(normal(x, p['norm0']), 0)
    x = np.maximum(normal(doubled(x, p['conv1']), p['norm1']), 0)
    image, _ = call(net, variables, z, None, KEYS, train=True)
    assert image.shape == (4, 8, 12, 3)
    np.testing.assert_allclose(image, np.tanh(doubled(x, p['image'])), atol=1e-4)


@pytest.mark.parametrize('norm', ['batch', 'layer', 'none'])
def test_discriminator_matches_flax(norm):
    net, image = Discriminator((4, 6), norm=norm), draw(4, 8, 12, 3)
    variables = start(net, image, None)
    p = variables['params']
    assert ('bias' in p['conv1']) == (norm == 'none') and ('norm1' in p) == (norm != 'none')
    assert 'stats' not in variables and 'norm0' not in p and 'bias' in p['conv0']
    x = halved(image, p['conv0'])
    x = halved(np.where(x > 0, x, 0.2 * x), p['conv1'])
    if norm == 'batch':
        x = normal(x, p['norm1'])
    elif norm == 'layer':
        mean, var = x.mean((1, 2, 3), keepdims=True), x.var((1, 2, 3), keepdims=True)
        x = (x - mean) / np.sqrt(var + 1e-5) * p['norm1']['gain'] + p['norm1']['bias']
    x = np.where(x > 0, x, 0.2 * x).reshape(4, -1)
    expected = (x @ p['head']['logit']['kernel'] + p['head']['logit']['bias'])[:, 0]
    for train in (True, False):
        output, _ = call(net, variables, image, None, KEYS, train=train)
        np.testing.assert_allclose(output.logit, expected, rtol=1e-4, atol=1e-4)


# Labels, norms, dropout.


def test_concat_appends_the_embedding_to_z_and_to_the_image():
    g, d = Generator((4, 4), (6,), 'concat', 2), Discriminator((6,), 'concat', embed=2)
    z, image = draw(4, 5), draw(4, 8, 8, 3)
    variables = start(g, z, LABEL)
    wide = np.concatenate([z, 0.5 * LABEL @ variables['params']['label']['kernel']], 1)
    expected, _ = call(Generator((4, 4), (6,)), variables, wide, None, KEYS, train=True)
    out, _ = call(g, variables, z, LABEL, KEYS, train=True, label_weight=0.5)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    variables = start(d, image, LABEL)
    rows = LABEL @ variables['params']['label']['kernel']
    wide = np.concatenate([image, np.broadcast_to(rows[:, None, None], (4, 8, 8, 2))], -1)
    expected, _ = call(Discriminator((6,)), variables, wide, None, KEYS, train=True)
    out, _ = call(d, variables, image, LABEL, KEYS, train=True)
    np.testing.assert_allclose(out.logit, expected.logit, rtol=1e-5, atol=1e-5)


def test_batch_norm_condition_is_in_every_norm_and_not_in_z():
    params = start(Generator((4, 4), (6, 4), 'batch_norm'), draw(4, 5), LABEL)['params']
    assert params['dense']['kernel'].shape == (5, 96) and 'label' not in params
    assert all(params[n]['label_gain'].shape == (3, w) for n, w in (('norm0', 6), ('norm1', 4)))


def test_spectral_norm_removes_the_scale_of_every_layer():
    net, image = Discriminator((4, 6), 'projection', norm='none', spectral=True, plain_head=True), draw(4, 8, 8, 3)
    variables = jax.jit(lambda: net.init(jax.random.key(0), image, LABEL, train=True))()
    larger = variables | {'params': jax.tree.map(lambda p: 7 * np.asarray(p), variables['params'])}
    run = jax.jit(lambda variables: net.apply(variables, image, LABEL, KEYS, train=True, mutable=['stats'])[0])
    a, b = run(variables), run(larger)
    np.testing.assert_allclose(a.logit, b.logit, rtol=1e-4)
    np.testing.assert_allclose(a.plain, b.plain, rtol=1e-4)


def test_dropout_uses_the_keys_of_samples_and_only_in_training():
    net, image = Discriminator((8, 8), norm='none', dropout=0.5), draw(4, 8, 8, 3)
    variables = start(net, image, None, KEYS)
    logit = lambda image, keys, train: np.asarray(call(net, variables, image, None, keys, train=train)[0].logit)
    dropped, kept = logit(image, KEYS, True), logit(image, None, False)
    assert np.all(dropped != kept)
    np.testing.assert_allclose(logit(image[1:3], KEYS[1:3], True), dropped[1:3], rtol=1e-4)
