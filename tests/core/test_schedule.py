"""Values that change over a training."""

import numpy as np
import pytest

from productgen.config import UserError
from productgen.core.schedule import parse_annealed, parse_ramp


def test_a_number_is_constant():
    value = parse_annealed('0.7', 'x')
    assert value(0) == value(10_000) == 0.7
    assert parse_annealed(3, 'x')(5) == 3


@pytest.mark.parametrize('step, expected', [(0, 150), (40, 82.5), (80, 15), (100, 15)])
def test_an_arrow_is_half_a_cosine_over_its_fraction_of_the_training(step, expected):
    np.testing.assert_allclose(parse_annealed('150->15', 'x', 100, 0.8)(step), expected, rtol=1e-6)


def test_a_quarter_of_the_way_is_where_the_cosine_says():
    expected = 2 + 8 * 0.5 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(parse_annealed('10->2', 'x', 80)(20), expected, rtol=1e-6)


@pytest.mark.parametrize('value', ['much', '1->', '->1', '1->2->3', 'nan', '1->nan', 'inf->1', ''])
def test_other_text_than_numbers_is_refused_by_field(value):
    with pytest.raises(UserError, match='method.penalty_weight: expected a number'):
        parse_annealed(value, 'method.penalty_weight', 100)


def test_a_value_that_moves_needs_a_known_end():
    with pytest.raises(UserError, match='train.duration'):
        parse_annealed('1->2', 'x', None)


@pytest.mark.parametrize('fraction', [0, -1, 1.5])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(UserError, match=f'fraction .* is {fraction}; it must be above 0'):
        parse_annealed('1->2', 'x', 10, fraction)


def test_a_ramp_rises_along_a_line():
    ramp = parse_ramp('20->60', 'x')
    np.testing.assert_allclose([ramp(kimg) for kimg in (0, 20, 30, 40, 60, 99)], [0, 0, 0.25, 0.5, 1, 1], rtol=1e-6)
    assert parse_ramp('5->5', 'x')(4.9) == 0 and parse_ramp('5->5', 'x')(5.1) == 1


@pytest.mark.parametrize('value', ['20', '60->20', '-5->10', 'a->b', ''])
def test_other_text_than_a_ramp_is_refused(value):
    with pytest.raises(UserError, match='method.transition_kimg: expected'):
        parse_ramp(value, 'method.transition_kimg')
