"""Copies that are aligned by hand, and pictures that have nothing in common."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from productgen.metrics.alignment import SIDE, align, small


def blobs(count, size, seed=0):
    """Smooth random pictures, uint8 [count, size, size, 3]."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, (count, size, size, 3)), (0, 3, 3, 0))
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def compare(a, b):
    return align(small(a), small(b))


@pytest.mark.parametrize('side, offset', [(64, 0), (58, 3), (52, 0), (52, 12)])
@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('swapped', [False, True])
def test_a_part_is_found_in_the_whole(side, offset, mirrored, swapped):
    whole = blobs(3, 64)
    part = whole[:, offset : offset + side, offset : offset + side]
    part = part[:, :, ::-1] if mirrored else part
    found = compare(*((part, whole) if swapped else (whole, part)))
    assert (found.correlation > 0.9).all() and (found.mirrored == mirrored).all()
    np.testing.assert_allclose(found.scale, side / 64, atol=0.05)


def test_other_pictures_and_flat_ones_do_not_correlate():
    flat = np.full((3, 64, 64, 3), 200, np.uint8)
    assert (compare(blobs(3, 64), blobs(3, 64, 1)).correlation < 0.5).all()
    assert (compare(blobs(3, 64), flat).correlation < 0.5).all()
    none = np.zeros((0, SIDE, SIDE, 3), np.uint8)
    assert align(none, none).scale.shape == (0,)


def test_colours_count():
    image = blobs(3, 64)
    assert (compare(image, image[..., ::-1]).correlation < 0.8).all()


def test_bars_are_left_out():
    image = blobs(1, 64)[0]
    wide = np.full((96, 64, 3), 255, np.uint8)
    wide[16:80] = image
    expected = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX))
    assert np.array_equal(small(wide[None])[0], expected)
    assert (small(np.full((1, 40, 40, 3), 255, np.uint8)) == 255).all()
