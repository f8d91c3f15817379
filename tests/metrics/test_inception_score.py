"""Inception Score against closed forms."""

import numpy as np
import pytest

from productgen.metrics.inception_score import inception_score


def test_confident_uniform_predictions_score_the_number_of_classes():
    score = inception_score(np.eye(5)[np.arange(100) % 5], splits=10)
    np.testing.assert_allclose([score.mean, score.std], [5, 0], atol=1e-12)


def test_uncertain_or_single_class_predictions_score_one():
    for p in (np.full((40, 4), 0.25), np.eye(4)[np.zeros(40, int)]):
        score = inception_score(p)
        np.testing.assert_allclose([score.mean, score.std], [1, 0], atol=1e-12)


def test_two_kinds_of_rows_score_their_divergence():
    """Rows (q, 1 - q) and (1 - q, q) equally often: the marginal is uniform, so log score = log 2 - H(q)."""
    q = 0.9
    p = np.tile([[q, 1 - q], [1 - q, q]], (30, 1))
    entropy = -q * np.log(q) - (1 - q) * np.log(1 - q)
    np.testing.assert_allclose(inception_score(p, 3).mean, np.exp(np.log(2) - entropy), rtol=1e-12)


def test_splits_are_consecutive_rows_with_their_own_marginals():
    """6 rows of classes 0 0 0 0 1 2: two splits score 1 and 3; a single one scores exp of the entropy."""
    p = np.eye(3)[[0, 0, 0, 0, 1, 2]]
    score = inception_score(p, 2)
    np.testing.assert_allclose([score.mean, score.std], [2, 1])
    marginal = np.array([4, 1, 1]) / 6
    np.testing.assert_allclose(inception_score(p, 1).mean, np.exp(-np.sum(marginal * np.log(marginal))))


@pytest.mark.parametrize(
    'p, splits, message',
    [
        (np.full((5, 2), 0.5), 10, '5 rows are too few, at least 10'),
        (np.full((20, 2), 3.0), 10, 'sum to 1'),
        (np.tile([1.5, -0.5], (20, 1)), 10, 'at least 0'),
        (np.full((20, 2), 0.5), 0, 'splits'),
    ],
)
def test_invalid_arguments_raise(p, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(p, splits)
