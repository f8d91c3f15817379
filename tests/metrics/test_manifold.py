"""Precision, recall, density and coverage against brute force and `prdc`, and their response to known errors."""

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from peers import distribution
from scipy.spatial.distance import cdist

from productgen.metrics import neighbours
from productgen.metrics.manifold import manifold


def brute_force(real, generated, k):
    """Precision, recall, density, coverage, all with the same k, from full distance matrices."""
    radius = lambda x: np.sort(cdist(x, x), 1)[:, k]
    across = cdist(generated, real)
    inside = across <= radius(real)
    return (
        inside.any(1).mean(),
        (across <= radius(generated)[:, None]).any(0).mean(),
        inside.sum() / (k * len(generated)),
        inside.any(0).mean(),
    )


@pytest.mark.parametrize('block', [1, 2000, 2**23])
@pytest.mark.parametrize('offset, dtype', [(0.0, np.float64), (1000.0, np.float32)])
@pytest.mark.parametrize('k_precision, k_density', [(4, 6), (6, 4)])
def test_metrics_match_brute_force(monkeypatch, block, offset, dtype, k_precision, k_density):
    monkeypatch.setattr(neighbours, '_BLOCK', block)
    real, generated = ((x + offset).astype(dtype) for x in distribution.real_and_generated())
    found = manifold(real, generated, k_precision, k_density)
    precision, recall, _, _ = brute_force(real, generated, k_precision)
    _, _, density, coverage = brute_force(real, generated, k_density)
    np.testing.assert_allclose(dataclasses.astuple(found), (precision, recall, density, coverage), rtol=1e-12)
    assert 0.3 < found.recall < found.precision < 1  # not a trivial case


@pytest.mark.parametrize('k', [3, 5])
def test_metrics_match_prdc(k):
    expected = json.loads(distribution.FILE.read_text())['prdc'][str(k)]
    found = dataclasses.asdict(manifold(*distribution.real_and_generated(), k, k))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, err_msg=name)


def test_metrics_of_a_set_and_itself():
    """Every ball contains its own row and, on its surface, the k-th neighbour."""
    x = np.random.default_rng(0).standard_normal((200, 10))
    found = manifold(x, x[::-1])
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    np.testing.assert_allclose(found.density, 6 / 5)


def test_density_and_coverage_of_equal_distributions():
    """1 and, for equal sizes, 1 - 2^-5 (Naeem et al., section 3.3)."""
    draw = np.random.default_rng(1)
    found = [manifold(draw.standard_normal((200, 3)), draw.standard_normal((200, 3))) for _ in range(40)]
    np.testing.assert_allclose(np.mean([f.density for f in found]), 1, atol=0.03)
    np.testing.assert_allclose(np.mean([f.coverage for f in found]), 1 - 2**-5, atol=0.006)


def flat(draw, n):
    """Two separate modes in a plane in 8 dimensions: first half, second half."""
    x = np.zeros((n, 8))
    x[:, :2] = draw.standard_normal((n, 2))
    x[n // 2 :, 0] += 10
    return x


def test_noise_lowers_precision_but_not_recall():
    draw = np.random.default_rng(2)
    real, generated = flat(draw, 400), flat(draw, 400)
    noisy = generated.copy()
    noisy[::2] += draw.standard_normal((200, 8))
    clean, found = manifold(real, generated), manifold(real, noisy)
    assert clean.precision > 0.95 and clean.recall > 0.95
    assert found.precision < 0.6 and found.density < 0.6 * clean.density
    assert found.recall > 0.95


def test_dropped_modes_lower_recall_but_not_precision():
    draw = np.random.default_rng(3)
    real, generated = flat(draw, 400), flat(draw, 800)[:400]
    found = manifold(real, generated)
    assert found.precision > 0.95 and found.density > 0.9
    assert found.recall < 0.55 and found.coverage < 0.55


def test_a_repeated_row_has_precision_one_and_no_recall():
    real = np.random.default_rng(4).standard_normal((100, 4)).astype(np.float32)
    found = manifold(real, real[[11] * 60])
    assert found.precision == 1
    assert found.recall == 1 / 100
    assert found.coverage < 0.1


def test_balls_of_repeated_rows_contain_their_copies():
    x = (50 + np.random.default_rng(6).standard_normal((40, 64))).astype(np.float32)
    found = manifold(np.repeat(x, 7, 0), x[:20], k_precision=3)
    assert (found.precision, found.coverage) == (1, 0.5)
    np.testing.assert_allclose(found.density, 7 / 5)


def test_memory_is_bounded_by_the_block_size(monkeypatch):
    """All 3000 x 3000 distances would be 72 MB."""
    monkeypatch.setattr(neighbours, '_BLOCK', 2**16)
    draw = np.random.default_rng(5)
    a, b = draw.standard_normal((3000, 4)), draw.standard_normal((3000, 4))
    tracemalloc.start()
    manifold(a, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6


def test_progress_reaches_the_end():
    real, generated = distribution.real_and_generated()
    seen = []
    manifold(real, generated, progress=lambda *now: seen.append(now))
    assert seen == [(150, 390), (270, 390), (390, 390)]


@pytest.mark.parametrize(
    'real, generated, k, message',
    [
        (np.zeros((5, 2)), np.zeros((9, 2)), 3, 'real: 5 rows are too few, at least 6'),
        (np.zeros((9, 2)), np.zeros((5, 2)), 3, 'generated: 5 rows are too few, at least 6'),
        (np.zeros((9, 2)), np.zeros((9, 2)), 0, 'k must be at least 1'),
        (np.zeros((9, 2)), np.zeros((9, 3)), 3, 'width: 2 and 3'),
    ],
)
def test_invalid_arguments_raise(real, generated, k, message):
    with pytest.raises(ValueError, match=message):
        manifold(real, generated, k)
