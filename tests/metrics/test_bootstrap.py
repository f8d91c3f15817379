"""Coverage of bootstrap intervals, by simulation."""

import numpy as np
import pytest

from productgen.metrics.bootstrap import Bootstrap, bootstrap
from productgen.metrics.frechet import Moments, frechet_distance
from productgen.metrics.kernel import kernel_distance


def test_standard_error_of_a_mean_matches_the_closed_form():
    x = np.random.default_rng(0).standard_normal(200)
    found = bootstrap(np.mean, x, resamples=4000)
    assert found.value == x.mean()
    np.testing.assert_allclose(found.standard_error, x.std() / np.sqrt(200), rtol=0.05)
    assert abs(found.bias) < 4 * found.standard_error / np.sqrt(4000)


def test_intervals_match_their_formulas():
    found = Bootstrap(10.0, np.random.default_rng(0).permutation(np.arange(101.0)))
    assert found.bias == 40
    np.testing.assert_allclose(found.percentile(0.9), (5, 95))
    np.testing.assert_allclose(found.basic(0.9), (-75, 15))
    deviation = np.sqrt(101 * 102 / 12)  # of 0, 1, ..., 100, divided by 100
    np.testing.assert_allclose(found.normal(), (10 - 1.959964 * deviation, 10 + 1.959964 * deviation), rtol=1e-6)


def test_sets_are_resampled_independently_and_reproducibly():
    a, b = np.arange(5.0), np.arange(100, 109.0)
    sizes = set()

    def statistic(x, y):
        sizes.add((len(x), len(y)))
        assert set(x) <= set(a) and set(y) <= set(b)
        return y.mean() - x.mean()

    runs = [bootstrap(statistic, a, b, resamples=50, seed=seed).resampled for seed in (0, 0, 1)]
    assert sizes == {(5, 9)}
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def coverage(truth, intervals):
    return np.mean([low <= truth <= high for low, high in intervals])


def test_the_interval_of_a_mean_covers_it():
    """300 sets of 50 rows; the percentile interval is known to be slightly short."""
    draw = np.random.default_rng(1)
    found = [bootstrap(np.mean, draw.standard_normal(50), resamples=400, seed=i) for i in range(300)]
    for kind in ('percentile', 'basic', 'normal'):
        assert 0.89 < coverage(0.0, [getattr(f, kind)() for f in found]) < 0.98
    assert 0.73 < coverage(0.0, [f.percentile(0.8) for f in found]) < 0.86


def kernel_bootstraps(draw_a, draw_b, repeats=60):
    statistic = lambda a, b: kernel_distance(a, b).value
    return [bootstrap(statistic, draw_a(), draw_b(), resamples=100, seed=i) for i in range(repeats)]


def test_the_normal_interval_of_the_kernel_distance_covers_it():
    """x uniform in {0, 1}, y = 0: the distance is 7 / 4, see the test of the distance."""
    draw = np.random.default_rng(2)
    found = kernel_bootstraps(lambda: draw.integers(2, size=(40, 1)), lambda: np.zeros((30, 1)))
    assert 0.88 < coverage(7 / 4, [f.normal() for f in found]) < 0.99


def test_repeated_rows_bias_percentiles_of_the_kernel_distance():
    """For equal distributions, where the estimate is pure error."""
    draw = np.random.default_rng(3)
    found = kernel_bootstraps(lambda: draw.standard_normal((40, 4)), lambda: draw.standard_normal((40, 4)))
    assert abs(np.mean([f.value for f in found])) < 0.06 < 0.4 < np.mean([f.bias for f in found])
    assert coverage(0.0, [f.normal() for f in found]) > 0.94
    for kind in ('percentile', 'basic'):
        assert coverage(0.0, [getattr(f, kind)() for f in found]) < 0.7


def test_the_basic_interval_of_the_frechet_distance_covers_it_and_percentiles_do_not():
    """D = 10, 100 rows, shifted by 1 / 2 along each axis: the distance is 2.5, the bias 0.75."""
    draw = np.random.default_rng(4)
    statistic = lambda a, b: frechet_distance(Moments.of(a), Moments.of(b))
    sets = [(draw.standard_normal((100, 10)), draw.standard_normal((100, 10)) + 0.5) for _ in range(60)]
    found = [bootstrap(statistic, a, b, resamples=100, seed=i) for i, (a, b) in enumerate(sets)]
    assert coverage(2.5, [f.basic() for f in found]) > 0.88
    assert coverage(2.5, [f.percentile() for f in found]) < 0.2
    np.testing.assert_allclose(np.mean([f.bias for f in found]), 0.75, atol=0.1)


@pytest.mark.parametrize(
    'sets, resamples, message',
    [((), 10, 'at least 2 rows'), ((np.zeros((1, 3)),), 10, 'at least 2 rows'), ((np.zeros(5),), 1, 'got 1')],
)
def test_invalid_arguments_raise(sets, resamples, message):
    with pytest.raises(ValueError, match=message):
        bootstrap(np.mean, *sets, resamples=resamples)
