"""First guesses of holes: known pixels stay, missing ones have the colours around them."""

import jax
import numpy as np
import pytest
from PIL import Image

from productgen.nets.filling import filled

DRAW = np.random.default_rng(0)
run = jax.jit(filled, static_argnums=(2, 3))


def case(size, holes, channels=3):
    """A picture whose missing pixels have values that do not belong to it, and the mask."""
    image = DRAW.uniform(-1, 1, (1, *size, channels)).astype(np.float32)
    hole = np.zeros((1, *size, 1), np.float32)
    for rows, columns in holes:
        hole[:, slice(*rows), slice(*columns)] = 1
    return np.where(hole > 0, np.float32(1e4), image), hole


@pytest.mark.parametrize('size', [(16, 16), (13, 7), (1, 9), (1, 1)])
def test_known_pixels_stay_and_the_others_are_between_them(size):
    image, hole = case(size, [((0, 5), (2, 6))])
    made = np.asarray(run(image, hole, 6))
    known = np.broadcast_to(hole < 1, image.shape)
    assert np.array_equal(made[known], image[known])
    assert made.max() <= image[known].max() + 1e-5 and made.min() >= image[known].min() - 1e-5


def test_a_cell_has_the_mean_of_its_known_pixels():
    image, hole = case((2, 2), [((0, 1), (1, 2))])
    made = np.asarray(run(image, hole, 1, 0))
    np.testing.assert_allclose(made[0, 0, 1], image[hole[..., 0] < 1].mean(0), rtol=1e-5)


def test_a_cell_without_known_pixels_is_interpolated_as_pillow_does():
    """One level: all cells are known but one, which is that of the level below, here the mean of all known pixels."""
    image, hole = case((12, 16), [((4, 6), (6, 8))], channels=1)
    made = np.asarray(run(image, hole, 1, 0))[0, ..., 0]
    coarse = image[0, ..., 0].reshape(6, 2, 8, 2).mean((1, 3))
    coarse[2, 3] = image[hole < 1].mean()
    expected = np.asarray(Image.fromarray(coarse).resize((16, 12), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(made[4:6, 6:8], expected[4:6, 6:8], rtol=1e-4, atol=1e-5)


def test_without_known_pixels_it_is_0():
    assert not np.asarray(run(np.ones((1, 4, 6, 3), np.float32), np.ones((1, 4, 6, 1), np.float32), 6)).any()


def test_a_photo_s_colour_comes_from_near_by():
    """Red on the left, blue on the right, with a hole in each half."""
    image = np.zeros((1, 64, 128, 3), np.float32)
    image[:, :, :64, 0] = image[:, :, 64:, 2] = 1
    hole = np.zeros((1, 64, 128, 1), np.float32)
    hole[:, 24:40, 8:40] = hole[:, 24:40, 88:120] = 1
    made = np.asarray(run(image, hole))
    for columns in slice(8, 40), slice(88, 120):
        np.testing.assert_allclose(made[:, 24:40, columns], image[:, 24:40, columns], atol=0.02)


def test_many_sweeps_solve_laplace_s_equation():
    """Each missing pixel is the mean of its neighbours; a direct solver has the same answer."""
    image, hole = case((12, 14), [((3, 9), (4, 11))], channels=1)
    missing = hole[0, ..., 0] > 0
    number = np.cumsum(missing).reshape(missing.shape) - 1
    matrix, right = np.eye(missing.sum()), np.zeros(missing.sum())
    for y, x in np.argwhere(missing):
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if missing[near]:
                matrix[number[y, x], number[near]] -= 1 / 4
            else:
                right[number[y, x]] += image[0, *near, 0] / 4
    expected = np.linalg.solve(matrix, right)
    error = lambda sweeps: np.abs(np.asarray(run(image, hole, 3, sweeps))[hole > 0] - expected).max()
    assert error(100) < 0.02 and error(4) < error(0)
