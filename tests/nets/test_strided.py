"""4x4 convolutions of stride 2 against XLA's strided and Flax's transposed ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.strided import conv_double, conv_halve, to_depth, to_space

DRAW = np.random.default_rng(0)


def test_to_depth_and_to_space():
    x = DRAW.normal(size=(2, 4, 6, 3))
    blocks = to_depth(jnp.asarray(x))
    assert blocks.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(blocks[1, 1, 2].reshape(2, 2, 3), np.float32(x[1, 2:4, 4:6]))
    np.testing.assert_array_equal(to_space(blocks), np.float32(x))


def test_conv_halve_matches_xla():
    x, kernel = np.float32(DRAW.normal(size=(2, 8, 6, 3))), np.float32(DRAW.normal(size=(4, 4, 3, 5)))
    layout = ('NHWC', 'HWIO', 'NHWC')
    expected = jax.lax.conv_general_dilated(x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=layout)
    assert expected.shape == (2, 4, 3, 5)
    np.testing.assert_allclose(conv_halve(x, kernel), expected, atol=1e-4)


def test_conv_double_matches_flax():
    x, kernel = np.float32(DRAW.normal(size=(2, 4, 3, 3))), np.float32(DRAW.normal(size=(4, 4, 3, 5)))
    layer = nn.ConvTranspose(5, (4, 4), (2, 2), padding='SAME', use_bias=False, transpose_kernel=False)
    # Flax slides the kernel over a dilated input; PyTorch and the papers scatter it, which flips it.
    expected = layer.apply({'params': {'kernel': kernel[::-1, ::-1]}}, x)
    np.testing.assert_allclose(conv_double(x, kernel), expected, atol=1e-4)


def test_conv_double_is_the_adjoint_of_conv_halve():
    x, y = DRAW.normal(size=(2, 8, 6, 3)), DRAW.normal(size=(2, 4, 3, 5))
    kernel = DRAW.normal(size=(4, 4, 3, 5))
    left = np.sum(conv_halve(jnp.float32(x), jnp.float32(kernel)) * y)
    right = np.sum(x * conv_double(jnp.float32(y), jnp.float32(kernel.swapaxes(2, 3))))
    np.testing.assert_allclose(left, right, rtol=1e-4)
