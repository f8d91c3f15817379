"""PatchNCE against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.losses.contrastive import patch_nce

DRAW = np.random.default_rng(0)


def units(*shape):
    x = DRAW.standard_normal(shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def test_it_is_the_cross_entropy_of_finding_each_patch():
    query, key, tau = units(3, 5, 4), units(3, 5, 4), 0.07
    expected = np.zeros(3)
    for b in range(3):
        for s in range(5):
            logits = query[b, s].astype(np.float64) @ key[b].T.astype(np.float64) / tau
            expected[b] += (np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[s]) / 5
    np.testing.assert_allclose(patch_nce(jnp.asarray(query), jnp.asarray(key), tau), expected, rtol=1e-5)


def test_it_is_small_for_equal_patches_and_log_of_their_number_for_equal_features():
    key = jnp.asarray(units(2, 16, 64))
    assert np.all(np.asarray(patch_nce(key, key, 0.07)) < 0.1)
    same = jnp.broadcast_to(key[:, :1], key.shape)
    np.testing.assert_allclose(patch_nce(same, same, 0.07), np.log(16), rtol=1e-5)


def test_keys_are_constants():
    query, key = jnp.asarray(units(1, 4, 3)), jnp.asarray(units(1, 4, 3))
    slopes = jax.grad(lambda q, k: jnp.sum(patch_nce(q, k, 0.1)), (0, 1))(query, key)
    assert np.any(slopes[0]) and not np.any(slopes[1])


def test_other_shapes_are_refused():
    for shape in ((2, 4, 3), (1, 4)):
        with pytest.raises(ValueError, match=r'must both be \[B, S, D\]'):
            patch_nce(jnp.zeros((1, 4, 3)), jnp.zeros(shape), 0.07)
