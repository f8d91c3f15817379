"""Shared layers; those used by StyleGAN2 only are tested in test_stylegan2.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.core.rng import sample_keys
from productgen.nets.layers import Conv, dropout, leaky_relu

KEYS = sample_keys(jax.random.key(0), jnp.arange(6))
drop = jax.jit(dropout, static_argnums=1)


class Net(nn.Module):
    """A network with a single convolution."""

    conv: Conv

    @nn.compact
    def __call__(self, x):
        return self.conv(x)


@pytest.mark.parametrize('kernel, bias', [(1, True), (3, True), (5, False)])
def test_conv_matches_flax(kernel, bias):
    draw = np.random.default_rng(0)
    x = np.float32(draw.normal(size=(2, 6, 5, 3)))
    net = Net(Conv(4, kernel, bias))
    params = jax.eval_shape(net.init, jax.random.key(0), x)['params']['conv']
    assert params.keys() == ({'kernel', 'bias'} if bias else {'kernel'})
    assert params['kernel'].shape == (kernel, kernel, 3, 4)
    params = jax.tree.map(lambda p: np.float32(draw.normal(size=p.shape)), params)
    other = nn.Conv(4, (kernel, kernel), use_bias=bias)
    both = lambda params, x: (net.apply({'params': {'conv': params}}, x), other.apply({'params': params}, x))
    np.testing.assert_allclose(*jax.jit(both)(params, x), atol=1e-4)


def test_conv_starts_with_unit_gain_and_keeps_the_dtype():
    x = np.random.default_rng(0).normal(size=(4, 16, 16, 32)).astype(np.float32)
    net = Net(Conv(64))
    out, variables = jax.jit(net.init_with_output)(jax.random.key(0), x)
    assert np.std(np.asarray(out)[:, 1:-1, 1:-1]) == pytest.approx(1, rel=0.1)
    assert jax.eval_shape(net.apply, variables, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_dropout_zeroes_a_fraction_and_keeps_the_mean():
    x = jnp.full((6, 50, 200), 3.0)
    out = np.asarray(drop(x, 0.2, KEYS))
    np.testing.assert_allclose(np.unique(out), [0, 3 / 0.8], rtol=1e-6)
    # 60,000 values: a standard deviation of 0.0016.
    assert np.mean(out == 0) == pytest.approx(0.2, abs=0.008)
    assert out.mean() == pytest.approx(3, abs=0.04)


def test_dropout_of_a_sample_depends_only_on_its_key():
    x = jnp.ones((6, 40))
    out = np.asarray(drop(x, 0.5, KEYS))
    assert len({row.tobytes() for row in out}) == 6
    np.testing.assert_array_equal(drop(x[:3], 0.5, KEYS[::2]), out[::2])


def test_dropout_is_the_identity_at_rate_zero_or_without_keys():
    x = jnp.ones((6, 40))
    assert dropout(x, 0.0, KEYS) is x and dropout(x, 0.5, None) is x


def test_leaky_relu_matches_jax_and_keeps_the_variance(x64):
    x = np.random.default_rng(0).normal(size=100_000)
    expected = lambda x: jax.nn.leaky_relu(x, 0.2) * np.sqrt(2)
    np.testing.assert_allclose(leaky_relu(x), expected(x), rtol=1e-12)
    slopes = [jax.jit(jax.grad(lambda x, f=f: jnp.sum(jnp.square(f(x)))))(x) for f in (leaky_relu, expected)]
    np.testing.assert_allclose(*slopes, rtol=1e-12)
    assert np.isclose(np.mean(np.square(leaky_relu(x))), 1.04, atol=0.01)  # (1 + 0.2^2) of a normal value
