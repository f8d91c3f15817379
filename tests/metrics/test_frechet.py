"""Frechet distance against SciPy's matrix square root, closed forms and its known bias."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from productgen.metrics.frechet import Moments, frechet_distance


def rows(seed, n, d, scale=1.0, shift=0.0):
    draw = np.random.default_rng(seed)
    return shift + scale * draw.standard_normal((n, d)) @ draw.standard_normal((d, d))


def distance(a, b):
    return frechet_distance(Moments.of(a), Moments.of(b))


def test_moments_match_numpy():
    x = rows(0, 40, 5, shift=3)
    moments = Moments.of(x)
    np.testing.assert_allclose(moments.mean, x.mean(0))
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-12)


def test_moments_do_not_depend_on_parts_and_order():
    x = rows(1, 101, 4)
    expected = Moments.of(x)
    for seed, sizes in ((0, (1, 51, 58)), (1, (100,)), (2, range(1, 101))):
        stream = Moments.empty(4)
        for part in np.split(np.random.default_rng(seed).permutation(x), sizes):
            if len(part):
                stream = stream.update(part)
        assert stream.count == 101
        np.testing.assert_allclose(stream.mean, expected.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(stream.scatter, expected.scatter, rtol=1e-12)
    assert Moments.empty(4).merge(Moments.empty(4)).count == 0
    halves = Moments.of(x[60:]).merge(Moments.of(x[:60]))
    np.testing.assert_allclose(halves.scatter, expected.scatter, rtol=1e-12)


def test_a_large_offset_does_not_cancel():
    """A sum of squares would be about 1e16 and lose the variance of 1."""
    x = np.random.default_rng(0).standard_normal((500, 2))
    stream = Moments.empty(2)
    for part in np.split(x + 1e8, 50):
        stream = stream.update(part)
    np.testing.assert_allclose(stream.covariance, np.cov(x, rowvar=False), rtol=1e-6)


def test_moments_round_trip_through_a_file(tmp_path):
    moments = Moments.of(rows(2, 10, 3))
    np.savez(tmp_path / 'moments.npz', **moments.to_dict())
    with np.load(tmp_path / 'moments.npz') as arrays:
        again = Moments.from_dict(arrays)
    assert again.count == 10
    np.testing.assert_array_equal(again.mean, moments.mean)
    np.testing.assert_array_equal(again.scatter, moments.scatter)


def test_distance_matches_scipy():
    a, b = rows(3, 200, 12), rows(4, 90, 12, 1.3, 0.2)
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(s @ t).real
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t - 2 * root)
    np.testing.assert_allclose(distance(a, b), expected, rtol=1e-9)
    np.testing.assert_allclose(distance(b, a), expected, rtol=1e-9)
    np.testing.assert_allclose(distance(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-4)  # float32


def test_distance_in_one_dimension():
    a, b = rows(5, 30, 1, shift=2), rows(6, 50, 1, 3)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    np.testing.assert_allclose(distance(a, b), expected, rtol=1e-12)


def test_distance_of_commuting_covariances():
    """|m1 - m2|^2 + |sqrt l1 - sqrt l2|^2, with singular covariances."""
    axes, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((6, 6)))
    first, second = np.array([4, 1, 0, 9, 0, 2.0]), np.array([1, 1, 3, 0, 0, 5.0])
    moments = [Moments(11, m * np.ones(6), 10 * axes @ np.diag(v) @ axes.T) for m, v in ((0, first), (0.5, second))]
    expected = 6 * 0.25 + np.sum((np.sqrt(first) - np.sqrt(second)) ** 2)
    np.testing.assert_allclose(frechet_distance(*moments), expected, rtol=1e-12)


@pytest.mark.parametrize('n', [500, 20])
def test_distance_of_a_set_to_itself_is_zero_in_any_order(n):
    """20 rows of 64 features have a singular covariance; rounding under the root would give 1e-8 times 44."""
    for seed in range(8):
        x = rows(seed, n, 64)
        scale = np.trace(np.cov(x, rowvar=False))
        assert 0 <= distance(x, x) <= 1e-13 * scale
        assert 0 <= distance(x, np.random.default_rng(0).permutation(x)) <= 1e-13 * scale


def test_distance_of_singular_sets_in_orthogonal_subspaces():
    draw = np.random.default_rng(9)
    a, b = np.zeros((30, 40)), np.zeros((20, 40))
    a[:, :10], b[:, 20:] = draw.standard_normal((30, 10)), draw.standard_normal((20, 20))
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    np.testing.assert_allclose(distance(a, b), expected, rtol=1e-12)


def test_bias_matches_the_module_docstring():
    """Mean of 60 distances between sets of 400 and 200 rows; its standard error is about a hundredth of it."""
    draw, scales = np.random.default_rng(10), np.linspace(0.5, 2, 8)
    found = [distance(*(scales * draw.standard_normal((n, 8)) for n in (400, 200))) for _ in range(60)]
    values = scales**2
    pairs = np.outer(values, values) * (1 + np.eye(8)) / (values[:, None] + values)
    expected = (1 / 400 + 1 / 200) * (values.sum() + pairs.sum() / 2)
    np.testing.assert_allclose(np.mean(found), expected, rtol=0.05)


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match='at least 2 rows, got 1'):
        distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(ValueError, match='width: 3 and 4'):
        distance(np.zeros((5, 3)), np.zeros((5, 4)))
    with pytest.raises(ValueError, match='width: 3 and 4'):
        Moments.empty(3).update(np.zeros((5, 4)))
    with pytest.raises(ValueError, match='finite'):
        Moments.of(np.full((5, 3), np.nan))
    with pytest.raises(ValueError, match='must be'):
        Moments.of(np.zeros(5))
    with pytest.raises(ValueError, match='too few'):
        Moments.of(np.zeros((0, 5)))
