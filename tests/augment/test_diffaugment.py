"""DiffAugment compared with direct definitions in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from productgen.augment import AugmentConfig, diff_augment, make_augment

run = jax.jit(diff_augment, static_argnums=2)


def keys_of(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def test_translation_shifts_by_up_to_an_eighth_and_fills_with_zeros():
    n, (height, width) = 400, (16, 24)
    image = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    padded = np.pad(image, [(2, 2), (3, 3), (0, 0)])
    shifts = {padded[y : y + height, x : x + width].tobytes(): (y, x) for y in range(5) for x in range(7)}
    moved = run(np.tile(image, (n, 1, 1, 1)), keys_of(n), 'translation')
    seen = [shifts[np.asarray(x).tobytes()] for x in moved]  # a KeyError: none of the allowed shifts
    counts = np.bincount([7 * y + x for y, x in seen], minlength=35)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_cutout_is_half_the_size_and_covers_all_places():
    n = 600
    holes = np.asarray(run(np.ones((n, 8, 12, 1), np.float32), keys_of(n), 'cutout'))[..., 0] == 0
    rows, columns = holes.any(2), holes.any(1)
    np.testing.assert_array_equal(holes, rows[:, :, None] & columns[:, None])
    assert rows.sum(1).max() == 4 and columns.sum(1).max() == 6
    assert rows.sum(1).min() >= 2 and columns.sum(1).min() >= 3  # the centre is in the image
    np.testing.assert_allclose(holes.mean(0), holes.mean(0)[::-1, ::-1], atol=0.15)
    assert holes.mean(0).min() > 0.05


def test_color_is_brightness_then_saturation_then_contrast():
    """Measured on the output: only brightness changes the mean, the other two change the differences."""
    n = 500
    image = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    out = np.asarray(run(np.tile(image, (n, 1, 1, 1)), keys_of(n), 'color'))
    brightness = out.mean((1, 2, 3)) - image.mean()
    out_grey = out.mean(-1, keepdims=True)
    contrast = ((out_grey - out_grey.mean((1, 2, 3), keepdims=True)) * (grey - grey.mean())).sum((1, 2, 3))
    contrast /= ((grey - grey.mean()) ** 2).sum()
    saturation = ((out - out_grey) * (image - grey)).sum((1, 2, 3)) / ((image - grey) ** 2).sum() / contrast
    for value, low, high in ((brightness, -0.5, 0.5), (saturation, 0, 2), (contrast, 0.5, 1.5)):
        assert scipy.stats.kstest(value, 'uniform', (low, high - low)).pvalue > 1e-3
    b, s, c = (v[:, None, None, None] for v in (brightness, saturation, contrast))
    expected = grey + s * (image - grey)
    np.testing.assert_allclose(out, image.mean() + b + c * (expected - image.mean()), atol=1e-5)


def test_a_sample_depends_on_its_own_key_and_policies_use_their_own_streams():
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    keys, order, policy = keys_of(5), np.array([4, 2, 0, 1, 3]), 'color,translation,cutout'
    together = np.asarray(run(images, keys, policy))
    np.testing.assert_allclose(run(images[order], keys[order], policy), together[order], atol=1e-6)
    np.testing.assert_allclose(
        run(run(run(images, keys, 'color'), keys, 'translation'), keys, 'cutout'), together, atol=1e-6
    )


def test_gradients_of_second_order_exist():
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
    logits = lambda x: jnp.sum(jnp.sin(diff_augment(x, keys_of(2))))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(logits)(x) ** 2)))(images)
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_make_augment_follows_the_policy():
    images, keys = jnp.ones((2, 8, 8, 3)), keys_of(2)
    for transforms, policy in (('', 'color,translation,cutout'), ('cutout', 'cutout')):
        augment = make_augment(AugmentConfig(name='diffaugment', transforms=transforms))
        expected = jax.make_jaxpr(lambda x, keys, policy=policy: diff_augment(x, keys, policy))(images, keys)
        actual = jax.make_jaxpr(lambda x, keys, augment=augment: augment(x, 0.0, keys))(images, keys)
        assert str(actual) == str(expected)


def test_unknown_policies_raise():
    with pytest.raises(ValueError, match="'colour'; did you mean 'color'"):
        diff_augment(jnp.zeros((1, 8, 8, 3)), keys_of(1), 'colour')
