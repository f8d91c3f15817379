"""Sliced Wasserstein distance against SciPy, and its invariances and sensitivities."""

import numpy as np
import pytest
from scipy import ndimage, stats

from productgen.metrics.swd import PATCHES, SlicedWasserstein, figure_names, pyramid, sliced_distance


@pytest.fixture(scope='module')
def photos():
    """16 smooth images of 32 x 32 with an edge."""
    draw = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(draw.standard_normal((16, 32, 32, 3)), (0, 3, 3, 0))
    smooth[:, :, 16:] += 0.2
    return np.clip(127 + 300 * smooth, 0, 255).astype(np.uint8)


def distance(real, fake, **options):
    return SlicedWasserstein([real], len(real), **options)([fake])


def test_distance_along_a_direction_matches_scipy():
    draw = np.random.default_rng(1)
    a, b = draw.standard_normal((200, 5)), draw.standard_normal((200, 5)) * 1.5 + 0.3
    axes = np.random.RandomState(0).standard_normal((40, 5))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    expected = np.mean([stats.wasserstein_distance(a @ axis, b @ axis) for axis in axes])
    np.testing.assert_allclose(sliced_distance(a, b, 40), expected, rtol=1e-5)


def test_distance_of_a_shifted_set_in_closed_form():
    """A shift by v has the distance |u v| along u, whose mean over the sphere in D = 3 is |v| / 2."""
    a = np.random.default_rng(2).standard_normal((50, 3))
    np.testing.assert_allclose(sliced_distance(a, a + [0, 2.0, 0], 20_000), 1.0, rtol=0.01)


def test_distance_of_equal_sets_is_zero_in_any_order(photos):
    assert set(distance(photos, photos).values()) == {0.0}
    # Some processors round a row of a matrix product by its place.
    assert max(distance(photos, photos[::-1]).values()) < 1e-3


def test_distance_does_not_depend_on_the_batches(photos):
    expected = distance(photos, photos[:, ::-1])
    parts = SlicedWasserstein((photos[i : i + 5] for i in range(0, 16, 5)), 16)
    np.testing.assert_allclose(list(parts([photos[:7, ::-1], photos[7:, ::-1]]).values()), list(expected.values()))


def test_distance_increases_with_blur_and_noise_mostly_at_the_fine_level(photos):
    draw = np.random.default_rng(3)
    noise = draw.standard_normal(photos.shape)
    noisy = [distance(photos, np.clip(photos + s * noise, 0, 255).astype(np.uint8)) for s in (2, 10)]
    blurred = [distance(photos, ndimage.gaussian_filter(photos, (0, s, s, 0))) for s in (0.5, 2)]
    for found in (noisy, blurred):
        assert 10 < found[0]['swd'] < found[1]['swd']
    assert all(found['swd_32'] > 3 * found['swd_16'] for found in noisy)


def test_colour_cast_and_contrast_matter(photos):
    """With each set normalised by its own mean and standard deviation the distance would be zero."""
    cast = distance(photos, np.clip(photos.astype(int) + [20, 0, 0], 0, 255).astype(np.uint8))
    weak = distance(photos, (127 + 0.5 * (photos - 127.0)).astype(np.uint8))
    halves = distance(photos[:8], photos[8:])
    assert cast['swd_16'] > 100 and weak['swd_16'] > 100 > halves['swd_32']


def test_pyramid_levels_of_random_and_constant_images():
    image = np.random.default_rng(4).standard_normal((2, 66, 37, 3)).astype(np.float32)
    levels = pyramid(image)
    assert [level.shape[1:3] for level in levels] == [(66, 37), (33, 19)]
    for level in pyramid(np.full((1, 64, 48, 3), 7.0))[:-1]:
        np.testing.assert_allclose(level, 0, atol=1e-5)
    # The blur matches SciPy's with binomial taps.
    taps = np.array([1, 4, 6, 4, 1]) / 16
    kernel = np.outer(taps, taps)[None, :, :, None]
    expected = ndimage.convolve(image, kernel, mode='mirror')[:, ::2, ::2]
    np.testing.assert_allclose(levels[1], expected, atol=1e-5)


@pytest.mark.parametrize(
    'shape, names',
    [((16, 16), ['16']), ((64, 64), ['64', '32', '16']), ((32, 24), ['24x32']), ((6, 5), ['5x6'])],
)
def test_the_coarsest_level_has_at_least_16_pixels(shape, names):
    assert figure_names(shape) == ('swd', *(f'swd_{name}' for name in names))
    photos = np.random.default_rng(0).integers(0, 256, (4, *shape, 3), np.uint8)
    assert tuple(distance(photos, photos)) == figure_names(shape)


def test_large_sets_use_fewer_patches_per_image():
    few, many = (np.zeros((n, 16, 16, 3), np.uint8) for n in (10, 1000))
    sizes = [SlicedWasserstein([x], len(x))._real['16'].shape[0] for x in (few, many)]
    assert sizes == [10 * min(PATCHES, 100), 32_000]  # 16 x 16 images have 100 positions


def test_sets_of_different_sizes_raise(photos):
    for other in (photos[:10], photos[:, ::2, ::2]):
        with pytest.raises(ValueError, match='differ in number or size'):
            distance(photos, other)
