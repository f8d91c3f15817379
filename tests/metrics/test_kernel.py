"""The kernel distance by hand, against scikit-learn's kernel, and its errors by simulation."""

import json

import numpy as np
import pytest
from peers import distribution

from productgen.metrics import kernel
from productgen.metrics.kernel import kernel_distance, kernel_distance_of_subsets


def test_a_small_case_by_hand():
    """D = 1. In a = 0, 1, 2 the pairs have kernels (0 1 + 1)^3 = 1, 1 and (1 2 + 1)^3 = 27, their mean is 29 / 3; in
    b = 0, 0, -1 all three are 1. Across, the rows of a have 1 1 1, 1 1 0, 1 1 -1: 6 / 9."""
    a, b = np.array([[0.0], [1], [2]]), np.array([[0.0], [0], [-1]])
    np.testing.assert_allclose(kernel_distance(a, b).value, 29 / 3 + 1 - 2 * 6 / 9, rtol=1e-14)
    # Features twice, at D = 2, have the same scalar product over D.
    np.testing.assert_allclose(kernel_distance(a[:, [0, 0]], b[:, [0, 0]]).value, 29 / 3 + 1 - 2 * 6 / 9, rtol=1e-14)


def test_it_is_unbiased_for_a_discrete_distance_known_by_hand():
    """x = 0 or 1 evenly, y = 0: E k(x, x') = (3 + 8) / 4, E k(y, y') = E k(x, y) = 1, so the distance is 7 / 4."""
    draw = np.random.default_rng(0)
    found = [kernel_distance(draw.integers(2, size=(6, 1)), np.zeros((4, 1))).value for _ in range(2000)]
    assert abs(np.mean(found) - 7 / 4) < 4 * np.std(found) / np.sqrt(2000)
    assert np.std(found) / np.sqrt(2000) < 0.05


def test_it_is_that_of_scikit_learn_s_kernel():
    a, b = distribution.real_and_generated()
    expected = json.loads(distribution.FILE.read_text())['kernel']
    np.testing.assert_allclose(kernel_distance(a, b).value, expected, rtol=1e-12)
    np.testing.assert_allclose(kernel_distance(a.astype(np.float32), b).value, expected, rtol=1e-5)


def test_blocks_change_nothing(monkeypatch):
    a, b = distribution.real_and_generated()
    whole = kernel_distance(a, b)
    monkeypatch.setattr(kernel, '_BLOCK', 1000)  # 6 or 8 rows
    parts = kernel_distance(a, b)
    np.testing.assert_allclose([parts.value, parts.standard_error], [whole.value, whole.standard_error], rtol=1e-12)


def test_the_standard_error_is_the_jackknife_s():
    a, b = (x[:12] for x in distribution.real_and_generated())
    value = lambda a, b: kernel_distance(a, b).value
    first = [value(np.delete(a, i, 0), b) for i in range(12)]
    second = [value(a, np.delete(b, i, 0)) for i in range(12)]
    expected = np.sqrt(11 * np.var(first) + 11 * np.var(second))
    np.testing.assert_allclose(kernel_distance(a, b).standard_error, expected, rtol=1e-10)


def simulated(shift, repeats=600):
    """Estimates and standard errors of pairs of normal sets, one of them shifted along every axis."""
    draw = np.random.default_rng(1)
    pairs = ((draw.standard_normal((60, 4)), draw.standard_normal((50, 4)) + shift) for _ in range(repeats))
    found = [kernel_distance(a, b) for a, b in pairs]
    return found, np.array([f.value for f in found]), np.array([f.standard_error for f in found])


def covered(found, truth):
    return np.mean([low <= truth <= high for low, high in (f.interval() for f in found)])


def test_between_equal_distributions_it_is_zero_on_average():
    found, values, errors = simulated(0.0)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert 0.3 < np.mean(values < 0) < 0.8
    # The stated error is too large by up to sqrt(2), never too small.
    assert 1 < np.sqrt(np.mean(errors**2)) / values.std() < 1.6
    assert covered(found, 0.0) > 0.94


def test_between_different_distributions_the_interval_holds_the_distance_as_often_as_it_says():
    shift, d = 0.5, 4
    found, values, errors = simulated(shift)
    # E (x y / d + 1)^3 = 1 + 3 E t + 3 E t^2 + E t^3 with t = x y / d, x ~ N(m, I), y ~ N(n, I), u = m n:
    # E xy = u, E (xy)^2 = d + |m|^2 + |n|^2 + u^2, E (xy)^3 = u^3 + 3 u (d + 2 + |m|^2 + |n|^2).
    m = n = shift**2 * d
    first = lambda u, total: 1 + 3 * u / d + 3 * (d + total + u**2) / d**2
    moment = lambda u, total: first(u, total) + (u**3 + 3 * u * (d + 2 + total)) / d**3
    truth = moment(0, 0) + moment(m, m + n) - 2 * moment(0, n)
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))
    np.testing.assert_allclose(np.sqrt(np.mean(errors**2)), values.std(), rtol=0.12)
    assert 0.92 < covered(found, truth) < 0.98


def test_subsets_of_all_rows_are_the_whole_and_seeds_count():
    a, b = (x[:120] for x in distribution.real_and_generated())
    whole = kernel_distance_of_subsets(a, b, subsets=3, size=120)
    np.testing.assert_allclose(whole.value, kernel_distance(a, b).value, rtol=1e-12)
    assert whole.deviation < 1e-12
    some = [kernel_distance_of_subsets(a, b, 50, 20, seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    np.testing.assert_allclose(some[0].standard_error, some[0].deviation / np.sqrt(50))


def test_the_mean_of_subsets_is_the_whole_within_its_error():
    """The subsets' estimates average to the estimate from all rows, whose own error is far larger."""
    a, b = distribution.real_and_generated()
    truth = kernel_distance(a, b)
    some = kernel_distance_of_subsets(a, b, 1000, 20)
    assert abs(some.value - truth.value) < 4 * some.standard_error < truth.standard_error


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda x: kernel_distance(x[:2], x), 'a: 2 rows are too few, at least 3'),
        (lambda x: kernel_distance(x, x[:, :2]), 'width: 3 and 2'),
        (lambda x: kernel_distance_of_subsets(x, x), 'a: 9 rows are too few, at least 1000'),
        (lambda x: kernel_distance_of_subsets(x, x, size=1), 'at least 2, got 1'),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((9, 3)))
