"""Layers against SciPy and their definitions; conversion of weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.features import tensors
from scipy import signal

from productgen.nets.features.alexnet import AlexNet
from productgen.nets.features.layers import (
    adaptive_avg_pool,
    flatten,
    max_pool,
    normalize_imagenet,
    strided_conv,
)
from productgen.nets.features.resnet import ResNet


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    'shape, size, stride, padding',
    [((9, 12), (3, 3), 2, (0, 0)), ((8, 7), (3, 3), 2, (1, 1)), ((23, 30), (11, 11), 4, (2, 2)),
     ((13, 10), (7, 7), 2, (3, 3)), ((7, 8), (1, 1), 2, (0, 0)), ((6, 5), (1, 7), 1, (0, 3))],
)  # fmt: skip
def test_strided_convolution_matches_scipy(shape, size, stride, padding):
    x, kernel = draw(2, *shape, 3), draw(*size, 3, 4, seed=1)
    expected = np.zeros((2, *[(n + 2 * p - k) // stride + 1 for n, p, k in zip(shape, padding, size, strict=True)], 4))
    padded = np.pad(x.astype(float), [(0, 0), *[(p, p) for p in padding], (0, 0)])
    for b, d, c in np.ndindex(2, 4, 3):
        full = signal.correlate(padded[b, ..., c], kernel[..., c, d], 'valid')
        expected[b, ..., d] += full[::stride, ::stride]
    found = jax.jit(strided_conv, static_argnums=(2, 3))(x, kernel, stride, padding)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    'size, stride, padding, ceil',
    [(3, 2, 0, True), (3, 2, 0, False), (3, 2, 1, False), (2, 2, 0, True), (2, 3, 1, True)],
)
@pytest.mark.parametrize('length', range(5, 11))
def test_max_pool_windows_follow_the_rule_of_pytorch(size, stride, padding, ceil, length):
    """With `ceil` a window may end beyond the padding if it starts inside the image."""
    x = draw(length)
    starts = np.arange(-padding, length + padding, stride)
    if ceil:
        reaching = starts + size >= length + padding  # the first of these is the last window
        starts = starts[: np.argmax(reaching) + 1 if reaching.any() else None]
        starts = starts[starts < length]
    else:
        starts = starts[starts + size <= length + padding]
    expected = [x[max(s, 0) : s + size].max() for s in starts]
    image = np.broadcast_to(x[None, :, None, None], (1, length, 7, 2))
    pooled = jax.jit(max_pool, static_argnums=(1, 2, 3, 4))(image, size, stride, padding, ceil)
    np.testing.assert_array_equal(np.asarray(pooled)[0, :, 0, 1], expected)


@pytest.mark.parametrize('length, size', [(7, 7), (2, 7), (14, 7), (10, 6), (1, 6)])
def test_adaptive_avg_pool_averages_its_windows(length, size):
    x = draw(2, length, length + 1, 3)
    expected = np.zeros((2, size, size, 3))
    for i, j in np.ndindex(size, size):
        rows = slice(int(np.floor(i * length / size)), int(np.ceil((i + 1) * length / size)))
        columns = slice(int(np.floor(j * (length + 1) / size)), int(np.ceil((j + 1) * (length + 1) / size)))
        expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(jax.jit(adaptive_avg_pool, static_argnums=1)(x, size), expected, atol=1e-6)


def test_flatten_is_channels_first():
    np.testing.assert_array_equal(
        flatten(jnp.arange(12).reshape(1, 2, 3, 2))[0], [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]
    )


def test_normalize_imagenet_maps_mean_to_zero_and_std_to_one():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = np.stack([2 * mean - 1, 2 * (mean + std) - 1]).astype(np.float32)
    np.testing.assert_allclose(normalize_imagenet(images), [[0, 0, 0], [1, 1, 1]], atol=1e-6)


# Conversion.


@pytest.fixture(scope='module')
def table():
    """Published tensors, but with five classes."""
    found = tensors('resnet18')
    return found | {name: found[name][:5] for name in ('fc.weight', 'fc.bias')}


def test_conversion_changes_the_layout_only(table):
    found = ResNet(18, 5).convert(table)
    assert found.keys() == {'params', 'stats'}
    leaves = jax.tree_util.tree_leaves_with_path(found)
    assert len(leaves) == sum(not name.endswith('num_batches_tracked') for name in table)
    params, stats = found['params']['layer2.0'], found['stats']['layer2.0']['downsample.1']
    for place, kernel in (('conv1', params['conv1']), ('downsample.0', params['downsample.0'])):
        expected = np.einsum('dchw->hwcd', table[f'layer2.0.{place}.weight'])
        np.testing.assert_array_equal(kernel['kernel'], expected)
    np.testing.assert_array_equal(params['bn2']['gain'], table['layer2.0.bn2.weight'])
    np.testing.assert_array_equal(params['bn2']['bias'], table['layer2.0.bn2.bias'])
    np.testing.assert_array_equal(stats['mean'], table['layer2.0.downsample.1.running_mean'])
    np.testing.assert_array_equal(stats['var'], table['layer2.0.downsample.1.running_var'])
    np.testing.assert_array_equal(found['params']['fc']['kernel'], table['fc.weight'].T)


def test_conversion_gives_float32(table):
    found = ResNet(18, 5).convert({name: x.astype(np.float16) for name, x in table.items()})
    assert {x.dtype for x in jax.tree.leaves(found)} == {np.dtype(np.float32)}


def test_only_an_unused_head_may_be_ignored(table):
    assert 'fc' not in ResNet(18).convert(table)['params']
    with pytest.raises(ValueError, match=r'missing: fc\.bias, fc\.weight|missing: fc\.weight, fc\.bias'):
        ResNet(18, 5).convert({name: x for name, x in table.items() if not name.startswith('fc.')})


@pytest.mark.parametrize(
    'change, message',
    [(lambda t: t.pop('layer1.1.bn2.running_var'), r'ResNet; missing: layer1\.1\.bn2\.running_var$'),
     (lambda t: t.update({'layer5.0.conv1.weight': np.zeros(1)}), r'unexpected: layer5\.0\.conv1\.weight$'),
     (lambda t: t.update({'conv1.weight': np.zeros((64, 3, 7, 5))}),
      r'wrong shape: conv1\.weight is \(64, 3, 7, 5\), not \(64, 3, 7, 7\)$'),
     (lambda t: t.update({'fc.weight': np.zeros((1000, 512))}), r'fc\.weight is \(1000, 512\), not \(5, 512\)$'),
     (lambda t: t.clear(), r'missing: .* and \d+ more$')],
)  # fmt: skip
def test_mismatched_tensors_are_named(table, change, message):
    table = dict(table)
    change(table)
    with pytest.raises(ValueError, match=message):
        ResNet(18, 5).convert(table)


def test_weights_of_another_network_raise(table):
    with pytest.raises(
        ValueError, match=r'do not match this AlexNet; missing: features\.0\..*; unexpected: .*conv1\.weight'
    ):
        AlexNet().convert(table)
