"""Inception-v3 against torch-fidelity and pytorch-fid with the same random weights."""

import jax
import numpy as np
import pytest
from peers.features import pick, pictures, stored, tensors

from productgen.nets.features.inception import PROTOCOLS, InceptionV3, resize_bilinear


@pytest.fixture(scope='module')
def network():
    """A function (preprocessed images, names) -> features by name."""
    net = InceptionV3()
    variables = net.convert(tensors('inception'))
    select = jax.jit(lambda variables, x, names: [net.apply(variables, x)[name] for name in names], static_argnums=2)
    return lambda x, *names: dict(zip(names, select(variables, x, names), strict=True))


@pytest.fixture(scope='module')
def found(network):
    """Features of an image by both protocols."""
    prepared = np.concatenate([prepare(pictures(0)[:1]) for prepare in PROTOCOLS.values()])
    features = network(prepared, '64', '192', '768', '2048', 'logits', 'logits_unbiased')
    return {name: {key: x[i] for key, x in features.items()} for i, name in enumerate(PROTOCOLS)}


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_features_and_logits_match_the_peers(found, protocol):
    expected = stored(protocol)
    assert {'64', '192', '768', '2048'} <= expected.keys() <= found[protocol].keys()
    for name, values in expected.items():
        np.testing.assert_allclose(pick(found[protocol][name]), values, 1e-4, 1e-5 * abs(values).max(), err_msg=name)


def test_the_protocols_differ(found):
    a, b = (found[protocol]['2048'] for protocol in PROTOCOLS)
    assert np.linalg.norm(a - b) > 0.01 * np.linalg.norm(a)


def frechet(a, b):
    """|mean a - mean b|^2 + tr(A A^T + B B^T - 2 (A A^T B B^T)^1/2), where the last trace is the sum of the singular
    values of A^T B."""
    means, (a, b) = a.mean(0) - b.mean(0), [(x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b)]
    return np.sum(means**2) + np.sum(a**2) + np.sum(b**2) - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()


@pytest.mark.parametrize('widths', [('64', '192'), pytest.param(('768', '2048'), marks=pytest.mark.slow)])
def test_frechet_distances_match_torch_fidelity(network, widths):
    sets = []
    for seed in (0, 1):
        parts = [network(PROTOCOLS['torch-fidelity'](x), *widths) for x in np.split(pictures(seed), 2)]
        sets.append({name: np.concatenate([part[name] for part in parts]) for name in widths})
        if '192' in widths:
            expected = stored('fid/features')[str(seed)]
            np.testing.assert_allclose(sets[-1]['192'], expected, 1e-4, 1e-5 * expected.max())
    for width in widths:
        distance = frechet(*[features[width].astype(float) for features in sets])
        np.testing.assert_allclose(distance, stored('fid')[width], rtol=1e-4)


@pytest.mark.parametrize('size', [17, 299, 340])
@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_resizing_matches_the_peers(protocol, size):
    image = pictures(5, 1, size).astype(np.float32)
    resized = resize_bilinear(image, 299, half_pixel=protocol == 'pytorch-fid')
    assert resized.shape == (1, 299, 299, 3)
    np.testing.assert_allclose(pick(resized, 200), stored(f'resize/{protocol}')[str(size)], atol=1e-3)


def test_axes_are_resized_by_their_own_ratio():
    image = np.add.outer(10 * np.arange(4.0), np.arange(8.0))[None, :, :, None].astype(np.float32)
    points = np.minimum(np.arange(6) * 4 / 6, 3), np.minimum(np.arange(6) * 8 / 6, 7)
    areas = [np.clip((np.arange(6) + 0.5) * n / 6 - 0.5, 0, n - 1) for n in (4, 8)]
    for half_pixel, (rows, columns) in ((False, points), (True, areas)):
        resized = resize_bilinear(image, 6, half_pixel)
        np.testing.assert_allclose(resized[0, :, :, 0], np.add.outer(10 * rows, columns), atol=1e-5)


def test_preprocessed_images_have_the_range_of_the_network():
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    for name, high in (('torch-fidelity', 127 / 128), ('pytorch-fid', 1)):
        for image, value in ((black, -1), (white, high)):
            np.testing.assert_array_equal(PROTOCOLS[name](image), np.full((1, 299, 299, 3), value, np.float32))
