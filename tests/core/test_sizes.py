"""Sizes that networks can halve."""

import pytest

from productgen.config import UserError
from productgen.core.sizes import check_size, levels


@pytest.mark.parametrize(
    'resolution, base, doublings',
    [
        ((128, 96), (4, 3), 5),
        ((8, 8), (4, 4), 1),
        ((14, 2), (7, 1), 1),
        ((32, 32), (4, 4), 3),
        ((96, 160), (3, 5), 5),
        ((96, 224), (3, 7), 5),
        ((2048, 2048), (4, 4), 9),
    ],
)
def test_a_resolution_is_a_base_and_doublings(resolution, base, doublings):
    assert levels(resolution) == (base, doublings)


@pytest.mark.parametrize(
    'resolution, near',
    [
        ((100, 100), '96x96 and 112x112'),
        ((7, 7), '8x8'),
        ((4, 4), '8x8 and '),
        ((1, 1), '8x8 and '),
        ((5, 5), '8x8 and '),
        ((64, 50), '48x64'),
        ((130, 98), '96x128'),
        ((33, 32), '32x32'),
        ((3000, 3000), '3072x3072'),
    ],
)
def test_other_resolutions_are_refused_with_the_nearest(resolution, near):
    with pytest.raises(UserError, match=rf'^data\.resolution: {resolution[1]}x{resolution[0]} is not .*{near}'):
        levels(resolution)


def test_sizes_that_cannot_be_halved_are_refused_with_the_nearest():
    check_size((24, 16), 3)
    with pytest.raises(ValueError, match='20x24 cannot be halved 3 times; the nearest size that can is 16x24'):
        check_size((24, 20), 3)
    with pytest.raises(ValueError, match='3x16 cannot be halved 4 times; the nearest size that can is 16x16'):
        check_size((16, 3), 4)
