"""Near duplicates that are known to be there."""

import numpy as np
from PIL import Image
from scipy import ndimage

from productgen.evaluation.copies import ALIKE, duplicates, neighbours
from productgen.evaluation.sets import Measured, PictureSet, thumbnails
from productgen.metrics.alignment import small


def set_of(name, images):
    return PictureSet(
        name,
        lambda i: images[i],
        np.zeros((len(images), 0), np.int32),
        tuple(f'{name} {i}' for i in range(len(images))),
    )


def measured(images, features=None):
    label = np.zeros((len(images), 0), np.int32)
    return Measured(features, label, {}, thumbnails(images), images, small(images))


def test_planted_duplicates_are_found_in_the_training_set_and_across():
    draw = np.random.default_rng(0)
    train = draw.integers(0, 256, (30, 20, 20, 3), np.uint8)
    held_out = draw.integers(0, 256, (10, 20, 20, 3), np.uint8)
    train[7] = np.clip(train[3].astype(int) + 2, 0, 255)  # a little brighter
    held_out[4] = train[11]
    sets = [set_of('a', train), set_of('b', held_out)]
    about, pairs = duplicates(sets[0], measured(train), sets[1], measured(held_out))
    within, across = pairs['training'], pairs['held_out']
    ((first, second, distance, how),) = about['training_pairs']
    assert {first, second} == {'a 3', 'a 7'} and how == 'equal' and 1.5 < distance < 2.01 < ALIKE
    assert about['held_out_pairs'] == [['b 4', 'a 11', 0.0, 'equal']] and about['held_out_share'] == 0.1
    assert (list(within.first), list(within.second), list(across.first), list(across.second)) == ([3], [7], [4], [11])


def blobs(count, seed):
    """Smooth random pictures, uint8 [count, 80, 80, 3]."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, 80, 80, 3))
    smooth = ndimage.gaussian_filter(noise, (0, 4, 4, 0))
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def resized(image):
    return np.asarray(Image.fromarray(image).resize((80, 80), Image.Resampling.LANCZOS))


def test_with_features_mirrored_cropped_and_altered_copies_are_found():
    train, held_out = blobs(30, 0), blobs(12, 1)
    train[20] = train[2][:, ::-1]
    train[21] = resized(train[3][4:72, 10:78])
    train[22] = train[4] * 0.8
    held_out[5] = resized(train[6][8:76, 8:76])[:, ::-1]
    held_out[6] = train[7]
    held_out[7] = train[20]  # as near as train[2]: one pair for one held-out picture
    draw = np.random.default_rng(2)
    features, others = draw.normal(0, 1, (30, 8)), draw.normal(0, 1, (12, 8))
    features[[20, 21, 22]] = features[[2, 3, 4]] + 0.05  # what a feature network gives
    others[[5, 6, 7]] = features[[6, 7, 2]] + 0.05
    sets = set_of('a', train), set_of('b', held_out)
    about, pairs = duplicates(sets[0], measured(train, features), sets[1], measured(held_out, others))
    within = pairs['training']
    found = {(a, b): how for a, b, how in zip(within.first, within.second, within.how, strict=True)}
    assert found == {(2, 20): 'mirrored', (3, 21): 'cropped', (4, 22): 'altered'}
    assert about['training'] == 3 and about['training_how'] == {'mirrored': 1, 'cropped': 1, 'altered': 1}
    assert {(row[0], row[3]) for row in about['held_out_pairs']} == {
        ('b 5', 'mirrored and cropped'),
        ('b 6', 'equal'),
        ('b 7', 'equal'),
    }
    assert about['held_out_share'] == 0.25
    # By pixels alone, only the equal ones.
    about, _ = duplicates(sets[0], measured(train), sets[1], measured(held_out))
    assert about['training'] == 0 and about['held_out_how'] == {'equal': 2} and 'correlation' not in about


def test_neighbours_are_by_the_cosine():
    images, features = blobs(4, 0), np.asarray([[9.0, 0.0], [0.0, 0.1], [1.0, 1.2], [0.1, -9.0]])
    queries = measured(images[:1], np.asarray([[0.0, 50.0]]))
    assert neighbours(queries, measured(images, features), 3, 1).tolist() == [[1, 2, 0]]
    assert neighbours(measured(images), measured(images), 3, 1) is None


def test_thumbnails_are_means_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    found = thumbnails(image).reshape(2, 16, 16, 3)
    np.testing.assert_allclose(
        found, image.reshape(2, 16, 2, 16, 4, 3).mean((2, 4)), atol=1.01
    )  # Pillow rounds after each axis
