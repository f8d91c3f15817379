"""Figures of sets of pictures, by label and pair by pair."""

import numpy as np
import pytest

from productgen.data.labels import LabelTable
from productgen.evaluation.figures import Comparison, accuracies, by_class, confusion, pairwise
from productgen.evaluation.sets import Measured, PictureSet


def test_classes_with_enough_pictures_are_measured_one_by_one():
    draw = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [30, 30, 5])[:, None].astype(np.int32)
    shift = np.array([0, 3, 0])[label]
    set_of = lambda rows: Measured(rows, label, {}, np.zeros((65, 3)), np.zeros((0, 4, 4, 3), np.uint8))
    table = LabelTable({'kind': ('a', 'b', 'c')}, np.zeros((1, 1), np.int32), np.asarray([1]))
    found = by_class(set_of(draw.normal(size=(65, 4))), set_of(draw.normal(size=(65, 4)) + shift), table)
    assert found.keys() == {'a', 'b'} and found['a']['pictures'] == 30
    assert abs(found['a']['kernel_distance']) < 4 * found['a']['kernel_distance_error']
    assert found['b']['kernel_distance'] > 4 * found['b']['kernel_distance_error']
    # Thirty rows of four features: enough for a Frechet distance with an interval.
    (low, high), (far, farther) = (found[name]['frechet_distance_interval'] for name in 'ab')
    assert low < high < far < farther and low < 0.2 and far < 36 < farther  # 0, and 4 x 3^2


def test_predictions_are_compared_by_name():
    table = LabelTable({'kind': ('a', 'b', 'c')}, np.zeros((1, 1), np.int32), np.asarray([1]))
    label = np.asarray([[0], [1], [2], [-1], [0]], np.int32)
    # The features know other values in another order: c, d, a.
    predicted = {'kind': np.eye(3)[[2, 0, 0, 1, 1]]}
    measured = Measured(np.zeros((5, 2)), label, predicted, np.zeros((5, 3)), np.zeros((0, 4, 4, 3), np.uint8))
    known = {'kind': ('c', 'd', 'a')}
    assert accuracies(measured, table, known) == {'accuracy/kind': 0.5}  # a as a, c as c; b as c, a as d
    assert confusion(measured, table, known)['counts'] == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]]
    assert not accuracies(measured, table, {}) and confusion(measured, table, {}) is None


def test_the_score_is_of_the_first_attribute():
    draw, images = np.random.default_rng(0), np.zeros((40, 16, 16, 3), np.uint8)
    predicted = {'sure': np.eye(2)[np.arange(40) % 2], 'blind': np.full((40, 5), 0.2)}
    measured = Measured(draw.normal(size=(40, 3)), np.zeros((40, 0), np.int32), predicted, np.zeros((40, 3)), images)
    found = Comparison(measured)(measured)
    assert found['inception_score'] == pytest.approx(2) and found['inception_score_deviation'] == pytest.approx(0)
    assert found['frechet_distance'] < 1e-9 and found['sliced_wasserstein'] == 0


def test_equal_pairs_do_not_make_psnr_infinite():
    draw = np.random.default_rng(0)
    a = draw.integers(0, 256, (5, 24, 24, 3), np.uint8)
    b = np.where(np.arange(5)[:, None, None, None] < 2, a, 255 - a)
    sets = [PictureSet('x', lambda i, x=x: x[i], np.zeros((5, 0), np.int32)) for x in (a, b)]
    found = pairwise(*sets, 2, lambda a, b: np.abs(a.astype(float) - b).mean((1, 2, 3)))
    squares = ((a[2:] / 255.0 - b[2:] / 255.0) ** 2).mean((1, 2, 3))
    assert found['psnr'] == pytest.approx(np.mean(-10 * np.log10(squares)), rel=1e-5)
    assert found['lpips'] == pytest.approx(np.abs(a.astype(float) - b).mean())
    assert set(found) == {'psnr', 'ssim', 'ms_ssim', 'delta_e', 'gmsd', 'lpips'}


def test_the_next_pictures_are_loaded_in_order():
    pictures = PictureSet('x', lambda i: i[:, None], np.zeros((10, 0), np.int32), workers=3)
    assert np.array_equal(np.concatenate(list(pictures.parts(4)))[:, 0], np.arange(10))
    assert [len(part) for part in pictures.parts(4)] == [4, 4, 2]
