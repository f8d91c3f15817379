"""Resampling against SciPy's `upfirdn` and convolutions of zero-inserted signals in float64, including borders."""

import jax
import numpy as np
import pytest
import scipy.signal

from productgen.nets import resample

upsample, downsample, conv_up, conv_down = (
    jax.jit(f) for f in (resample.upsample, resample.downsample, resample.conv_up, resample.conv_down)
)
FIR = np.array([1, 3, 3, 1]) / 8
SIZES = pytest.mark.parametrize('size', [(1, 1), (1, 4), (4, 3), (5, 8)])


def image(size, channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(2, *size, channels)).astype(np.float32)


def kernel_of(channels=2, features=3):
    return np.random.default_rng(1).normal(size=(3, 3, channels, features)).astype(np.float32)


def correlate(x, kernel, mode):
    """[B, H, W, C] and [h, w, C, D] -> [B, H', W', D]."""
    c, d = kernel.shape[2:]
    return np.stack(
        [
            np.stack(
                [
                    sum(scipy.signal.correlate2d(one[..., i], kernel[..., i, j].astype(float), mode) for i in range(c))
                    for j in range(d)
                ],
                -1,
            )
            for one in x.astype(np.float64)
        ]
    )


def filtered(x, gain=1.0):
    """Full convolution with the filter along both axes, which adds three samples."""
    taps = np.outer(FIR, FIR) * gain**2
    return np.stack(
        [np.stack([scipy.signal.convolve2d(one[..., i], taps) for i in range(x.shape[-1])], -1) for one in x]
    )


def zero_inserted(x):
    """[B, H, W, C] -> [B, 2H - 1, 2W - 1, C]."""
    b, h, w, c = x.shape
    out = np.zeros((b, 2 * h - 1, 2 * w - 1, c))
    out[:, ::2, ::2] = x
    return out


@SIZES
def test_upsample_matches_upfirdn(size):
    x = image(size)
    expected = x.astype(np.float64)
    for axis in (1, 2):
        n = x.shape[axis]
        expected = np.take(scipy.signal.upfirdn(2 * FIR, expected, up=2, axis=axis), range(1, 2 * n + 1), axis)
    np.testing.assert_allclose(upsample(x), expected, atol=1e-6)


@SIZES
def test_downsample_matches_upfirdn(size):
    x = image((2 * size[0], 2 * size[1]))
    expected = x.astype(np.float64)
    for axis, n in zip((1, 2), size, strict=True):
        expected = np.take(scipy.signal.upfirdn(FIR, expected, down=2, axis=axis), range(1, n + 1), axis)
    np.testing.assert_allclose(downsample(x), expected, atol=1e-6)


@pytest.mark.parametrize('function', [upsample, downsample])
def test_constants_are_kept_in_the_interior(function):
    out = np.asarray(function(np.full((1, 8, 6, 1), 0.7, np.float32)))
    np.testing.assert_allclose(out[:, 1:-1, 1:-1], 0.7, rtol=1e-6)
    assert out[:, 0].max() < 0.65 and out[:, :, -1].max() < 0.65  # zero padding


@SIZES
def test_conv_up_matches_transposed_convolution_and_filter(size):
    x, kernel = image(size), kernel_of()
    wide = correlate(zero_inserted(x), kernel, 'full')  # 2H + 1 samples, from -1
    expected = filtered(wide, 2.0)[:, 2:-2, 2:-2]  # the filter is centred between samples: 2H
    assert expected.shape == (2, 2 * size[0], 2 * size[1], 3)
    np.testing.assert_allclose(conv_up(x, kernel), expected, rtol=1e-5, atol=1e-5)


def test_conv_up_matches_upsampling_and_convolution_in_the_interior():
    x, kernel = image((5, 8)), kernel_of()
    expected = correlate(np.asarray(upsample(x)), kernel, 'same')
    np.testing.assert_allclose(conv_up(x, kernel)[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], rtol=1e-5, atol=1e-5)


@SIZES
def test_conv_down_matches_filter_and_strided_convolution(size):
    x, kernel = image((2 * size[0], 2 * size[1])), kernel_of()
    smooth = filtered(x.astype(np.float64))[:, 1:-1, 1:-1]  # 2H + 1 samples, from -1
    expected = correlate(smooth, kernel, 'valid')[:, ::2, ::2]
    assert expected.shape == (2, *size, 3)
    np.testing.assert_allclose(conv_down(x, kernel), expected, rtol=1e-5, atol=1e-5)
