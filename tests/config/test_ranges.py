"""Seeds and layers as text."""

import pytest

from productgen.config import UserError
from productgen.config.ranges import parse_ranges


@pytest.mark.parametrize(
    'text, numbers', [('0-3', [0, 1, 2, 3]), ('3, 5,10-11', [3, 5, 10, 11]), ('7', [7]), ('2-2', [2]), ('9,9', [9, 9])]
)
def test_numbers_and_ranges(text, numbers):
    assert parse_ranges(text, 'sample.seeds', 100) == numbers


def test_open_end():
    assert parse_ranges('1,4-', 'sample.mix_layers', 6, open_end=True) == [1, 4, 5, 6]


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'is not a number or a range'),
        ('1,,2', 'is not a number or a range'),
        ('-1', 'is not a number or a range'),
        ('1.5', 'is not a number or a range'),
        ('4-', "write '0-3' or '3,5,10-19'"),
        ('5-3', 'runs backwards; did you mean 3-5'),
        ('99-101', 'is beyond 100, the largest allowed'),
    ],
)
def test_anything_else_is_refused_by_name(text, message):
    with pytest.raises(UserError, match=rf'^sample\.seeds: .*{message}'):
        parse_ranges(text, 'sample.seeds', 100)


def test_a_slip_of_the_finger_does_not_fill_the_memory():
    with pytest.raises(UserError, match='more than 1,000,000 numbers'):
        parse_ranges('0-2000000000', 'sample.seeds', 2**31 - 1)
