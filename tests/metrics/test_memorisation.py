"""Memorisation test against SciPy, the authors' code, and by simulation."""

import json

import numpy as np
import pytest
from peers import distribution
from scipy import stats

from productgen.metrics.memorisation import memorisation, near_duplicates, rank_test


@pytest.mark.parametrize('values', [1000, 8], ids=['few ties', 'many ties'])
def test_rank_test_matches_scipy(values):
    draw = np.random.default_rng(0)
    first, second = draw.integers(values, size=40), draw.integers(values, size=55) + values // 8
    found = rank_test(first, second)
    expected = stats.mannwhitneyu(first, second, alternative='less', method='asymptotic')
    assert found.u == expected.statistic
    np.testing.assert_allclose(found.p, expected.pvalue, rtol=1e-10)


def test_rank_test_of_equal_and_of_no_values():
    assert rank_test([1, 1], [1, 1, 1]).z == 0
    with pytest.raises(ValueError, match='both sides, got 0 and 1'):
        rank_test([], [1])


@pytest.mark.parametrize('cells, name', [(1, 'z'), (distribution.CELLS, 'c_t')])
def test_statistic_matches_the_authors_code(cells, name):
    """Their code searches neighbours within the cell only, which is equivalent here, since the cells are far apart."""
    samples, training, held_out = distribution.samples_training_held_out()
    found = memorisation(samples, training, held_out, cells=cells)
    expected = json.loads(distribution.FILE.read_text())[name]
    assert found.cells == cells
    np.testing.assert_allclose(found.c_t, expected, rtol=1e-12)


def normal(draw, *counts):
    return [draw.standard_normal((n, 3)) for n in counts]


@pytest.mark.parametrize('cells', [1, 2])
def test_false_positive_rate_is_nominal(cells):
    draw = np.random.default_rng(cells)
    found = [memorisation(*normal(draw, 90, 100, 80), quantile=0.1, cells=cells) for _ in range(500)]
    rejected = np.mean([f.p < 0.05 for f in found])
    assert abs(rejected - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 500)
    assert abs(np.mean([f.share for f in found]) - 0.1) < 0.02
    assert {f.cells for f in found} <= {1, cells}


def test_copies_are_detected_and_listed():
    draw = np.random.default_rng(3)
    training, held_out, samples = normal(draw, 300, 200, 200)
    copied = np.arange(50)
    samples[copied] = training[copied + 7] + 0.01 * draw.standard_normal((50, 3))
    found = memorisation(samples, training, held_out)
    assert found.p < 1e-3 and found.share > 0.2 and found.test.z == found.c_t
    pairs = found.closest(50)
    assert sorted(pairs.first) == copied.tolist()
    np.testing.assert_array_equal(pairs.second, pairs.first + 7)
    expected = np.linalg.norm(samples[pairs.first] - training[pairs.second], axis=1)
    np.testing.assert_allclose(pairs.distance, expected)
    assert (np.diff(pairs.distance) >= 0).all()


def test_a_set_of_exact_copies_has_share_one():
    draw = np.random.default_rng(4)
    training, held_out = (x.astype(np.float32) for x in normal(draw, 100, 100))
    held_out[:10] = training[60:70]
    found = memorisation(training[:60], training, held_out)
    assert found.share == 1 and found.test.u == 60 * 10 / 2 and not found.distance.any()
    assert found.index.tolist() == list(range(60))


def test_samples_off_the_data_are_not_copies():
    draw = np.random.default_rng(5)
    samples, training, held_out = normal(draw, 100, 200, 100)
    found = memorisation(3 * samples, training, held_out)
    assert found.c_t > 3 and found.p > 0.99 and found.share < 0.05


def test_cells_detect_copies_hidden_by_the_balance_of_the_modes():
    """A dense and a wide mode: samples copy in both, but are mostly in the wide one, where distances are larger."""
    draw = np.random.default_rng(6)
    scale = lambda wide: np.where(np.arange(200) < wide, 10.0, 1)[:, None]
    training, held_out = (100 * (scale(100) > 1) + scale(100) * x for x in normal(draw, 200, 200))
    noise = 0.3 * normal(draw, 200)[0]
    samples = np.concatenate([training[:100], training[:60], training[100:140]]) + scale(160) * noise
    single, cells = (memorisation(samples, training, held_out, cells=n) for n in (1, 2))
    assert single.p > 0.05 and cells.cells == 2 and cells.p < 1e-4
    assert single.test == cells.test


def test_small_cells_are_skipped():
    draw = np.random.default_rng(7)
    far = lambda x, n: x + 100.0 * (np.arange(len(x)) < n)[:, None]
    samples, training, held_out = normal(draw, 100, 100, 100)
    found = memorisation(far(samples, 19), far(training, 50), far(held_out, 50), cells=2)
    near = found.distance[19:], found.held_out[50:]
    assert found.cells == 1
    np.testing.assert_allclose(found.c_t, rank_test(*near).z)


def test_near_duplicates():
    x = np.array([[0.0], [10], [0.1], [20], [20], [30.5], [30]])
    found = near_duplicates(x, 0.2)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(3, 4), (0, 2)]
    np.testing.assert_allclose(found.distance, [0, 0.1])
    assert len(near_duplicates(x, 0.6).first) == 3
    assert not len(near_duplicates(x[:2], 1).first)
    assert len(near_duplicates(np.zeros((50, 2)), 1).first) <= 50


def test_near_duplicates_among_many_rows():
    draw = np.random.default_rng(8)
    x = draw.standard_normal((500, 32)).astype(np.float32)
    x[[400, 80]] = x[[3, 499]] + 0.01
    found = near_duplicates(x, 0.1)
    assert sorted(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(3, 400), (80, 499)]


def test_progress_reaches_the_end():
    seen = []
    memorisation(*normal(np.random.default_rng(9), 30, 40, 20), progress=lambda *now: seen.append(now))
    assert seen == [(30, 50), (50, 50)]


@pytest.mark.parametrize(
    'counts, options, message',
    [
        ((19, 50, 50), {}, 'samples: 19 rows are too few, at least 20'),
        ((50, 50, 19), {}, 'held_out: 19 rows are too few, at least 20'),
        ((50, 3, 50), {'cells': 4}, 'training: 3 rows are too few, at least 4'),
        ((30, 50, 30), {'cells': 20}, 'use fewer cells'),
        ((50, 50, 50), {'cells': 0}, 'cells must be'),
        ((50, 50, 50), {'quantile': 1}, 'quantile must be'),
    ],
)
def test_invalid_arguments_raise(counts, options, message):
    with pytest.raises(ValueError, match=message):
        memorisation(*normal(np.random.default_rng(0), *counts), **options)
