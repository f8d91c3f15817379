"""LPIPS against the authors' implementation with the same random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers.features import floats, stored, tensors

from productgen.nets.features.lpips import LPIPS, unit_normalize

TRUNKS = {'alex': 'alexnet', 'vgg': 'vgg16', 'squeeze': 'squeezenet1_1'}


def weights(name):
    return tensors(TRUNKS[name], 'features.') | tensors(f'lpips_{name}')


@pytest.mark.parametrize('name', TRUNKS)
def test_distances_match_the_authors_code(name):
    net = LPIPS(name)
    found = jax.jit(net.apply)(net.convert(weights(name)), floats(3), floats(4))
    np.testing.assert_allclose(found, stored('lpips')[name], 1e-4)


@pytest.fixture(scope='module')
def squeeze():
    net = LPIPS('squeeze')
    variables = net.convert(weights('squeeze') | {'classifier.1.weight': np.zeros((1000, 512, 1, 1))})
    return jax.jit(jax.value_and_grad(lambda a, b: net.apply(variables, a, b)[0]))


def test_equal_images_have_distance_zero_and_gradients_are_finite(squeeze):
    image = floats(3, 1, 32)
    value, grad = squeeze(image, -image)
    grad = np.asarray(grad)
    assert value > 0 and np.any(grad) and np.all(np.isfinite(grad))
    zero, flat = squeeze(image, image)
    np.testing.assert_allclose(zero, 0, atol=1e-9 * value)
    np.testing.assert_allclose(flat, 0, atol=1e-5 * np.abs(grad).max())


def test_gradient_matches_finite_differences(squeeze):
    a, b = floats(3, 1, 32), floats(4, 1, 32)
    grad = np.asarray(squeeze(a, b)[1])
    step = np.float32(0.02) * grad / np.linalg.norm(grad)
    slope = (squeeze(a + step, b)[0] - squeeze(a - step, b)[0]) / 2
    np.testing.assert_allclose(np.sum(grad * step), slope, rtol=0.05)


def test_unit_normalize_keeps_zeros_and_has_finite_gradients():
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(jax.jit(unit_normalize)(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda x: jnp.sum(unit_normalize(x))))(x)))


def test_different_shapes_raise():
    with pytest.raises(ValueError, match='must both be'):
        LPIPS('alex').init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros((2, 64, 64, 3)))


def test_missing_heads_are_named():
    table = {name: x for name, x in weights('alex').items() if name != 'lin3.model.1.weight'}
    with pytest.raises(ValueError, match=r'this LPIPS; missing: lin3\.model\.1\.weight$'):
        LPIPS('alex').convert(table)
