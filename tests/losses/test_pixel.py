"""Distances between images against NumPy and SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from productgen.losses.pixel import PYRAMID_LEVELS, RECONSTRUCTION, charbonnier, ssim_index, weighted

DRAW = np.random.default_rng(0)
DISTANCES = {name: jax.jit(distance) for name, distance in RECONSTRUCTION.items()}
EACH = pytest.mark.parametrize('name', sorted(RECONSTRUCTION))


def pictures(height=24, width=20, count=3):
    """Smooth images in [-1, 1] and noisy copies."""
    smooth = scipy.ndimage.gaussian_filter(DRAW.normal(size=(count, height, width, 3)), (0, 2, 2, 0))
    a = np.tanh(4 * smooth)
    return a, np.clip(a + 0.2 * DRAW.normal(size=a.shape), -1, 1)


def ssim_by_windows(a, b):
    """Equations 6, 13 and 14 to 17 of Wang et al. 2004 for a single channel, window by window."""
    a, b = 127.5 * (a + 1), 127.5 * (b + 1)  # as in the paper: 0..255, L = 255
    distance = np.arange(11) - 5
    window = np.exp(-(distance[:, None] ** 2 + distance[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2, values = (0.01 * 255) ** 2, (0.03 * 255) ** 2, []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mx, my = np.sum(window * x), np.sum(window * y)
            vx, vy = np.sum(window * (x - mx) ** 2), np.sum(window * (y - my) ** 2)
            cov = np.sum(window * (x - mx) * (y - my))
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.mean(values)


def ssim_by_scipy(a, b):
    """The same with SciPy's Gaussian filter, cropped to where the window lies inside."""
    blur = lambda x: scipy.ndimage.gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]
    a, b = (a + 1) / 2, (b + 1) / 2
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    return np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))


def pyramid(x, levels):
    """Laplacian pyramid of [H, W] by filtering with SciPy and inserting zeros (Burt and Adelson 1983)."""
    taps, parts = np.array([1, 4, 6, 4, 1]) / 16, []
    for _ in range(levels):
        coarse = x
        for axis in (0, 1):
            coarse = scipy.ndimage.convolve1d(coarse, taps, axis, mode='nearest')
        coarse = coarse[::2, ::2]
        fine = np.pad(coarse, 1, mode='edge')
        for axis in (0, 1):
            shape = list(fine.shape)
            shape[axis] *= 2
            zeros = np.zeros(shape)
            zeros[(slice(None),) * axis + (slice(0, None, 2),)] = fine
            fine = scipy.ndimage.convolve1d(zeros, 2 * taps, axis, mode='constant')
        parts.append(x - fine[2:-2, 2:-2])
        x = coarse
    return [*parts, x]


@pytest.mark.parametrize(
    'name, formula',
    [
        ('mse', lambda d: d**2),
        ('l1', np.abs),
        ('charbonnier', lambda d: np.hypot(d, 1e-3) - 1e-3),
    ],
)
def test_pixelwise_distances_match_their_formulas(name, formula, x64):
    a, b = pictures()
    np.testing.assert_allclose(DISTANCES[name](a, b), formula(a - b).mean((1, 2, 3)), rtol=1e-10)


def test_charbonnier_with_another_epsilon(x64):
    a, b = pictures()
    expected = (np.sqrt((a - b) ** 2 + 0.25) - 0.5).mean((1, 2, 3))
    np.testing.assert_allclose(jax.jit(charbonnier)(a, b, 0.5), expected, rtol=1e-10)


