"""Affine resampling compared with SciPy and NumPy."""

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from productgen.augment.warp import move_pixels, warp

warp_jit, move_jit = jax.jit(warp), jax.jit(move_pixels)


def smooth_images(b, h, w, c=3, cycles=2, seed=0):
    """Random sums of cosines that are smooth and, mirrored at the borders, stay smooth."""
    y, x = (np.pi * np.arange(n) / (n - 1) for n in (h, w))
    spectrum = np.random.default_rng(seed).normal(size=(b, cycles + 1, cycles + 1, c))
    rows, columns = (np.cos(np.arange(cycles + 1)[:, None] * v) for v in (y, x))
    return np.einsum('bijc,ih,jw->bhwc', spectrum, rows, columns).astype(np.float32) / (cycles + 1)


def scipy_affine(images, inverse):
    """The same map by cubic splines; SciPy counts (row, column) from the corner and also mirrors at pixel centres."""
    centre = (np.array(images.shape[1:3]) - 1) / 2
    matrix = inverse[:2, :2][::-1, ::-1]
    offset = inverse[:2, 2][::-1] + centre - matrix @ centre
    return np.stack(
        [
            np.stack(
                [
                    scipy.ndimage.affine_transform(image[..., i], matrix, offset, order=3, mode='mirror')
                    for i in range(image.shape[-1])
                ],
                -1,
            )
            for image in images
        ]
    )


def repeat(inverse, n):
    return np.tile(np.float32(inverse)[None, :2], (n, 1, 1))


@pytest.mark.parametrize('shape', [(2, 9, 16, 3), (1, 16, 8, 1), (1, 3, 2, 5)])
def test_warp_by_the_identity_does_not_blur(shape):
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(warp_jit(noise, repeat(np.eye(3), shape[0])), noise, atol=2e-5)


def test_warp_by_whole_pixels_does_not_blur():
    noise = np.random.default_rng(0).normal(size=(1, 16, 20, 3)).astype(np.float32)
    shifted = warp_jit(noise, repeat([[1, 0, -3], [0, 1, 2]], 1))
    expected = np.pad(noise, [(0, 0), (0, 2), (3, 0), (0, 0)], mode='reflect')[:, 2:, :20]
    np.testing.assert_allclose(shifted[:, :-3, 4:], expected[:, :-3, 4:], atol=2e-5)  # where only the image is seen


ROTATE_30, ROTATE_117 = (np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0]]) for a in (0.52, 2.04))


@pytest.mark.parametrize(
    'inverse',
    [
        ROTATE_30,
        ROTATE_117,
        ROTATE_117 + [[0, 0, 5.3], [0, 0, -2.7]],
        np.array([[1.3, 0, 0], [0, 1.3, 0]]),
        np.array([[0.8, 0, 0], [0, 1.25, 0]]),
        np.array([[1, 0, 0.4], [0, 1, -9]]),
        np.array([[-1, 0, 0], [0, 1, 0]]),
        np.array([[0, -1, 0], [1, 0, 0]]),
        np.array([[1, 0, 100.5], [0, 1, -70.2]]),
    ],
)
@pytest.mark.parametrize('size', [(24, 24), (20, 32)])
def test_warp_agrees_with_scipy_on_smooth_images(inverse, size):
    images = smooth_images(2, *size)
    actual = warp_jit(images, repeat(inverse, 2))
    np.testing.assert_allclose(actual, scipy_affine(images, inverse), atol=0.006)  # the images reach 2.8


def test_warp_does_not_alias():
    """A wave of 0.4 cycles per pixel is lost at half the size; point sampling would turn it into one of 0.2."""
    wave = np.cos(2 * np.pi * 0.4 * np.arange(32)) * np.ones((1, 32, 1))
    shrunk = np.asarray(warp_jit(wave[..., None].astype(np.float32), repeat(2 * np.eye(3), 1)))
    assert shrunk[:, :, 10:22].std() < 0.1 * wave.std()


def test_move_pixels_is_numpy():
    square = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    wide = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    quarter = [[0, -1, 0], [1, 0, 0]]
    half, flip, shift = [[-1, 0, 0], [0, -1, 0]], [[-1, 0, 0], [0, 1, 0]], [[1, 0, -3], [0, 1, 2]]
    turned = np.asarray(move_jit(square, repeat(quarter, 2)))
    assert any(np.array_equal(turned, np.rot90(square, k, axes=(1, 2))) for k in (1, 3))
    np.testing.assert_array_equal(move_jit(turned, repeat(quarter, 2)), np.rot90(square, 2, axes=(1, 2)))
    np.testing.assert_array_equal(move_jit(wide, repeat(half, 2)), np.rot90(wide, 2, axes=(1, 2)))
    np.testing.assert_array_equal(move_jit(wide, repeat(flip, 2)), np.flip(wide, 2))
    padded = np.pad(wide, [(0, 0), (0, 2), (3, 0), (0, 0)], mode='reflect')
    np.testing.assert_array_equal(move_jit(wide, repeat(shift, 2)), padded[:, 2:, :12])
