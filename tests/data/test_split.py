"""The split depends on each key alone, and holds out the given fraction."""

import os
import subprocess
import sys

import numpy as np
import pytest

from productgen.data.source import DataError
from productgen.data.split import in_validation

# The result of the first version of the code: a change of the hash would move pictures between the sets.
FIXED = '001000100000000001100001000001000010000000000001001110011010'
KEYS = [f'sku-{i:05d}' for i in range(20_000)]


def test_fraction():
    for fraction in (0.0, 0.02, 0.1, 0.5):
        held_out = in_validation(KEYS, fraction)
        assert held_out.dtype == bool and held_out.shape == (len(KEYS),)
        assert held_out.mean() == pytest.approx(fraction, abs=0.012)


def test_other_keys_and_their_order_do_not_matter():
    held_out = dict(zip(KEYS, in_validation(KEYS, 0.1), strict=True))
    some = KEYS[5000:15000:3][::-1]
    assert in_validation(some, 0.1).tolist() == [held_out[key] for key in some]


def test_equal_keys_stay_together():
    held_out = in_validation([key for key in KEYS[:500] for _ in range(3)], 0.3).reshape(-1, 3)
    assert (held_out == held_out[:, :1]).all()


def test_a_larger_fraction_only_adds():
    assert (in_validation(KEYS, 0.2) >= in_validation(KEYS, 0.1)).all()


def test_it_is_the_same_in_every_process_and_forever():
    code = 'from productgen.data.split import *; print(*in_validation(list(map(str, range(60))), 0.3) + 0)'
    runs = [
        subprocess.run(
            [sys.executable, '-c', code],
            env={**os.environ, 'PYTHONHASHSEED': seed, 'PYTHONPATH': os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ('1', '2')
    ]
    assert runs[0] == runs[1] and ''.join(runs[0].split()) == FIXED


def test_names_that_are_not_unicode():
    assert in_validation(['shirt-\udcff.jpg', 'größe.jpg'], 0.5).shape == (2,)


def test_empty_and_out_of_range():
    assert in_validation([], 0.1).shape == (0,)
    for fraction in (-0.1, 1, 2.0, np.nan):
        with pytest.raises(DataError, match='data.validation'):
            in_validation(KEYS[:3], fraction)