@pytest.mark.parametrize('reference', [ssim_by_windows, ssim_by_scipy])
def test_structural_similarity_matches_the_reference(reference, x64):
    a, b = pictures()
    expected = [np.mean([reference(a[i, ..., c], b[i, ..., c]) for c in range(3)]) for i in range(3)]
    assert np.min(expected) > 0.1 and np.max(expected) < 0.95
    np.testing.assert_allclose(jax.jit(ssim_index)(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(DISTANCES['ssim'](a, b), 1 - np.array(expected), rtol=1e-9)


def test_small_images_use_a_smaller_window(x64):
    """The middle 5 taps for a height of 6 pixels, one for a width of 1."""
    a, b = (x[:1, :, :, :1] for x in pictures(6, 1))
    taps = np.exp(-np.square(np.arange(-2, 3)) / (2 * 1.5**2))
    blur = lambda x: np.convolve(x.ravel(), taps / taps.sum(), 'valid')
    x, y = a + 1, b + 1
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    values = (2 * mx * my + 4e-4) * (2 * cov + 36e-4) / ((mx**2 + my**2 + 4e-4) * (vx + vy + 36e-4))
    assert values.shape == (2,)
    np.testing.assert_allclose(jax.jit(ssim_index)(a, b), [values.mean()], rtol=1e-9)


@pytest.mark.parametrize('size, levels', [((64, 32), 4), ((24, 20), 2), ((128, 128), 5), ((7, 8), 0)])
def test_pyramid_distance_matches_the_reference(size, levels, x64):
    """sum_j 2^(2j) |.|_1 over all samples of an image, including sides that become odd."""
    a, b = pictures(*size, count=1)
    assert levels <= PYRAMID_LEVELS
    total = 0.0
    for channel in range(3):
        for j, (x, y) in enumerate(zip(*(pyramid(p[0, ..., channel], levels) for p in (a, b)), strict=True)):
            total += 4**j * np.abs(x - y).sum()
    np.testing.assert_allclose(DISTANCES['laplacian'](a, b), [total / a.size], rtol=1e-9)


def test_a_constant_difference_is_only_in_the_residual(x64):
    a = pictures(32, 32)[0]
    np.testing.assert_allclose(DISTANCES['laplacian'](a, a - 0.3), np.full(3, 0.3), rtol=1e-9)


@EACH
def test_distances_are_symmetric_and_zero_for_equal_images(name, x64):
    a, b = pictures()
    distance = DISTANCES[name]
    np.testing.assert_allclose(distance(a, a), np.zeros(3), atol=1e-12)
    np.testing.assert_allclose(distance(a, b), distance(b, a), rtol=1e-10)
    assert (np.asarray(distance(a, b)) > 0).all()


@EACH
def test_distances_of_images_are_independent(name, x64):
    a, b = pictures()
    np.testing.assert_allclose(DISTANCES[name](a, b)[1:2], DISTANCES[name](a[1:2], b[1:2]), rtol=1e-12)


@EACH
def test_gradients_match_finite_differences(name, x64):
    a, b = pictures(16, 12, count=1)
    direction, step = DRAW.normal(size=a.shape), 1e-6
    value = jax.jit(lambda a: jnp.sum(DISTANCES[name](a, b)))
    slope = (value(a + step * direction) - value(a - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(jax.jit(jax.grad(value))(a) * direction), slope, rtol=1e-5)


@EACH
def test_gradients_are_finite_for_equal_and_constant_images(name):
    slope = jax.jit(jax.grad(lambda a, b: jnp.sum(RECONSTRUCTION[name](a, b))))
    image = np.float32(pictures()[0])
    for same in (image, np.full_like(image, -1), np.ones_like(image)):
        assert np.isfinite(slope(same, same)).all()


@EACH
def test_half_precision_is_compared_in_float32(name):
    a, b = (x.astype(jnp.bfloat16) for x in pictures())
    value = DISTANCES[name](a, b)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, DISTANCES[name](a.astype('f4'), b.astype('f4')), rtol=1e-6)


@EACH
@pytest.mark.parametrize('shape', [(3, 24, 20, 1), (1, 24, 20, 3), (24, 20, 3), ()])
def test_different_shapes_raise(name, shape):
    with pytest.raises(ValueError, match='must both be'):
        jax.eval_shape(RECONSTRUCTION[name], np.zeros((3, 24, 20, 3), np.float32), np.zeros(shape, np.float32))


def test_a_weighted_sum_is_the_sum_of_its_terms(x64):
    a, b = pictures()
    expected = 2 * ((a - b) ** 2).mean((1, 2, 3)) + 0.5 * np.abs(a - b).mean((1, 2, 3))
    np.testing.assert_allclose(jax.jit(weighted({'mse': 2.0, 'l1': 0.5, 'ssim': 0.0}))(a, b), expected, rtol=1e-10)


@pytest.mark.parametrize(
    'weights, message',
    [
        ({'l2': 1.0}, "no reconstruction loss 'l2'.*mse"),
        ({'mse': 0.0, 'l1': 0.0}, 'weight above 0'),
        ({}, 'weight above 0'),
        ({'mse': -1.0, 'l1': 1.0}, 'mse: .*negative'),
        ({'mse': float('nan')}, 'mse: '),
    ],
)
def test_invalid_weights_raise(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted(weights)
