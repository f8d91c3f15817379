"""The figures against damage of a known degree: distances rise with it, and each figure sees what it is there for."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from productgen.data.catalog import Catalog
from productgen.metrics.distribution import Reference, intervals_of_class
from productgen.nets.resnet import ResNet

COUNT = 160


def noise(images, degree, draw):
    return np.clip(images + draw.normal(0, 60 * degree, images.shape), 0, 255)


def blur(images, degree, draw):
    return scipy.ndimage.gaussian_filter(images, (0, 3 * degree, 3 * degree, 0))


def replace(images, degree, draw):
    """A share of the pictures by noise."""
    count = round(degree * len(images))
    return np.concatenate([draw.uniform(0, 255, images[:count].shape), images[count:]])


def fade(images, degree, draw):
    """Colours towards grey."""
    return images + degree * (images.mean(-1, keepdims=True) - images)


@pytest.fixture(scope='module')
def seen():
    """Two sets of pictures of the catalog, and features of a random network, which see pixels, texture and colour."""
    catalog = Catalog((16, 16), 2 * COUNT)
    images = np.stack([catalog[i]['image'] for i in range(2 * COUNT)]).astype(np.float32)
    net = ResNet(8, (1, 1))
    params = net.init(jax.random.key(0), images[:1])
    features = jax.jit(lambda x: net.apply(params, x / 127.5 - 1))
    return images[:COUNT], images[COUNT:], lambda x: np.asarray(features(np.asarray(x, np.float32)))


@pytest.mark.parametrize('damage', [noise, blur, replace, fade])
def test_distances_rise_with_the_damage(seen, damage):
    real, other, features = seen
    reference = Reference(features(real))
    rows = [
        reference.figures(features(damage(other, degree, np.random.default_rng(0)))) for degree in (0, 0.25, 0.5, 1)
    ]
    for name in ('frechet_distance', 'kernel_distance'):
        values = [row[name] for row in rows]
        assert values == sorted(values) and values[-1] > 2 * abs(values[0]), (name, values)


def test_a_set_is_at_no_distance_from_itself(seen):
    real, _, features = seen
    found = Reference(features(real)).figures(features(real))
    assert found['frechet_distance'] < 1e-9 and found['kernel_distance'] < 0
    assert found['precision'] == found['recall'] == found['coverage'] == 1


def modes(count, rows, draw, spread=1.0):
    """So many clusters, far from each other, in eight dimensions."""
    centres = 12 * np.eye(8)[np.arange(rows) % count]
    return centres + spread * draw.normal(size=(rows, 8))


def test_blurred_samples_cost_precision_and_lost_modes_cost_recall():
    draw = np.random.default_rng(0)
    reference = Reference(modes(8, 800, draw))
    good = reference.figures(modes(8, 800, draw))
    # Half of the samples lie off the data; the others still reach all of it.
    off = np.concatenate([modes(8, 400, draw), modes(8, 400, draw, spread=4.0)])
    blurred, lost = reference.figures(off), reference.figures(modes(4, 800, draw))
    assert good['precision'] > 0.85 and good['recall'] > 0.85 and good['coverage'] > 0.9
    assert blurred['precision'] < 0.6 and blurred['recall'] > 0.85
    assert blurred['density'] < 0.6 * good['density'] and blurred['coverage'] > 0.75
    assert lost['precision'] > 0.85 and lost['recall'] < 0.6
    assert lost['density'] > 0.85 * good['density'] and lost['coverage'] < 0.55


def test_distances_of_a_class_come_with_errors_that_hold_the_truth():
    """Of 60 repetitions, intervals of 95 % may miss the distance of the distributions in some 3; in 9 is unlikely."""
    draw, missed = np.random.default_rng(1), {'kernel': 0, 'frechet': 0}
    for seed in range(60):
        found = intervals_of_class(draw.normal(size=(60, 3)) + 0.7, draw.normal(size=(60, 3)), seed)
        low, high = found['frechet_distance_interval']
        missed['frechet'] += not low < 3 * 0.7**2 < high
        missed['kernel'] += abs(found['kernel_distance'] - kernel_truth()) > 2 * found['kernel_distance_error']
    assert max(missed.values()) < 9, missed


def kernel_truth():
    """The kernel distance of N(0.7, 1) and N(0, 1) in three dimensions, by the moments of u = x y / 3 of each pair.

    With E[(1 + u)^3] = 1 + 3 E u + 3 E u^2 + E u^3 and independent coordinates.
    """

    def mean_of_kernel(m, n):
        # Moments of one coordinate's product: E x^k E y^k.
        power = lambda mean, k: (1, mean, 1 + mean**2, mean**3 + 3 * mean)[k]
        one = [power(m, k) * power(n, k) for k in range(4)]
        first, second = 3 * one[1], 3 * one[2] + 6 * one[1] ** 2
        third = 3 * one[3] + 18 * one[2] * one[1] + 6 * one[1] ** 3
        return 1 + 3 * first / 3 + 3 * second / 9 + third / 27

    return mean_of_kernel(0.7, 0.7) + mean_of_kernel(0, 0) - 2 * mean_of_kernel(0.7, 0)


def test_few_pictures_have_no_frechet_distance():
    draw = np.random.default_rng(0)
    assert 'frechet_distance' not in intervals_of_class(draw.normal(size=(30, 30)), draw.normal(size=(90, 30)))
