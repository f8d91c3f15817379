"""SNGAN's networks against Flax layers in the published order and the parameter counts of the paper."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.nets.sngan import Discriminator, DownBlock, Generator, UpBlock
from productgen.nets.strided import conv_pool, pool, up_conv, upsample

DRAW = np.random.default_rng(0)
KEYS = sample_keys(jax.random.key(0), jnp.arange(4))
LABEL = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]


def draw(*shape):
    return np.float32(DRAW.normal(size=shape))


def start(net, *args, **options):
    """Variables with all parameters random, including biases and gains; running statistics are zero."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *args, **options))
    zeros = jax.tree.map(lambda p: np.zeros(p.shape, np.float32), shapes)
    return zeros | {'params': jax.tree.map(lambda p: 0.3 * draw(*p.shape), shapes['params'])}


def call(net, variables, *args, **options):
    """Output of a training pass."""
    run = lambda variables, args: net.apply(variables, *args, **options, mutable=['stats'])[0]
    return jax.jit(run)(variables, args)


def count(net, *args):
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(net.init, jax.random.key(0), *args)['params']))


# Reference implementation in the published order.


@jax.jit
def convolved(x, kernel):
    return nn.Conv(kernel.shape[-1], kernel.shape[:2], use_bias=False).apply({'params': {'kernel': kernel}}, x)


def conv(x, p):
    return np.asarray(convolved(x, p['kernel'])) + p.get('bias', 0)


def larger(x):
    return np.kron(x, np.ones((1, 2, 2, 1), np.float32))


def smaller(x):
    with jax.numpy_dtype_promotion('standard'):
        return np.asarray(jax.jit(lambda x: nn.avg_pool(x, (2, 2), (2, 2)))(x))


def relu(x):
    return np.maximum(x, 0)


def normal(x, p):
    gain, bias = p['gain'], p['bias']
    if 'label_gain' in p:
        gain = gain + (LABEL @ p['label_gain'])[:, None, None]
        bias = bias + (LABEL @ p['label_bias'])[:, None, None]
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 2e-5) * gain + bias


def up_block(x, p):
    y = conv(larger(relu(normal(x, p['norm0']))), p['conv0'])
    return conv(larger(x), p['skip']) + conv(relu(normal(y, p['norm1'])), p['conv1'])


def down_block(x, p, down, first):
    y = conv(x if first else relu(x), p['conv0'])
    y = conv(relu(y), p['conv1'])
    if 'skip' in p:
        x = conv(x, p['skip'])
    return smaller(x) + smaller(y) if down else x + y


def test_up_conv_matches_upsampling_and_convolution():
    x, kernel = draw(2, 4, 3, 3), draw(3, 3, 3, 5)
    np.testing.assert_allclose(jax.jit(up_conv)(x, kernel), conv(larger(x), {'kernel': kernel}), atol=1e-4)
    np.testing.assert_array_equal(jax.jit(upsample)(x), larger(x))


def test_conv_pool_matches_convolution_and_pooling():
    x, kernel = draw(2, 6, 4, 3), draw(3, 3, 3, 5)
    np.testing.assert_allclose(jax.jit(conv_pool)(x, kernel), smaller(conv(x, {'kernel': kernel})), atol=1e-4)
    np.testing.assert_allclose(jax.jit(pool)(x), smaller(x), atol=1e-6)


@pytest.mark.parametrize('label', [None, LABEL])
def test_up_block_matches_the_reference(label):
    net, x = UpBlock(5), draw(4, 4, 3, 3)
    variables = start(net, x, train=True, label=label, label_weight=1.0)
    out = call(net, variables, x, train=True, label=label, label_weight=1.0)
    np.testing.assert_allclose(out, up_block(x, variables['params']), atol=1e-3)


@pytest.mark.parametrize(
    'features, down, first, skip',
    [(5, True, True, True), (3, True, False, True), (5, False, False, True), (3, False, False, False)],
)
def test_down_block_matches_the_reference(features, down, first, skip):
    net, x = DownBlock(features, down, first, False), draw(2, 4, 6, 3)
    variables = start(net, x, train=True)
    params = variables['params']
    assert ('skip' in params) == skip
    assert params['conv0']['kernel'].shape == (3, 3, 3, features if first else 3)
    out = call(net, variables, x, train=True)
    np.testing.assert_allclose(out, down_block(x, params, down, first), atol=1e-3)


