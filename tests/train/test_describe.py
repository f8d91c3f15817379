"""The dry run: sizes and costs agree with training, and it refuses what training refuses."""

import re

import jax
import pytest
from tiny import describe, tiny_gan_config, train

from productgen.config import UserError


def cost(text):
    """FLOPs an update."""
    value, unit = re.search(r'an image, ([\d.]+) (\w?)FLOP', text).groups()
    return float(value) * {'': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9}[unit]


def tiny(**fields):
    return tiny_gan_config(**{'method__penalty': 'r1', 'method__penalty_weight': 1.0, 'data__labels': 'label'} | fields)


@pytest.fixture(scope='module')
def text():
    return describe(tiny())


def test_data_sizes_and_length_are_those_of_training(text, tmp_path):
    assert '112 pictures to train on, 16 held out' in text
    assert 'label: 14 values, mug, ' in text
    train(tiny(), tmp_path / 'run')
    log = (tmp_path / 'run' / 'log.txt').read_text()
    for name in ('generator', 'discriminator'):
        (count,) = re.findall(rf'  {name}: ([\d,]+)', text)
        assert f'{name}: {count} parameters' in log
    assert '6 updates of 8 images' in text
    assert 'every 3steps, 2 in all' in text and 'every 4steps, 1 in all' in text


def test_cost_does_not_depend_on_how_the_batch_is_taken(text):
    parts = describe(tiny(train__accumulate=2))
    assert '8 of the 8 images of a batch on each in 2 parts' in parts
    assert cost(parts) == cost(text)


def test_lazy_terms_are_counted_and_nothing_is_compiled(text, monkeypatch):
    # After `text`, which compiles to find out the compiler's options.
    monkeypatch.setattr(jax.stages.Lowered, 'compile', None)
    assert cost(describe(tiny(method__penalty='none', method__penalty_weight=0.0))) < 0.9 * cost(text)


def test_a_run_bounded_by_time(text):
    timed = describe(tiny(train__duration='10min'))
    assert 'as many updates as 10min allow' in timed and 'in all, ' not in timed


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'sample__labels': 'mugg'}, "did you mean 'mug'"),
        ({'sample__seeds': 'x'}, r'sample\.seeds'),
        ({'train__accumulate': 3}, r'train\.batch_size'),
        ({'data__labels': 'colur'}, 'colur'),
    ],
)
def test_settings_that_cannot_be_used_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        describe(tiny(**fields))
