"""Durations in every unit."""

import pytest

from productgen.config import UserError
from productgen.config.durations import Duration, parse_duration


@pytest.mark.parametrize(
    'text, steps',
    [
        ('64img', 2),
        ('65img', 3),  # at least the stated amount
        ('200kimg', 6250),
        ('1.5kimg', 47),
        ('16.1kimg', 504),
        ('2mimg', 62_500),
        ('5000steps', 5000),
        ('1step', 1),
        ('2.5steps', 3),
        ('3epochs', 94),
        ('0.5epoch', 16),
        ('0steps', 0),
        ('1e3kimg', 31_250),
        ('1E+3steps', 1000),
        ('1e1epochs', 313),
        (' 10 KIMG ', 313),
    ],
)
def test_images_steps_and_epochs_are_whole_updates(text, steps):
    duration = parse_duration(text, 'train.duration')
    assert duration.steps(batch_size=32, epoch=1000) == steps
    assert duration.seconds is None


@pytest.mark.parametrize('text, batch_size, steps', [('16.1kimg', 4, 4025), ('32.2kimg', 8, 4025), ('1.1kimg', 4, 275)])
def test_an_amount_that_divides_evenly_takes_no_step_more(text, batch_size, steps):
    assert parse_duration(text, 'train.duration').steps(batch_size, 1000) == steps


def test_images_of_another_batch_size_are_counted():
    """100 steps of 8 images, then steps of 32."""
    before = 100 * (8 - 32)
    assert parse_duration('1kimg', 'x').steps(32, 1000, before) == 100 + 7
    assert parse_duration('2epochs', 'x').steps(32, 1000, before) == 100 + 38
    assert parse_duration('120steps', 'x').steps(32, 1000, before) == 120
    assert parse_duration('1img', 'x').steps(8, 1000, 100 * 24) == 0


@pytest.mark.parametrize('text, seconds', [('30s', 30), ('10min', 600), ('1.5h', 5400), ('2H', 7200)])
def test_wall_clock_durations_are_seconds_and_no_steps(text, seconds):
    duration = parse_duration(text, 'train.duration')
    assert duration.seconds == seconds
    assert duration.steps(32, 1000) is None


def test_a_duration_keeps_number_and_unit():
    assert parse_duration('1epoch', 'x') == Duration(1.0, 'epochs')


@pytest.mark.parametrize(
    'text',
    [
        '',
        '200',
        'kimg',
        '-5steps',
        '1.2.3kimg',
        '.kimg',
        'nankimg',
        '1e999kimg',
        '1esteps',
        '5 parsecs',
        '10m',
        '3 4steps',
        'infsteps',
    ],
)
def test_anything_else_is_refused_with_the_field_and_the_units(text):
    with pytest.raises(UserError, match=r'^train\.duration: .*img, kimg, mimg, steps, epochs, s, min, h$'):
        parse_duration(text, 'train.duration')


def test_a_number_without_a_unit_is_refused_whatever_its_type():
    with pytest.raises(UserError, match=r'^train\.duration: 200 is not'):
        parse_duration(200, 'train.duration')
