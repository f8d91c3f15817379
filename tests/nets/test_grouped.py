"""Grouped convolution against SciPy and XLA, with first and second derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from productgen.nets.grouped import grouped_conv

SHAPES = [
    ((2, 5, 4, 6), (3, 3, 2, 6)),
    ((1, 4, 7, 3), (3, 3, 3, 3)),
    ((2, 3, 3, 4), (1, 3, 1, 4)),
    ((1, 3, 4, 80), (3, 3, 16, 80)),
]


def draw(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [0.3 * generator.normal(size=shape).astype(np.float32) for shape in shapes]


def xla(x, kernel):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (1, 1),
        'SAME',
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
@pytest.mark.parametrize('shape, kernel_shape', SHAPES)
def test_grouped_conv_matches_scipy(shape, kernel_shape, backend, monkeypatch):
    monkeypatch.setattr(jax, 'default_backend', lambda: backend)
    x, kernel = draw(shape, kernel_shape)
    group = kernel_shape[2]
    expected = np.zeros(shape)
    for b, out, i in np.ndindex(shape[0], shape[3], group):
        channel = out // group * group + i
        expected[b, :, :, out] += scipy.signal.correlate2d(x[b, :, :, channel], kernel[:, :, i, out], 'same')
    np.testing.assert_allclose(grouped_conv(x, kernel), expected, atol=1e-5)


@pytest.mark.parametrize('shape, kernel_shape', SHAPES)
def test_gradients_match_xla(shape, kernel_shape):
    x, kernel, weight = draw(shape, kernel_shape, shape)
    value = lambda conv: lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel)) * weight)
    for ours, theirs in zip(
        *(jax.jit(jax.grad(value(c), (0, 1)))(x, kernel) for c in (grouped_conv, xla)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('shape, kernel_shape', SHAPES)
def test_gradients_of_a_gradient_norm_match_xla(shape, kernel_shape):
    x, kernel, weight = draw(shape, kernel_shape, shape, seed=1)

    def penalty(conv):
        logit = lambda x, kernel: jnp.sum(jnp.tanh(conv(x, kernel)) * weight)
        return lambda x, kernel: jnp.mean(jnp.square(jax.grad(logit)(x, kernel)))

    for ours, theirs in zip(
        *(jax.jit(jax.grad(penalty(c), (0, 1)))(x, kernel) for c in (grouped_conv, xla)), strict=True
    ):
        assert np.abs(theirs).max() > 1e-4
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_cpu_implementation_has_no_grouped_convolution():
    x, kernel = draw(*SHAPES[-1])
    text = lambda conv: str(jax.make_jaxpr(jax.grad(lambda x, k: conv(x, k).sum(), (0, 1)))(x, kernel))
    assert jax.default_backend() == 'cpu'
    for count in ('feature_group_count', 'batch_group_count'):
        assert set(re.findall(rf'{count}=(\d+)', text(grouped_conv))) == {'1'}
        assert set(re.findall(rf'{count}=(\d+)', text(xla))) != {'1'}
