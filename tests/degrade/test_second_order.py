"""Real-ESRGAN's degradation: sizes, ranges, seeds, and that every part of it happens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from productgen.config import UserError
from productgen.degrade import second_order as module
from productgen.degrade.resize import FILTERS, rescale
from productgen.degrade.tasks import DegradeConfig, make_degradation

COUNT = 24


@pytest.fixture(scope='module')
def degraded():
    """(keys, scale) -> degraded copies of one picture [COUNT, 24, 32, 3], compiled once."""
    rows, columns = np.mgrid[:24, :32]
    picture = np.stack([columns / 32, rows / 24, (rows // 4 + columns // 4) % 2], -1).astype(np.float32)
    degrade = jax.jit(lambda keys: module.second_order(jnp.stack([picture] * COUNT), keys, 2))
    keys = jax.random.split(jax.random.key(0), COUNT)
    return degrade, keys, np.asarray(degrade(keys)), picture


def test_pictures_are_degraded_each_by_its_own_key(degraded):
    degrade, keys, found, picture = degraded
    assert found.shape == (COUNT, 12, 16, 3) and found.min() >= 0 and found.max() <= 1
    half = picture.reshape(12, 2, 16, 2, 3).mean((1, 3))
    errors = np.abs(found - half).mean((1, 2, 3))
    assert errors.min() > 0.01 and errors.max() < 0.35 and errors.std() > 0.01
    # The picture is still there, upright and in place.
    assert np.mean([np.corrcoef(x[..., :2].ravel(), half[..., :2].ravel())[0, 1] for x in found]) > 0.8
    again = np.asarray(degrade(keys.at[3].set(jax.random.key(5))))
    same = np.abs(again - found).max((1, 2, 3)) < 1e-6
    assert same.sum() == COUNT - 1 and not same[3]


def test_kernels_are_of_every_kind():
    keys = jax.random.split(jax.random.key(1), 400)
    kernels = np.asarray(jax.jit(module._kernels, static_argnums=1)(keys, module.SECOND))
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, atol=1e-4)
    untouched = (kernels[:, 10, 10] > 0.999).mean()
    assert 0.15 < untouched < 0.45  # a fifth by the probability, and the narrowest Gaussians
    assert (kernels.min((1, 2)) < -1e-3).mean() > 0.03  # sinc filters
    across = np.abs(kernels - kernels.transpose(0, 2, 1)).max((1, 2))
    assert 0.1 < (across > 1e-3).mean() < 0.4  # uneven ones


def test_factors_have_their_probabilities():
    keys = jax.random.split(jax.random.key(2), 2000)
    for order in (module.FIRST, module.SECOND):
        scales = np.asarray(module._scales(keys, order))
        assert order.scales[0] <= scales.min() and scales.max() <= order.scales[1]
        for found, expected in zip(((scales > 1).mean(), (scales < 1).mean()), order.resize, strict=True):
            assert abs(found - expected) < 0.04


@pytest.mark.parametrize('name', ['bilinear', 'bicubic', 'lanczos'])
@pytest.mark.parametrize('target', [(14, 9), (7, 11), (3, 30)])
def test_resizing_by_a_traced_factor_is_pillow_s(name, target):
    picture = np.random.default_rng(0).integers(60, 200, (10, 16, 3), np.uint8)
    canvas = np.full((24, 32, 3), 0.5, np.float32)
    canvas[:10, :16] = picture / 255
    scale = jnp.asarray([target[0] / 10, target[1] / 16])
    index = jnp.asarray(list(FILTERS).index(name))
    found = np.asarray(
        jax.jit(lambda s: rescale(jnp.asarray(canvas), (32, 40), s, jnp.asarray([10.0, 16.0]), index))(scale)
    )
    pillow = Image.fromarray(picture).resize(target[::-1], getattr(Image.Resampling, name.upper()))
    assert np.abs(found[: target[0], : target[1]] * 255 - np.asarray(pillow, float)).max() <= 1.2
    # Beyond it the border is repeated.
    assert np.array_equal(
        found[target[0] :, : target[1]],
        np.broadcast_to(found[target[0] - 1, : target[1]], (32 - target[0], target[1], 3)),
    )


def test_it_is_for_super_resolution():
    with pytest.raises(UserError, match='is for sr2 and sr4, not for jpeg'):
        make_degradation('jpeg', DegradeConfig(second_order=True))
    assert callable(make_degradation('sr4', DegradeConfig(second_order=True)))
