"""Metrics of sets corrupted to a known degree: distances increase, and each metric detects its kind of error."""

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
    """Replaces a fraction of the images by noise."""
    count = round(degree * len(images))
    return np.concatenate([draw.uniform(0, 255, images[:count].shape), images[count:]])


def fade(images, degree, draw):
    """Desaturates."""
    return images + degree * (images.mean(-1, keepdims=True) - images)


@pytest.fixture(scope='module')
def sets():
    """Two sets of images of the catalog, and a random feature network, which is sensitive to texture and colour."""
    catalog = Catalog((16, 16), 2 * COUNT)
    images = np.stack([catalog[i]['image'] for i in range(2 * COUNT)]).astype(np.float32)
    net = ResNet(8, (1, 1))
    params = jax.jit(net.init)(jax.random.key(0), images[:1])
    features = jax.jit(lambda x: net.apply(params, x / 127.5 - 1))
    return images[:COUNT], images[COUNT:], lambda x: np.asarray(features(np.asarray(x, np.float32)))


@pytest.mark.parametrize('corrupt', [noise, blur, replace, fade])
def test_distances_increase_with_corruption(sets, corrupt):
    real, other, features = sets
    reference = Reference(features(real))
    rows = [
        reference.figures(features(corrupt(other, degree, np.random.default_rng(0)))) for degree in (0, 0.25, 0.5, 1)
    ]
    for name in ('frechet_distance', 'kernel_distance'):
        values = [row[name] for row in rows]
        assert values == sorted(values) and values[-1] > 2 * abs(values[0]), (name, values)


def test_distance_of_a_set_to_itself_is_zero(sets):
    real, _, features = sets
    found = Reference(features(real)).figures(features(real))
    assert found['frechet_distance'] < 1e-9 and found['kernel_distance'] < 0
    assert found['precision'] == found['recall'] == found['coverage'] == 1


def modes(count, rows, draw, spread=1.0):
    """Samples from `count` well separated clusters in eight dimensions."""
    centres = 12 * np.eye(8)[np.arange(rows) % count]
    return centres + spread * draw.normal(size=(rows, 8))


def test_noisy_samples_lower_precision_and_dropped_modes_lower_recall():
    draw = np.random.default_rng(0)
    reference = Reference(modes(8, 800, draw))
    good = reference.figures(modes(8, 800, draw))
    # Half of the samples are off the data; the others still cover it.
    noisy = np.concatenate([modes(8, 400, draw), modes(8, 400, draw, spread=4.0)])
    noisy, dropped = reference.figures(noisy), reference.figures(modes(4, 800, draw))
    assert good['precision'] > 0.85 and good['recall'] > 0.85 and good['coverage'] > 0.9
    assert noisy['precision'] < 0.6 and noisy['recall'] > 0.85
    assert noisy['density'] < 0.6 * good['density'] and noisy['coverage'] > 0.75
    assert dropped['precision'] > 0.85 and dropped['recall'] < 0.6
    assert dropped['density'] > 0.85 * good['density'] and dropped['coverage'] < 0.55


def test_intervals_of_a_class_cover_the_true_distances():
    """Of 60 intervals of 95 %, about 3 miss the true distance; 9 or more are unlikely."""
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
        # Moments of the product of one coordinate: E x^k E y^k.
        power = lambda mean, k: (1, mean, 1 + mean**2, mean**3 + 3 * mean)[k]
        moments = [power(m, k) * power(n, k) for k in range(4)]
        first, second = 3 * moments[1], 3 * moments[2] + 6 * moments[1] ** 2
        third = 3 * moments[3] + 18 * moments[2] * moments[1] + 6 * moments[1] ** 3
        return 1 + 3 * first / 3 + 3 * second / 9 + third / 27

    return mean_of_kernel(0.7, 0.7) + mean_of_kernel(0, 0) - 2 * mean_of_kernel(0.7, 0)


def test_few_images_have_no_frechet_distance():
    draw = np.random.default_rng(0)
    assert 'frechet_distance' not in intervals_of_class(draw.normal(size=(30, 30)), draw.normal(size=(90, 30)))
