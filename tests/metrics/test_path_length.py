"""Perceptual path length against SciPy and simulations."""

import numpy as np
import pytest
from scipy import stats

from productgen.metrics.path_length import perceptual_path_length


def test_value_is_the_trimmed_mean_over_the_squared_step():
    draw = np.random.default_rng(0)
    lengths = draw.gamma(2.0, 50.0, size=2001)
    found = perceptual_path_length(lengths * 1e-6, step=1e-3)
    low, high = np.percentile(lengths, 1, method='lower'), np.percentile(lengths, 99, method='higher')
    assert found.value == pytest.approx(lengths[(lengths >= low) & (lengths <= high)].mean())
    assert found.standard_error == pytest.approx(stats.mstats.trimmed_stde(lengths, (0.01, 0.01)), rel=1e-3)


def test_standard_error_matches_repetitions():
    draw = np.random.default_rng(1)
    repeated = [perceptual_path_length(draw.gamma(2.0, 1.0, size=400), step=1.0) for _ in range(400)]
    errors = [found.standard_error for found in repeated]
    assert np.std([found.value for found in repeated]) == pytest.approx(np.mean(errors), rel=0.15)


def test_a_single_outlier_is_trimmed():
    lengths = np.ones(200)
    lengths[7] = 1e9
    assert perceptual_path_length(lengths, step=1.0).value == 1


@pytest.mark.parametrize('distances', [[], [[1.0]], [1.0, np.nan]])
def test_invalid_distances_raise(distances):
    with pytest.raises(ValueError, match='finite distances'):
        perceptual_path_length(distances)


def test_a_trim_of_half_raises():
    with pytest.raises(ValueError, match='trim'):
        perceptual_path_length([1.0], trim=0.5)
