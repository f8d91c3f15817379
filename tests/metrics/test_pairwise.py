"""Full-reference metrics against other libraries, SciPy and closed forms.

tests/peers/pairwise.py wrote the values of pairwise.json with scikit-image (PSNR, SSIM, Delta E), pytorch-msssim and
piq (GMSD).
"""

import json
import pathlib

import jax
import numpy as np
import pytest
import scipy.ndimage
from peers.pairwise import pictures

from productgen.metrics.pairwise import MS_SSIM_WEIGHTS, PAIRWISE, gmsd, ms_ssim, ms_ssim_diversity, psnr

PEERS = json.loads((pathlib.Path(__file__).parents[1] / 'peers' / 'pairwise.json').read_text())
METRICS = {name: jax.jit(metric) for name, metric in PAIRWISE.items()}
TOLERANCE = {'psnr': 1e-5, 'ssim': 5e-6, 'ms_ssim': 5e-6, 'delta_e': 1e-3, 'gmsd': 1e-6}
EACH = pytest.mark.parametrize('name', sorted(PAIRWISE))
two_levels = jax.jit(lambda a, b: ms_ssim(a, b, 2))
QUICK = {**METRICS, 'ms_ssim': two_levels}  # for small images


@pytest.fixture(scope='module')
def both():
    """Crops of the peers' images and of their degraded copies, [4, 32, 24, 3]."""
    return tuple(x[:, :32, :24] / np.float32(127.5) - 1 for x in pictures())


@EACH
def test_metrics_match_the_peers(name):
    a, b = (x / np.float32(127.5) - 1 for x in pictures())
    np.testing.assert_allclose(METRICS[name](a, b), PEERS[name], atol=TOLERANCE[name], rtol=0)
    assert np.ptp(PEERS[name]) > 1000 * TOLERANCE[name]


@EACH
def test_equal_images_have_the_best_value(name, both):
    best = {'psnr': np.inf, 'ssim': 1, 'ms_ssim': 1, 'delta_e': 0, 'gmsd': 0}[name]
    for same in (both[0], np.ones_like(both[0]), -np.ones_like(both[0])):
        np.testing.assert_allclose(QUICK[name](same, same), np.full(4, best), atol=1e-6)


@EACH
def test_metrics_are_symmetric_and_independent_of_the_order(name, both):
    a, b = both
    expected = QUICK[name](a, b)
    np.testing.assert_allclose(QUICK[name](b[::-1], a[::-1])[::-1], expected, rtol=2e-5)


@EACH
def test_half_precision_is_compared_in_float32(name, both):
    a, b = (x.astype('float16') for x in both)
    found = QUICK[name](a, b)
    assert found.dtype == np.float32
    # Two programs: equal up to rounding, of which that of half precision is a thousand times larger.
    np.testing.assert_allclose(found, QUICK[name](a.astype('f4'), b.astype('f4')), rtol=2e-6)


@EACH
@pytest.mark.parametrize('other', [(1, 176, 176, 3), (2, 176, 176, 1), (176, 176, 3)])
def test_different_shapes_raise(name, other):
    with pytest.raises(ValueError, match=r'must both be \[B, H, W, 3\]'):
        PAIRWISE[name](np.zeros((2, 176, 176, 3), np.float32), np.zeros(other, np.float32))


@EACH
def test_integer_images_raise(name, both):
    with pytest.raises(ValueError, match='must be floats'):
        PAIRWISE[name](both[0], pictures()[1][:, :32, :24])


def test_psnr_of_a_constant_error(x64):
    """20 log10(255 / d) for a difference of d grey levels."""
    a = np.random.default_rng(0).uniform(-1, 0.5, (2, 8, 9, 3))
    np.testing.assert_allclose(psnr(a, a + 10 / 127.5), 20 * np.log10(255 / 10), rtol=1e-10)


