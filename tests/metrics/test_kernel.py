"""Kernel distance against values by hand and scikit-learn's kernel; standard errors by simulation."""

import json

import numpy as np
import pytest
from peers import distribution

from productgen.metrics import kernel
from productgen.metrics.kernel import kernel_distance, kernel_distance_of_subsets


def test_small_sets_by_hand():
    """D = 1. Pairs within a = 0, 1, 2 have kernels (0 1 + 1)^3 = 1, 1 and (1 2 + 1)^3 = 27, with mean 29 / 3; within
    b = 0, 0, -1 all three are 1. Between a and b the rows of kernels are 1 1 1, 1 1 0, 1 1 -1, with mean 6 / 9."""
    a, b = np.array([[0.0], [1], [2]]), np.array([[0.0], [0], [-1]])
    np.testing.assert_allclose(kernel_distance(a, b).value, 29 / 3 + 1 - 2 * 6 / 9, rtol=1e-14)
    # Duplicated features, D = 2, have the same scalar product over D.
    np.testing.assert_allclose(kernel_distance(a[:, [0, 0]], b[:, [0, 0]]).value, 29 / 3 + 1 - 2 * 6 / 9, rtol=1e-14)


def test_estimate_is_unbiased():
    """x uniform in {0, 1}, y = 0: E k(x, x') = (3 + 8) / 4, E k(y, y') = E k(x, y) = 1, so the distance is 7 / 4."""
    draw = np.random.default_rng(0)
    found = [kernel_distance(draw.integers(2, size=(6, 1)), np.zeros((4, 1))).value for _ in range(2000)]
    assert abs(np.mean(found) - 7 / 4) < 4 * np.std(found) / np.sqrt(2000)
    assert np.std(found) / np.sqrt(2000) < 0.05


def test_estimate_matches_scikit_learn_s_kernel():
    a, b = distribution.real_and_generated()
    expected = json.loads(distribution.FILE.read_text())['kernel']
    np.testing.assert_allclose(kernel_distance(a, b).value, expected, rtol=1e-12)
    np.testing.assert_allclose(kernel_distance(a.astype(np.float32), b).value, expected, rtol=1e-5)


def test_estimate_does_not_depend_on_the_block_size(monkeypatch):
    a, b = distribution.real_and_generated()
    expected = kernel_distance(a, b)
    monkeypatch.setattr(kernel, '_BLOCK', 1000)  # 6 or 8 rows
    parts = kernel_distance(a, b)
    expected = [expected.value, expected.standard_error]
    np.testing.assert_allclose([parts.value, parts.standard_error], expected, rtol=1e-12)


def test_standard_error_matches_the_jackknife():
    a, b = (x[:12] for x in distribution.real_and_generated())
    value = lambda a, b: kernel_distance(a, b).value
    first = [value(np.delete(a, i, 0), b) for i in range(12)]
    second = [value(a, np.delete(b, i, 0)) for i in range(12)]
    expected = np.sqrt(11 * np.var(first) + 11 * np.var(second))
    np.testing.assert_allclose(kernel_distance(a, b).standard_error, expected, rtol=1e-10)


def simulated(shift, repeats=600):
    """Distances of pairs of normal sets, the second shifted along every axis; estimates and standard errors."""
    draw = np.random.default_rng(1)
    pairs = ((draw.standard_normal((60, 4)), draw.standard_normal((50, 4)) + shift) for _ in range(repeats))
    found = [kernel_distance(a, b) for a, b in pairs]
    return found, np.array([f.value for f in found]), np.array([f.standard_error for f in found])


def covered(found, truth):
    return np.mean([low <= truth <= high for low, high in (f.interval() for f in found)])


def test_estimates_for_equal_distributions_average_to_zero():
    found, values, errors = simulated(0.0)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values))
    assert 0.3 < np.mean(values < 0) < 0.8
    # The standard error is too large by up to sqrt(2), never too small.
    assert 1 < np.sqrt(np.mean(errors**2)) / values.std() < 1.6
    assert covered(found, 0.0) > 0.94


def test_intervals_for_different_distributions_have_the_nominal_coverage():
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


def test_subsets_of_all_rows_give_the_full_estimate_and_seeds_matter():
    a, b = (x[:120] for x in distribution.real_and_generated())
    full = kernel_distance_of_subsets(a, b, subsets=3, size=120)
    np.testing.assert_allclose(full.value, kernel_distance(a, b).value, rtol=1e-12)
    assert full.deviation < 1e-12
    found = [kernel_distance_of_subsets(a, b, 50, 20, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    np.testing.assert_allclose(found[0].standard_error, found[0].deviation / np.sqrt(50))


def test_defaults_are_those_of_common_implementations_of_kid():
    assert (kernel.SUBSETS, kernel.SIZE, kernel.DEGREE) == (100, 1000, 3)


def test_mean_over_subsets_matches_the_full_estimate_within_its_error():
    """Estimates from subsets average to the estimate from all rows, whose own error is far larger."""
    a, b = distribution.real_and_generated()
    full = kernel_distance(a, b)
    found = kernel_distance_of_subsets(a, b, 1000, 20)
    assert abs(found.value - full.value) < 4 * found.standard_error < full.standard_error


@pytest.mark.parametrize(
    'call, message',
    [
        (lambda x: kernel_distance(x[:2], x), 'a: 2 rows are too few, at least 3'),
        (lambda x: kernel_distance(x, x[:, :2]), 'width: 3 and 2'),
        (lambda x: kernel_distance_of_subsets(x, x), 'a: 9 rows are too few, at least 1000'),
        (lambda x: kernel_distance_of_subsets(x, x, size=1), 'at least 2, got 1'),
        (lambda x: kernel_distance_of_subsets(x, x, subsets=1, size=3), 'at least 2, got 3 and 1'),
    ],
)
def test_invalid_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((9, 3)))
