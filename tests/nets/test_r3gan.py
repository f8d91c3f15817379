"""R3GAN's networks against the parameter counts of the paper and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from productgen.core.sizes import levels
from productgen.nets.r3gan import Block, Discriminator, Generator
from productgen.nets.stylegan2 import Widths

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64
SMALL = {'base': (3, 2), 'widths': Widths(64, 8, 2, 0), 'blocks': 1, 'group': 4}  # 8, 8 and 4 channels, 12 x 8 pixels
LABEL = np.eye(3, dtype=np.float32)[[0, 2]]
KEY = jax.random.key(0)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def init(net, *args):
    return jax.jit(net.init)(jax.random.key(0), *args)['params']


def shapes(net, *args):
    return jax.eval_shape(net.init, jax.random.key(0), *args)['params']


def randomize(params):
    """Random parameters, none of which is zero, of given shapes."""
    leaves, tree = jax.tree.flatten(params)
    return tree.unflatten([0.5 * draw(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)])


def apply(net, params, *args, **options):
    return jax.jit(lambda p: net.apply({'params': p}, *args, **options))(params)


def count(net, *args):
    return sum(x.size for x in jax.tree.leaves(shapes(net, *args)))


# Parameter counts and shapes.


def by_hand(widths, group, z=64, labels=0):
    """Parameter counts of both networks, layer by layer; `widths` of the levels, coarsest first."""
    block = lambda w: w * 2 * w + 9 * group * 2 * w + 2 * w * w + 2 * (2 * w)  # 1x1, 3x3, 1x1, two biases
    body = sum(2 * block(w) for w in widths)
    body += sum(a * b for a, b in zip(widths, widths[1:], strict=False) if a != b)
    body += 4 * 4 * widths[0] + 3 * widths[-1]  # basis, colours
    if not labels:
        return body + z * widths[0], body + widths[0]
    return body + 2 * z * widths[0] + labels * z, body + widths[0] ** 2 + labels * widths[0]


@pytest.mark.parametrize(
    'size, base, group, labels, widths',
    [
        (32, 32 * 768, 16, 10, [768] * 4),
        (64, 32 * 768, 16, 0, [768] * 4 + [384]),
        (256, 32 * 768, 16, 0, [768] * 4 + [384, 192, 96]),
        (64, 64 * 1536, 32, 1000, [1536] * 5),
    ],
)
def test_parameter_counts_match_the_published_layers(size, base, group, labels, widths):
    shape, doublings = levels((size, size))
    stages = {'base': shape, 'widths': Widths(base, widths[0], doublings, 0), 'blocks': 2, 'group': group}
    label = jnp.zeros((1, labels)) if labels else None
    generator, discriminator = by_hand(widths, group, labels=labels)
    assert count(Generator(**stages), jnp.zeros((1, 64)), label) == generator
    direction = widths[0] if labels else 0  # not in the paper
    assert count(Discriminator(**stages), jnp.zeros((1, size, size, 3)), label) == discriminator + direction


def test_parameter_counts_at_256_pixels_are_those_of_the_paper():
    generator, discriminator = by_hand([768] * 4 + [384, 192, 96], 16)
    assert (round(generator / 1e6, 3), round(discriminator / 1e6, 3)) == (23.058, 23.010)


@pytest.mark.parametrize('resolution', [(16, 16), (16, 24), (40, 24)])
def test_outputs_have_the_configured_resolution(resolution):
    base, doublings = levels(resolution)
    stages = SMALL | {'base': base, 'widths': Widths(64, 8, doublings, 0)}
    image = jax.eval_shape(Generator(**stages).init_with_output, jax.random.key(0), jnp.zeros((2, 5)), None)[0]
    assert (image.shape, image.dtype) == ((2, *resolution, 3), jnp.float32)
    output = jax.eval_shape(Discriminator(**stages).init_with_output, jax.random.key(0), jnp.zeros(image.shape), None)
    assert (output[0].logit.shape, output[0].plain) == ((2,), None)


# Blocks.


def test_block_matches_numpy():
    block, x = Block(group=4, depth=3), draw(2, 5, 4, 6)
    params = randomize(shapes(block, x))
    leaky = lambda x: np.where(x > 0, x, 0.2 * x)
    inner = leaky(x.astype(np.float64) @ params['expand']['kernel'] + params['bias0'])  # [B, H, W, 12]
    mixed = np.zeros_like(inner)
    for b, out, i in np.ndindex(2, 12, 4):
        plane = inner[b, :, :, out // 4 * 4 + i]
        mixed[b, :, :, out] += scipy.signal.correlate2d(plane, params['kernel'][:, :, i, out], 'same')
    expected = x + leaky(mixed + params['bias1']) @ params['project']['kernel']
    np.testing.assert_allclose(apply(block, params, x), expected, rtol=1e-4, atol=1e-3)


def test_blocks_start_as_the_identity_with_the_published_gain():
    block, x = Block(group=16, depth=8), draw(1, 4, 4, 256)
    params = init(block, x)
    np.testing.assert_array_equal(apply(block, params, x), x)
    gain = np.sqrt(2 / 1.04) * 8**-0.25
    assert np.std(params['expand']['kernel']) == pytest.approx(gain / np.sqrt(256), rel=0.01)
    assert np.std(params['kernel']) == pytest.approx(gain / np.sqrt(9 * 16), rel=0.01)
    assert not any(np.any(params[name]) for name in ('bias0', 'bias1'))


def test_depth_counts_the_blocks_of_all_levels():
    net = Generator(**SMALL | {'widths': Widths(4096, 256, 2, 0), 'blocks': 3})
    args = jax.random.key(0), draw(1, 5), None
    kernel = jax.jit(lambda *args: net.init(*args)['params']['block1_2']['expand']['kernel'])(*args)
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / 1.04) * 9**-0.25 / 16, rel=0.01)


# Networks at initialisation, where blocks are the identity.


def up(x):
    """Inserts zeros and filters, [B, H, W, C] -> [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    zeros = np.zeros((b, 2 * h, 2 * w, c))
    zeros[:, ::2, ::2] = x
    padded = np.pad(zeros, [(0, 0), (2, 1), (2, 1), (0, 0)])
    return 4 * scipy.signal.convolve(padded, FILTER[None, :, :, None], 'valid')


def down(x):
    """Filters and subsamples, [B, 2H, 2W, C] -> [B, H, W, C]."""
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return scipy.signal.convolve(padded, FILTER[None, :, :, None], 'valid')[:, ::2, ::2]


def test_generator_matches_numpy_at_initialisation():
    net, z = Generator(**SMALL), draw(2, 5)
    params = init(net, z, LABEL)
    kernel = lambda name: np.asarray(params[name]['kernel'], np.float64)
    x = np.concatenate([z, LABEL @ kernel('label')], -1) @ kernel('latent')
    x = x[:, None, None] * params['basis']
    x = up(up(x) @ kernel('width2')) @ kernel('to_rgb')  # the two coarser levels have the same width
    np.testing.assert_allclose(apply(net, params, z, LABEL), x, atol=1e-4)


def test_discriminator_matches_numpy_at_initialisation():
    net, image = Discriminator(**SMALL), draw(2, 12, 8, 3)
    params = init(net, image, LABEL)
    kernel = lambda name: np.asarray(params[name]['kernel'], np.float64)
    x = down(down(image @ kernel('from_rgb')) @ kernel('width2'))
    x = np.einsum('bhwc,hwc->bc', x, params['basis'])
    expected = np.sum((x @ kernel('features')) * (LABEL @ kernel('label')), -1)
    np.testing.assert_allclose(apply(net, params, image, LABEL).logit, expected, atol=1e-4)
    params = init(net, image, None)
    x = np.einsum('bhwc,hwc->bc', down(down(image @ kernel('from_rgb')) @ kernel('width2')), params['basis'])
    np.testing.assert_allclose(apply(net, params, image, None).logit, x @ params['logit']['kernel'][:, 0], atol=1e-4)


def test_initial_weights_have_the_published_scales():
    stages = {'base': (4, 4), 'widths': Widths(4096, 256, 1, 0), 'blocks': 1, 'group': 16}
    label = np.eye(10, dtype=np.float32)[:2]
    g, d, z, image = Generator(**stages), Discriminator(**stages), draw(2, 64), draw(2, 8, 8, 3)

    def std(net, x, *names):
        chosen = lambda *args: {name: net.init(KEY, *args)['params'][name] for name in names}
        params = jax.jit(chosen)(x, label)
        return [np.std(jax.tree.leaves(params[name])[0]) for name in names]

    basis, labels = std(g, z, 'basis', 'label')
    assert basis == pytest.approx(1, rel=0.05)
    assert labels == pytest.approx(10**-0.5, rel=0.1)
    basis, features, labels = std(d, image, 'basis', 'features', 'label')
    assert basis == pytest.approx(1 / 4, rel=0.05)
    assert features == pytest.approx(1 / 16, rel=0.05)
    assert labels == pytest.approx((10 * 256) ** -0.5, rel=0.05)


# Labels and precision, with random parameters.


@pytest.fixture(scope='module', params=['generator', 'discriminator'])
def network(request):
    """A function (input, label, label weight) -> output of a network with random parameters, and its input."""
    if request.param == 'generator':
        net, x = Generator(**SMALL), draw(2, 5)
        call = lambda params, x, label, weight: net.apply({'params': params}, x, label, label_weight=weight)
    else:
        net, x = Discriminator(**SMALL), draw(2, 12, 8, 3)
        call = lambda params, x, label, weight: net.apply({'params': params}, x, weight * label).logit
    params = randomize(shapes(net, x, LABEL))
    return jax.jit(functools.partial(call, params)), x


def test_labels_of_weight_zero_are_like_unknown_labels(network):
    run, x = network
    without = run(x, LABEL, 0.0)
    np.testing.assert_array_equal(without, run(x, LABEL[::-1], 0.0))
    np.testing.assert_allclose(without, run(x, np.zeros_like(LABEL), 1.0), rtol=1e-5, atol=1e-5)
    assert np.all(np.any(np.abs(without - run(x, LABEL, 1.0)).reshape(2, -1) > 1e-3, -1))
    assert np.all(np.any(np.abs(without).reshape(2, -1) > 1e-3, -1))


def test_samples_are_independent(network):
    run, x = network
    both = run(x, LABEL, 1.0)
    np.testing.assert_allclose(run(x[::-1], LABEL[::-1], 1.0)[::-1], both, rtol=1e-4, atol=1e-4)
    other = np.stack([x[0], 2 * x[1]])
    np.testing.assert_allclose(run(other, LABEL, 1.0)[0], both[0], rtol=1e-4, atol=1e-4)


def test_plain_head_ignores_the_label():
    net, image = Discriminator(**SMALL, plain_head=True), draw(2, 12, 8, 3)
    params = randomize(shapes(net, image, LABEL))
    run = jax.jit(lambda image, label: net.apply({'params': params}, image, label))
    output, other = (run(image, label) for label in (LABEL, LABEL[::-1]))
    np.testing.assert_array_equal(output.plain, other.plain)
    assert np.all(output.logit != other.logit)
    assert output.plain.shape == (2,) and np.all(output.plain != run(2 * image, LABEL).plain)


def test_bfloat16_levels_are_close_to_float32():
    z, image = draw(2, 5), draw(2, 12, 8, 3)
    for kind, x, read in ((Generator, z, lambda y: y), (Discriminator, image, lambda y: y.logit)):
        coarse = kind(**SMALL | {'widths': Widths(64, 8, 2, 2)})
        params = init(coarse, x, None)
        low, full = read(apply(coarse, params, x, None)), read(apply(kind(**SMALL), params, x, None))
        assert low.dtype == jnp.float32
        np.testing.assert_allclose(low, full, atol=0.05)
        assert np.any(low != full)