def ms_ssim_by_scipy(a, b, levels):
    """MS-SSIM of two [H, W] in 0..255; levels by a 2 x 2 mean filter with reflected borders, then subsampling."""
    blur = lambda x: scipy.ndimage.gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]
    index = 1.0
    for level, weight in enumerate(MS_SSIM_WEIGHTS[:levels]):
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        c1, c2 = 2.55**2, 7.65**2
        term = (2 * cov + c2) / (va + vb + c2)
        if level == levels - 1:
            term = term * (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        index *= max(term.mean(), 0) ** (weight * sum(MS_SSIM_WEIGHTS) / sum(MS_SSIM_WEIGHTS[:levels]))
        a, b = (scipy.ndimage.uniform_filter(x, 2, origin=-1, mode='reflect')[::2, ::2] for x in (a, b))
    return index


@pytest.mark.parametrize('levels, shape', [(2, (25, 34)), (5, (163, 177))])
def test_ms_ssim_of_odd_sizes_and_fewer_levels(levels, shape, x64):
    draw = np.random.default_rng(1)
    a = np.clip(128 + 200 * scipy.ndimage.gaussian_filter(draw.standard_normal((2, *shape, 3)), (0, 2, 2, 0)), 0, 255)
    b = np.clip(a + draw.normal(0, 25, a.shape), 0, 255)
    expected = [np.mean([ms_ssim_by_scipy(a[i, ..., c], b[i, ..., c], levels) for c in range(3)]) for i in range(2)]
    assert 0.3 < min(expected) < max(expected) < 0.99
    found = jax.jit(ms_ssim, static_argnums=2)(a / 127.5 - 1, b / 127.5 - 1, levels)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_ms_ssim_of_one_level_is_ssim(both):
    found = jax.jit(ms_ssim, static_argnums=2)(*both, 1)
    np.testing.assert_allclose(found, QUICK['ssim'](*both) ** sum(MS_SSIM_WEIGHTS), rtol=1e-3)


def test_ms_ssim_of_the_negative_image_is_zero(both):
    flat = both[0] - both[0].mean((1, 2), keepdims=True)  # equal luminance, opposite structure
    np.testing.assert_array_equal(two_levels(flat, -flat), 0)


def test_images_too_small_for_the_levels_raise():
    small = np.zeros((1, 160, 200, 3), np.float32)
    with pytest.raises(ValueError, match='5 levels of MS-SSIM need 161 pixels per side, got 160 x 200'):
        ms_ssim(small, small)
    with pytest.raises(ValueError, match='3 levels of MS-SSIM need 41 pixels'):
        ms_ssim(small[:, :40], small[:, :40], 3)
    for levels in (0, 6):
        with pytest.raises(ValueError, match='levels must be 1 to 5'):
            ms_ssim(small, small, levels)


def test_gmsd_matches_its_formula_at_odd_sizes(x64):
    """SciPy's convolution with zero padding, of the luma in 0..255."""
    draw = np.random.default_rng(2)
    a, b = draw.uniform(0, 255, (2, 21, 33, 3))
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for x in (a, b):
        luma = x @ (0.299, 0.587, 0.114)
        luma = scipy.ndimage.convolve(luma, np.full((2, 2), 1 / 4), mode='constant')[::2, ::2]
        gradients = [scipy.ndimage.convolve(luma, kernel, mode='constant') for kernel in (prewitt, prewitt.T)]
        magnitudes.append(np.hypot(*gradients))
    m, n = magnitudes
    expected = np.std((2 * m * n + 170) / (m**2 + n**2 + 170))
    np.testing.assert_allclose(gmsd(a[None] / 127.5 - 1, b[None] / 127.5 - 1), [expected], rtol=1e-9)


@EACH
def test_metrics_worsen_with_noise(name, both):
    noise = np.random.default_rng(3).standard_normal(both[0].shape).astype(np.float32)
    found = np.array([QUICK[name](both[0], both[0] + s * noise) for s in (0.02, 0.1, 0.3)])
    sign = -1 if name in ('delta_e', 'gmsd') else 1
    assert (sign * np.diff(found, axis=0) < 0).all()


@pytest.fixture(scope='module')
def small():
    """uint8 [3, 24, 21, 3]."""
    return pictures()[0][:3, :24, :21]


def test_diversity_of_two_images_is_their_ms_ssim(small):
    a, b = (x[None] / np.float32(127.5) - 1 for x in small[:2])
    for seed in (0, 1):
        found = ms_ssim_diversity(small[:2], 5, seed, levels=2)
        np.testing.assert_allclose(found, float(two_levels(a, b)[0]), rtol=1e-5)


def test_diversity_is_the_mean_over_random_pairs(small):
    """Two of three images are equal: a third of the pairs has the value 1."""
    images = small[[0, 0, 1]]
    a, b = (x[None] / np.float32(127.5) - 1 for x in small[:2])
    different = float(two_levels(a, b)[0])
    found = ms_ssim_diversity(images, 160, seed=4, levels=2)
    deviation = (1 - different) * np.sqrt(2 / 9 / 160)
    assert abs(found - (1 + 2 * different) / 3) < 4 * deviation
    assert found == ms_ssim_diversity(images, 160, seed=4, levels=2)
    assert found != ms_ssim_diversity(images, 160, seed=5, levels=2)


def test_diversity_of_equal_images_is_one(small):
    np.testing.assert_allclose(ms_ssim_diversity(small[[0, 0, 0]], 5, levels=2), 1, rtol=1e-6)


def test_diversity_of_invalid_sets_raises(small):
    for images in (small[:1], small.astype(np.float32), small[0]):
        with pytest.raises(ValueError, match='at least two images, got'):
            ms_ssim_diversity(images)
    with pytest.raises(ValueError, match='need 161 pixels'):
        ms_ssim_diversity(small)
