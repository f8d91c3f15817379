"""Nearest neighbours against SciPy's k-d tree."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import spatial

from productgen.metrics import neighbours
from productgen.metrics.neighbours import nearest, squared_distances


@pytest.fixture
def sets():
    draw = np.random.default_rng(0)
    return draw.standard_normal((70, 5)), draw.standard_normal((90, 5))


@pytest.mark.parametrize('block', [1, 1000, 2**23])
def test_neighbours_match_scipy(sets, monkeypatch, block):
    monkeypatch.setattr(neighbours, '_BLOCK', block)
    a, b = sets
    distance, index = spatial.cKDTree(b).query(a, 20)
    found = nearest(a, b, 20)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-14)
    distance, index = spatial.cKDTree(a).query(a, 4)
    found = nearest(a, k=3)
    np.testing.assert_array_equal(found.index, index[:, 1:])
    np.testing.assert_allclose(found.distance, distance[:, 1:], rtol=1e-14)


def test_copies_have_distance_zero_and_near_rows_do_not():
    """float32 features far from the origin, where |x|^2 + |y|^2 - 2 x y in float32 has an error above 1."""
    draw = np.random.default_rng(1)
    b = (1000 + draw.standard_normal((50, 64))).astype(np.float32)
    a = b[[7, 3, 7]]
    a[1] += 1e-3 * draw.standard_normal(64).astype(np.float32)
    found = nearest(jnp.asarray(a), jnp.asarray(b))
    assert found.index[:, 0].tolist() == [7, 3, 7]
    assert found.distance[[0, 2], 0].tolist() == [0, 0]
    np.testing.assert_allclose(found.distance[1, 0], np.linalg.norm(a[1].astype(np.float64) - b[3]), rtol=1e-12)


def test_neighbours_are_sorted():
    x = np.random.default_rng(3).standard_normal((2000, 2))
    np.testing.assert_allclose(nearest(x[:5], x, 300).distance, np.sort(spatial.distance.cdist(x[:5], x), 1)[:, :300])


def test_squared_distances_far_from_the_origin():
    """At 1e7 the squared norms are about 1e15, and their rounding errors as large as the distances."""
    draw = np.random.default_rng(2)
    a, b = np.round(draw.standard_normal((2, 30, 8)), 6) + 1e7
    a[4] = b[9]
    (rows, found), *rest = squared_distances(a, b)
    assert rows == slice(0, 30) and not rest and found[4, 9] == 0
    np.testing.assert_allclose(found, spatial.distance.cdist(a, b, 'sqeuclidean'), rtol=1e-9)


def test_rows_are_not_their_own_neighbours_but_copies_are():
    found = nearest(np.array([[0.0], [5], [0], [9]]))
    assert found.index[:, 0].tolist() == [2, 3, 0, 1]
    assert found.distance[:, 0].tolist() == [0, 4, 0, 4]


def test_progress_reaches_the_end(sets, monkeypatch):
    monkeypatch.setattr(neighbours, '_BLOCK', 1000)
    seen = []
    nearest(*sets, progress=lambda *now: seen.append(now))
    assert seen == [(rows, 70) for rows in (11, 22, 33, 44, 55, 66, 70)]


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda a, b: nearest(a, b, 0), 'k must be at least 1'),
        (lambda a, b: nearest(a, b, 91), 'b: 90 rows are too few, at least 91'),
        (lambda a, b: nearest(a, k=70), 'features: 70 rows are too few, at least 71'),
        (lambda a, b: nearest(a, b[:, :2]), 'width: 5 and 2'),
        (lambda a, b: nearest(a * np.nan, b), 'a: features must be finite'),
    ],
)
def test_invalid_arguments_raise(sets, call, message):
    with pytest.raises(ValueError, match=message):
        call(*sets)
