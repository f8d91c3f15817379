"""The benchmark of feature networks, on features and photos whose results are known."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.features import (
    DAMAGE,
    HALF_CLASSES,
    HALF_REPEATED,
    ONE_CLASS,
    accuracy,
    damage_table,
    fit,
    out_of_order,
    pixels,
)


def test_a_linear_classifier_reaches_the_best_possible_accuracy():
    """Two normal sets at distance 2: the accuracy is Phi(1) = 0.841 at most, whatever other features there are."""
    draw = np.random.default_rng(0)
    rows = lambda label: draw.normal(0, 1, (len(label), 30)) + label[:, None] * np.eye(30)[0] * 2
    train, test = draw.integers(0, 2, 2000), draw.integers(0, 2, 4000)
    scale = 10.0 ** draw.uniform(-3, 3, 30)  # standardisation makes units irrelevant
    found = accuracy(rows(train) * scale, train, rows(test) * scale, test)
    assert found['accuracy'] == pytest.approx(0.841, abs=0.025)
    assert found['standard_error'] == pytest.approx(0.0058, abs=2e-4)


def test_weights_are_where_the_gradient_vanishes():
    draw = np.random.default_rng(0)
    x, y, penalty = draw.normal(0, 1, (60, 4)), draw.integers(0, 3, 60), 0.1
    w = fit(x, y, penalty, np.zeros((5, 3)))
    logits = x @ w[:-1] + w[-1]
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[y]
    np.testing.assert_allclose(x.T @ error / 60, -penalty * w[:-1], atol=1e-4)
    np.testing.assert_allclose(error.mean(0), 0, atol=1e-4)


@pytest.mark.parametrize('name', DAMAGE)
def test_damage_changes_pictures_and_keeps_their_form(name):
    image = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3), np.uint8)
    found = DAMAGE[name](image)
    assert found.shape == image.shape and found.dtype == np.uint8
    assert np.array_equal(found, image) == (name == 'none')


def test_the_table_of_a_folder(tmp_path):
    draw = np.random.default_rng(0)
    for label in 'abcd':
        (tmp_path / label).mkdir()
        for i in range(12 if label < 'd' else 30):
            image = np.full((64, 64, 3), draw.integers(60, 200, 3), np.uint8)
            image[:, :32] = draw.integers(0, 256, 3)  # left and right halves differ
            Image.fromarray(image).save(tmp_path / label / f'{i}.png')
    table = damage_table(pixels(), tmp_path, 12)
    assert set(table) == {*DAMAGE, HALF_REPEATED, HALF_CLASSES, ONE_CLASS}
    assert table['colour cast']['kernel_distance'] > table['none']['kernel_distance']
    table['blur, sigma 2']['kernel_distance'] = table['blur, sigma 1']['kernel_distance'] - 1
    assert any('blur, sigma 1' in line and line.startswith('kernel') for line in out_of_order(table))
