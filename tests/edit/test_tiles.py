"""Tiles: the same as the whole, at every size."""

import cv2
import numpy as np
import pytest

from productgen.edit.tiles import margin_of, tiled


def blurred(tile):
    """A function of 5 x 5 neighbourhoods, which reaches 2 pixels far; borders of a tile are wrong on purpose."""
    made = cv2.GaussianBlur(tile, (5, 5), 1.0, borderType=cv2.BORDER_CONSTANT)
    return made


@pytest.mark.parametrize('size', [(1, 1), (1, 90), (7, 5), (40, 33), (64, 64), (65, 130)])
def test_tiles_equal_the_whole(size):
    image = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
    whole = cv2.GaussianBlur(image, (5, 5), 1.0, borderType=cv2.BORDER_REFLECT)
    found = tiled(blurred, image, 1, 2, 2, (16, 32))
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize('size', [(5, 40), (33, 17)])
def test_larger_results_are_in_place(size):
    image = np.random.default_rng(0).uniform(size=(*size, 4)).astype(np.float32)
    found = tiled(lambda x: x[..., :3].repeat(4, 0).repeat(4, 1), image, 4, 4, 4, (16,))
    assert np.array_equal(found, image[..., :3].repeat(4, 0).repeat(4, 1))


def test_tiles_lie_on_the_grid_of_the_network():
    """Averages of blocks of 4 x 4 pixels are those of the whole picture's blocks."""
    image = np.random.default_rng(0).uniform(size=(50, 70, 1)).astype(np.float32)

    def blocks(x):
        means = x.reshape(x.shape[0] // 4, 4, x.shape[1] // 4, 4, 1).mean((1, 3))
        return means.repeat(4, 0).repeat(4, 1)

    found = tiled(blocks, image, 1, 4, 4, (24,))
    np.testing.assert_allclose(found[:48, :68], blocks(image[:48, :68]), atol=1e-6)


def test_few_programs_serve_all_sizes():
    shapes = set()
    for size in range(1, 400, 7):
        tiled(lambda x: shapes.add(x.shape) or x, np.zeros((size, 2 * size, 1), np.float32), 1, 16, 1, (128, 256))
    assert {side for shape in shapes for side in shape[:2]} == {128, 256}


def test_margins():
    assert margin_of(14, 1) == 14 and margin_of(14, 4) == 16 and margin_of(300, 1) == 64 and margin_of(300, 24) == 72
