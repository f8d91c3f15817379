"""U-Net: resizing against XLA's convolutions, parameter count against the paper, and dependencies."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.core.sizes import check_size
from productgen.nets.strided import halve
from productgen.nets.unet import Attention, UNet, double, embed_time

LAYOUT = ('NHWC', 'HWIO', 'NHWC')
DRAW = np.random.default_rng(0)
KEYS = sample_keys(jax.random.key(1), jnp.arange(2))
X = np.float32(DRAW.normal(size=(2, 8, 12, 3)))
TIME, LABEL = np.float32([3, 700]), np.eye(4, dtype=np.float32)[:2]


@functools.cache
def tiny():
    """(x, time, label, label weight, keys, train) -> output of a small network with all features and random parameters,
    none of which is zero."""
    net = UNet(outputs=5, patch=2, channels=8, multipliers=(1, 2), blocks=1, attention=(1,), heads=2, dropout=0.5)
    shapes = jax.eval_shape(net.init, jax.random.key(0), X, TIME, LABEL)['params']
    params = jax.tree.map(lambda p: np.float32(0.3 * DRAW.normal(size=p.shape)), shapes)

    @functools.partial(jax.jit, static_argnums=5)
    def apply(x, time, label, weight, keys, train):
        return net.apply({'params': params}, x, time, label, keys, train=train, label_weight=weight)

    def run(x=X, time=TIME, label=LABEL, weight=1.0, keys=KEYS, train=False):
        return np.asarray(apply(x, time, label, weight, keys, train))

    return run


def test_halve_matches_xla_with_same_padding():
    kernel = np.float32(DRAW.normal(size=(3, 3, 3, 4)))
    xla = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (2, 2), 'SAME', dimension_numbers=LAYOUT)
    found, expected = jax.jit(lambda *args: (halve(*args), xla(*args)))(X, kernel)
    assert expected.shape == (2, 4, 6, 4)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_double_matches_repetition_and_convolution():
    kernel = np.float32(DRAW.normal(size=(3, 3, 3, 4)))
    repeated = X.repeat(2, 1).repeat(2, 2)
    xla = lambda x, kernel: jax.lax.conv_general_dilated(x, kernel, (1, 1), 'SAME', dimension_numbers=LAYOUT)
    found, expected = jax.jit(lambda x, x2, kernel: (double(x, kernel), xla(x2, kernel)))(X, repeated, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_time_embedding_matches_the_transformer():
    got = jax.jit(embed_time, static_argnums=1)(np.float32([0, 17]), 8)
    frequency = 10_000.0 ** -(np.arange(4) / 3)
    np.testing.assert_allclose(got[0], [0] * 4 + [1] * 4, atol=1e-6)
    np.testing.assert_allclose(got[1], [*np.sin(17 * frequency), *np.cos(17 * frequency)], atol=1e-5)


def test_attention_matches_numpy():
    x = np.float32(DRAW.normal(size=(1, 2, 3, 8)))
    module = Attention(heads=2)
    params = jax.eval_shape(module.init, jax.random.key(0), x)['params']
    params = jax.tree.map(lambda p: np.float64(DRAW.normal(size=p.shape)), params)
    groups = x.reshape(1, 6, 2, 4).astype(np.float64)  # 8 channels make two groups of 4
    y = (groups - groups.mean((1, 3), keepdims=True)) / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-6)
    norm = params['norm']['norm']
    y = y.reshape(6, 8) * norm['scale'] + norm['bias']
    q, k, v = ((y @ params[n]['kernel'] + params[n]['bias']).reshape(6, 2, 4) for n in ('query', 'key', 'value'))
    logits = np.einsum('qhc,khc->hqk', q, k) / 2
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    y = np.einsum('hqk,khc->qhc', weights / weights.sum(-1, keepdims=True), v).reshape(6, 8)
    expected = x + (y @ params['out']['kernel'] + params['out']['bias']).reshape(1, 2, 3, 8)
    got = jax.jit(module.apply)({'params': jax.tree.map(np.float32, params)}, x)
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_parameter_count_of_the_published_network_for_cifar10():
    shapes = jax.eval_shape(UNet(dropout=0.1).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))
    conv = lambda a, b, side=3: side * side * a * b + b
    block = lambda a, b: 2 * a + conv(a, b) + 512 * b + b + 2 * b + conv(b, b) + (a * b + b if a != b else 0)
    attention = 2 * 256 + 4 * conv(256, 256, 1)
    total = conv(128, 512, 1) + conv(512, 512, 1)  # time
    total += conv(3, 128) + 2 * 128 + conv(128, 3)
    total += 2 * block(128, 128) + conv(128, 128)  # 32 x 32
    total += block(128, 256) + block(256, 256) + 2 * attention + conv(256, 256)  # 16 x 16
    total += 2 * block(256, 256) + conv(256, 256) + 2 * block(256, 256)  # 8 x 8, 4 x 4
    total += 2 * block(256, 256) + attention
    total += 3 * block(512, 256) + conv(256, 256)  # and up again
    total += 3 * block(512, 256) + conv(256, 256)
    total += 2 * block(512, 256) + block(384, 256) + 3 * attention + conv(256, 256)
    total += block(384, 128) + 2 * block(256, 128)
    assert sum(x.size for x in jax.tree.leaves(shapes)) == total == 35_746_307


def test_output_depends_on_time_label_and_every_pixel():
    run = tiny()
    out = run()
    assert out.shape == (2, 8, 12, 5)
    for other in (run(time=TIME + 1), run(label=LABEL[::-1]), run(weight=0.5)):
        assert not np.allclose(out, other, atol=1e-3)
    # The receptive field is the whole image: a corner affects the opposite one.
    changed = X.copy()
    changed[0, 0, 0] += 1
    other = run(changed)
    assert np.abs(out - other)[0, -1, -1].max() > 1e-5
    np.testing.assert_array_equal(out[1], other[1])


def test_labels_of_weight_zero_are_like_unknown_labels():
    np.testing.assert_allclose(tiny()(weight=0.0), tiny()(label=np.zeros_like(LABEL)), atol=1e-5)


def test_dropout_uses_the_keys_of_samples_and_only_in_training():
    run = tiny()
    expected = run()
    np.testing.assert_allclose(run(keys=KEYS[::-1]), expected, atol=1e-5)
    dropped = run(train=True)
    assert not np.allclose(dropped, expected, atol=1e-2)
    swapped = run(X[::-1], TIME[::-1], LABEL[::-1], keys=KEYS[::-1], train=True)
    np.testing.assert_allclose(swapped, dropped[::-1], atol=1e-4)


def test_initial_output_is_zero_and_time_and_label_are_optional():
    net = UNet(outputs=3, channels=4, multipliers=(1,), blocks=1, attention=())
    out, variables = jax.jit(net.init_with_output)(jax.random.key(0), X)
    np.testing.assert_array_equal(out, np.zeros_like(X))
    assert not any('time' in name or 'label' in name for name in variables['params'])


def test_invalid_sizes_raise_and_name_the_nearest():
    check_size((8, 24), 3)
    with pytest.raises(ValueError, match='30x8 .* is 32x8'):
        check_size((8, 30), 2)
    with pytest.raises(ValueError, match='cannot be halved 2 times'):
        UNet(patch=2, channels=4, multipliers=(1, 1)).init(jax.random.key(0), jnp.zeros((1, 6, 8, 3)))
