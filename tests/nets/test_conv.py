"""Stride-1 convolution against SciPy, its gradients against those of XLA's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from productgen.nets import conv as module
from productgen.nets.conv import add_bias, conv, conv_same

# The CPU implementation, on any backend, and the one that this backend uses.
BOTH = pytest.mark.parametrize('convolve', [module._canonical, conv])
CASES = pytest.mark.parametrize(
    'size, padding',
    [((1, 1), (0, 0)), ((3, 3), (0, 0)), ((3, 3), (1, 1)), ((3, 3), (2, 2)), ((2, 3), (1, 0)), ((1, 4), (0, 3))],
)


def arrays(size, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 5, 6, 3)).astype(dtype), rng.normal(size=(*size, 3, 4)).astype(dtype)


def plain(x, kernel, padding):
    pad = [(p, p) for p in padding]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@CASES
@BOTH
def test_conv_matches_scipy(convolve, size, padding):
    x, kernel = arrays(size, np.float32)
    padded = np.pad(x, [(0, 0), *((p, p) for p in padding), (0, 0)]).astype(np.float64)
    expected = [
        [scipy.signal.correlate(image, kernel[..., d], 'valid')[..., 0] for d in range(kernel.shape[-1])]
        for image in padded
    ]
    found = jax.jit(convolve, static_argnums=2)(x, kernel, padding)
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('size', [(1, 1), (3, 3), (5, 3)])
def test_conv_same_keeps_the_size_with_zero_padding(size):
    x, kernel = arrays(size, np.float32)
    out = jax.jit(conv_same)(x, kernel)
    assert out.shape == (2, 5, 6, 4)
    centre = (size[0] // 2, size[1] // 2)
    corner = np.einsum('bijc,ijcd->bd', x[:, : centre[0] + 1, : centre[1] + 1], kernel[centre[0] :, centre[1] :])
    np.testing.assert_allclose(out[:, 0, 0], corner, rtol=1e-4, atol=1e-5)


def first_order(convolve, padding):
    return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, padding))), (0, 1))


def second_order(convolve, padding):
    """Gradient of a function of the gradient, as in gradient penalties."""

    def penalty(x, kernel):
        return sum(jnp.sum(jnp.square(g) * jnp.cos(g)) for g in first_order(convolve, padding)(x, kernel))

    return jax.grad(penalty, (0, 1))


def in_cond(f):
    return jax.jit(lambda x, k: jax.lax.cond(jnp.sum(x) > -1e9, f, lambda x, k: (0 * x, 0 * k), x, k))


def in_scan(f):
    """Result of the last of three scan steps with different inputs."""

    def run(x, k):
        body = lambda carry, scale: (f(scale * x, scale * k), None)
        return jax.lax.scan(body, (x, k), jnp.array([0.3, -2.0, 1.0], x.dtype))[0]

    return jax.jit(run)


@pytest.mark.parametrize('order', [first_order, second_order])
@pytest.mark.parametrize('where', [jax.jit, in_cond, in_scan], ids=['jit', 'cond', 'scan'])
@pytest.mark.parametrize('size, padding', [((3, 3), (1, 1)), ((2, 3), (1, 0)), ((1, 1), (0, 0))])
def test_gradients_match_xla(order, where, size, padding, x64):
    x, kernel = arrays(size)
    ours = where(order(module._canonical, padding))(x, kernel)
    theirs = jax.jit(order(plain, padding))(x, kernel)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize('size, padding', [((3, 3), (1, 1)), ((1, 4), (0, 3))])
def test_gradients_match_finite_differences(size, padding, x64):
    x, kernel = arrays(size)
    convolve = jax.jit(lambda x, k: jnp.sin(module._canonical(x, k, padding)))
    check_grads(convolve, (x, kernel), 2, ['rev'], eps=1e-5)


@BOTH
def test_gradients_keep_bfloat16(convolve):
    x, kernel = (a.astype(jnp.bfloat16) for a in arrays((3, 3)))
    assert [g.dtype for g in jax.jit(first_order(convolve, (1, 1)))(x, kernel)] == [jnp.bfloat16] * 2


@pytest.mark.parametrize('add', [module._added, add_bias])
@pytest.mark.parametrize('shape', [(2, 5, 6, 3), (7, 3), (3,)])
def test_add_bias_and_its_gradients_match_addition(add, shape, x64):
    rng = np.random.default_rng(0)
    x, bias, weights = rng.normal(size=shape), rng.normal(size=3), rng.normal(size=shape)

    def loss(add):
        return lambda x, bias: jnp.sum(weights * jnp.tanh(add(x, bias)))

    def penalty(add):
        return lambda x, bias: jnp.sum(jnp.square(jax.grad(loss(add), 0)(x, bias)))

    slopes = lambda add: [jax.grad(function(add), (0, 1))(x, bias) for function in (loss, penalty)]
    found, expected = jax.jit(lambda: (slopes(add), slopes(jnp.add)))()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), found, expected)


def test_add_bias_keeps_the_dtype_of_x():
    x, bias = np.ones((2, 4, 3), jnp.bfloat16), np.ones(3, np.float32)
    assert jax.eval_shape(add_bias, x, bias).dtype == jnp.bfloat16
    gradient = jax.jit(jax.grad(lambda bias: jnp.sum(add_bias(x, bias).astype(jnp.float32))))(bias)
    assert gradient.dtype == jnp.float32 and gradient.tolist() == [8, 8, 8]
