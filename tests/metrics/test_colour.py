"""Colour conversion and difference against the pairs of Sharma et al., scikit-image and known values."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.pairwise import pictures

from productgen.metrics.colour import ciede2000, lab

HERE = pathlib.Path(__file__).parent
PAIRS = np.loadtxt(HERE / 'ciede2000.txt')


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('swap', [False, True])
def test_the_published_pairs(dtype, swap):
    """The pairs are given to 1e-4. They include opposite, wrapped and undefined hues."""
    assert PAIRS.shape == (34, 7)
    first, second = PAIRS[:, :3].astype(dtype), PAIRS[:, 3:6].astype(dtype)
    if swap:
        first, second = second, first
    found = ciede2000(first, second)
    assert isinstance(found, np.ndarray) and found.dtype == dtype
    np.testing.assert_allclose(found, PAIRS[:, 6], atol=1e-4, rtol=0)


def test_the_published_pairs_on_a_device():
    found = jax.jit(ciede2000)(jnp.float32(PAIRS[:, :3]), jnp.float32(PAIRS[:, 3:6]))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, PAIRS[:, 6], atol=1e-4, rtol=0)


def test_greys_differ_in_lightness_only():
    """Equation 16 of the paper: dL / (1 + 0.015 (L - 50)^2 / sqrt(20 + (L - 50)^2)) of the mean L."""
    for first, second in ((0.0, 100.0), (90.0, 100.0), (20.0, 23.0)):
        level = ((first + second) / 2 - 50) ** 2
        expected = (second - first) / (1 + 0.015 * level / np.sqrt(20 + level))
        np.testing.assert_allclose(ciede2000(np.array([first, 0, 0]), np.array([second, 0, 0])), expected, rtol=1e-12)


def test_a_single_colour_broadcasts():
    many = PAIRS[:, 3:6].reshape(2, 17, 3)
    found = ciede2000(PAIRS[0, :3], many)
    assert found.shape == (2, 17)
    np.testing.assert_array_equal(found[1, 4], ciede2000(PAIRS[0, :3], many[1, 4]))


def test_lab_matches_scikit_image():
    """scikit-image has the matrix with six digits, the standard with four."""
    rgb = pictures()[0][0, ::24, ::22] / 255
    expected = json.loads((HERE.parent / 'peers' / 'pairwise.json').read_text())['lab']
    np.testing.assert_allclose(lab(rgb), expected, atol=0.02)
    np.testing.assert_allclose(jax.jit(lab)(np.float32(rgb)), expected, atol=0.02)


@pytest.mark.parametrize(
    'rgb, expected',  # Lindbloom's calculator, D65, to two digits
    [
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
    ],
)
def test_known_colours(rgb, expected):
    np.testing.assert_allclose(lab(np.array(rgb, float)), expected, atol=0.03)


def test_greys_have_zero_chroma_and_the_known_lightness():
    grey = np.linspace(0, 1, 101)[:, None] * np.ones(3)
    found = lab(grey)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-12)
    linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in grey[:, 0]])
    expected = np.where(linear > 216 / 24389, 116 * np.cbrt(linear) - 16, 24389 / 27 * linear)  # CIE 15
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-10)


def test_values_outside_the_gamut_are_clipped():
    np.testing.assert_array_equal(lab(np.array([-0.5, 0.5, 1.5])), lab(np.array([0, 0.5, 1.0])))
