"""Values of a label are drawn as often as configured, no item is skipped, and a position has one item."""

import numpy as np
import pytest
from tiny import open_run
from toy import FAMILY, toy_config

from productgen.config import UserError
from productgen.data.balance import BalancedOrder
from productgen.methods import METHODS

CODES = np.repeat([0, 1, 2], [3, 50, 400])
ITEMS = 1000 + np.arange(len(CODES))


def draw(balance, places, seed=0, codes=CODES):
    order = BalancedOrder(ITEMS[: len(codes)], codes, balance, seed)
    return np.array([order[i] for i in places]) - 1000


@pytest.mark.parametrize('balance', [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize('epochs', [1, 7])
def test_frequencies_are_powers_of_those_in_the_data(balance, epochs):
    drawn = CODES[draw(balance, range(453 * epochs))]
    expected = np.array([3.0, 50, 400]) ** (1 - balance)
    expected *= 453 * epochs / expected.sum()
    assert np.abs(np.bincount(drawn) - expected).max() <= epochs  # each epoch is rounded to whole pictures


@pytest.mark.parametrize('balance', [0.5, 1.0])
def test_a_class_goes_through_all_its_items_before_it_repeats_one(balance):
    drawn = draw(balance, range(453 * 9))
    for code, size in enumerate((3, 50, 400)):
        own = drawn[CODES[drawn] == code]
        rounds = len(own) // size
        assert rounds >= 2 and all(len(set(own[r * size : (r + 1) * size])) == size for r in range(rounds))
        assert size == 3 or not np.array_equal(own[:size], own[size : 2 * size])


def test_the_classes_are_mixed_within_an_epoch():
    drawn = CODES[draw(1.0, range(453))]
    halves = np.bincount(drawn[:226], minlength=3), np.bincount(drawn[226:], minlength=3)
    assert np.abs(halves[0] - halves[1]).max() < 40


def test_a_position_does_not_depend_on_those_before_it():
    order, other = draw(0.5, range(2000)), draw(0.5, range(2000), seed=1)
    assert np.array_equal(draw(0.5, reversed(range(2000)))[::-1], order)
    assert not np.array_equal(other, order)


def test_items_without_a_value_are_as_frequent_as_in_the_data():
    codes = np.where(np.arange(len(CODES)) % 3 == 0, -1, CODES)
    drawn = codes[draw(1.0, range(453 * 4), codes=codes)]
    unknown = 4 * (codes == -1).sum()
    assert (drawn == -1).sum() == unknown
    assert np.ptp([(drawn == value).sum() for value in range(3)]) <= 4


@pytest.mark.filterwarnings('error')
def test_items_of_which_no_value_is_known_are_drawn_as_they_are():
    drawn = draw(0.5, range(3 * 453), codes=np.full(len(CODES), -1))
    assert (np.bincount(drawn) == 3).all()


def test_a_run_passes_its_balance_to_its_batches(monkeypatch):
    monkeypatch.setitem(METHODS, 'toy', FAMILY)
    counts = lambda **fields: np.bincount(
        np.concatenate([run.batches()[i]['label'][:, 0] for run in [open_run(toy_config(**fields))] for i in range(14)])
    )
    assert np.ptp(counts(data__balance=1.0)) == 0 < np.ptp(counts())  # 112 pictures of 14 classes, 14 batches of 8


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'data__balance': 1.5}, r'data\.balance: 1\.5 is not from 0'),
        ({'data__balance': -0.5}, r'data\.balance: -0\.5'),
        ({'data__balance': 1.0, 'data__labels': 'none'}, r'data\.balance: there are no labels'),
    ],
)
def test_a_balance_out_of_range_or_without_labels(monkeypatch, fields, message):
    monkeypatch.setitem(METHODS, 'toy', FAMILY)
    with pytest.raises(UserError, match=message):
        open_run(toy_config(**fields))