def test_generator_matches_the_reference():
    net, z = Generator((2, 3), (4, 3, 2)), draw(4, 5)
    variables = start(net, z, LABEL, train=True)
    p = variables['params']
    x = (z @ p['dense']['kernel'] + p['dense']['bias']).reshape(4, 2, 3, 4)
    x = up_block(up_block(x, p['block1']), p['block2'])
    expected = np.tanh(conv(relu(normal(x, p['norm'])), p['image']))
    image = call(net, variables, z, LABEL, KEYS, train=True)
    assert image.shape == (4, 8, 12, 3) and 'label_gain' not in p['norm']
    np.testing.assert_allclose(image, expected, atol=1e-3)


def test_discriminator_matches_the_reference():
    net, image = Discriminator((3, 4), 1, spectral=False), draw(4, 4, 6, 3)
    variables = start(net, image, LABEL)
    p = variables['params']
    assert variables.keys() == {'params'}
    x = down_block(down_block(image, p['block0'], True, True), p['block1'], False, False)
    x = relu(np.asarray(x)).sum((1, 2))
    expected = (x @ p['head']['logit']['kernel'] + p['head']['logit']['bias'])[:, 0]
    expected += np.sum(x * (LABEL @ p['head']['label']['kernel']), 1)
    np.testing.assert_allclose(
        call(net, variables, image, LABEL, KEYS, train=True).logit, expected, rtol=1e-3, atol=1e-3
    )


def test_spectral_norm_removes_the_scale_of_every_layer():
    net, image = Discriminator((4, 5), 1, plain_head=True), draw(4, 4, 4, 3)
    variables = jax.jit(lambda: net.init(jax.random.key(0), image, LABEL, train=True))()
    larger = variables | {'params': jax.tree.map(lambda p: 7 * np.asarray(p), variables['params'])}
    run = jax.jit(lambda variables: net.apply(variables, image, LABEL, KEYS, train=True, mutable=['stats'])[0])
    a, b = run(variables), run(larger)
    np.testing.assert_allclose(a.logit, b.logit, rtol=1e-4)
    np.testing.assert_allclose(a.plain, b.plain, rtol=1e-4)


# Parameter counts.


def up_count(c, d):
    """Kernels, and gains and biases of two norms; without the biases that batch norm cancels."""
    return 9 * c * d + 9 * d * d + c * d + 2 * c + 2 * d


def down_count(c, hidden, d, skip=True):
    return (9 * c + 1) * hidden + (9 * hidden + 1) * d + skip * (c + 1) * d


@pytest.mark.parametrize(
    'size, g_widths, d_widths, down',
    [
        (32, (256,) * 4, (128,) * 4, 2),  # table 3, CIFAR-10
        (48, (512, 256, 128, 64), (64, 128, 256, 512, 1024), 4),  # table 4, STL-10
        (128, (1024, 1024, 512, 256, 128, 64), (64, 128, 256, 512, 1024, 1024), 5),  # ImageNet
    ],
)
def test_parameter_counts_of_the_published_networks(size, g_widths, d_widths, down):
    base = size >> len(g_widths) - 1
    top, last = g_widths[0], g_widths[-1]
    expected = 129 * base**2 * top + sum(up_count(c, d) for c, d in zip(g_widths[:-1], g_widths[1:], strict=True))
    expected += 2 * last + 27 * last + 3
    assert count(Generator((base, base), g_widths), jnp.zeros((2, 128)), None) == expected
    blocks = [down_count(3, d_widths[0], d_widths[0])]
    for i, (c, d) in enumerate(zip(d_widths[:-1], d_widths[1:], strict=True), 1):
        blocks.append(down_count(c, c, d, skip=i < down or c != d))
    expected = sum(blocks) + d_widths[-1] + 1
    assert count(Discriminator(d_widths, down), jnp.zeros((2, size, size, 3)), None) == expected
    # The common PyTorch implementation has 9 x 256 more biases in the generator.
    if size == 32:
        assert count(Generator((4, 4), g_widths), jnp.zeros((2, 128)), None) == 4_276_739 - 9 * 256
