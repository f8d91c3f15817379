"""The score in closed form."""

import numpy as np
import pytest

from productgen.metrics.inception_score import inception_score


def test_sure_and_even_is_the_number_of_classes():
    score = inception_score(np.eye(5)[np.arange(100) % 5], splits=10)
    np.testing.assert_allclose([score.mean, score.std], [5, 0], atol=1e-12)


def test_unsure_or_one_class_is_one():
    for p in (np.full((40, 4), 0.25), np.eye(4)[np.zeros(40, int)]):
        score = inception_score(p)
        np.testing.assert_allclose([score.mean, score.std], [1, 0], atol=1e-12)


def test_two_kinds_of_rows_are_their_divergence():
    """Rows (q, 1 - q) and (1 - q, q) evenly: the marginal is even, so log score = log 2 - H(q)."""
    q = 0.9
    p = np.tile([[q, 1 - q], [1 - q, q]], (30, 1))
    entropy = -q * np.log(q) - (1 - q) * np.log(1 - q)
    np.testing.assert_allclose(inception_score(p, 3).mean, np.exp(np.log(2) - entropy), rtol=1e-12)


def test_splits_are_runs_with_marginals_of_their_own():
    """6 rows in classes 0 0 0 0 1 2, in two runs: scores 1 and, from thirds, 3; then in one, exp of the entropy."""
    p = np.eye(3)[[0, 0, 0, 0, 1, 2]]
    score = inception_score(p, 2)
    np.testing.assert_allclose([score.mean, score.std], [2, 1])
    shares = np.array([4, 1, 1]) / 6
    np.testing.assert_allclose(inception_score(p, 1).mean, np.exp(-np.sum(shares * np.log(shares))))


@pytest.mark.parametrize(
    'p, splits, message',
    [
        (np.full((5, 2), 0.5), 10, '5 rows are too few, at least 10'),
        (np.full((20, 2), 3.0), 10, 'sum to 1'),
        (np.tile([1.5, -0.5], (20, 1)), 10, 'at least 0'),
        (np.full((20, 2), 0.5), 0, 'splits'),
    ],
)
def test_what_is_wrong_is_named(p, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(p, splits)
