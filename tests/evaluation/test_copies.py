"""Near duplicates that are known to be there."""

import numpy as np

from productgen.evaluation.copies import ALIKE, duplicates
from productgen.evaluation.sets import PictureSet, thumbnails


def set_of(name, images):
    return PictureSet(
        name,
        lambda i: images[i],
        np.zeros((len(images), 0), np.int32),
        tuple(f'{name} {i}' for i in range(len(images))),
    )


def test_planted_duplicates_are_found_in_the_training_set_and_across():
    draw = np.random.default_rng(0)
    train = draw.integers(0, 256, (30, 20, 20, 3), np.uint8)
    held_out = draw.integers(0, 256, (10, 20, 20, 3), np.uint8)
    train[7] = np.clip(train[3].astype(int) + 2, 0, 255)  # a little brighter
    held_out[4] = train[11]
    sets = [set_of('a', train), set_of('b', held_out)]
    rows = [thumbnails(train), thumbnails(held_out)]
    about, pairs = duplicates(sets[0], rows[0], sets[1], rows[1])
    within, across = pairs['training'], pairs['held_out']
    ((first, second, distance),) = about['training_pairs']
    assert {first, second} == {'a 3', 'a 7'} and 1.5 < distance < 2.01 < ALIKE
    assert about['held_out_pairs'] == [['b 4', 'a 11', 0.0]] and about['held_out_share'] == 0.1
    assert (list(within.first), list(within.second), list(across.first), list(across.second)) == ([3], [7], [4], [11])


def test_thumbnails_are_means_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    found = thumbnails(image).reshape(2, 16, 16, 3)
    np.testing.assert_allclose(
        found, image.reshape(2, 16, 2, 16, 4, 3).mean((2, 4)), atol=1.01
    )  # Pillow rounds after each axis
