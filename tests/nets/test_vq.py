"""Parts of a VQ-VAE against NumPy, closed forms and parameter counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.nets.vq import Codebook, Decoder, Encoder, create_codebook, move, perplexity, quantize, revive, tally

DRAW = np.random.default_rng(0)
Z, VECTORS = np.float32(DRAW.normal(size=(3, 4, 2, 5))), np.float32(DRAW.normal(size=(7, 5)))


def nearest_codes(z, vectors):
    """Nearest codes by brute force in float64."""
    return np.asarray([np.argmin([np.sum((v - e) ** 2) for e in np.float64(vectors)]) for v in np.float64(z)])


# The networks.


def sizes(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize('levels', [1, 2, 3])
def test_shapes_and_parameter_counts_of_encoder_and_decoder(levels):
    width, residual, features, blocks = 12, 5, 7, 2
    encoder, decoder = Encoder(levels, width, blocks, residual, features), Decoder(levels, width, blocks, residual)
    image = jax.ShapeDtypeStruct((2, 16, 24, 3), jnp.float32)
    z, e = jax.eval_shape(encoder.init_with_output, jax.random.key(0), image)
    assert z.shape == (2, 16 >> levels, 24 >> levels, features)
    output, d = jax.eval_shape(decoder.init_with_output, jax.random.key(0), z)
    assert output.shape == image.shape

    strided = lambda c, d: 16 * c * d + d
    halvings = {
        1: strided(3, 6),
        2: strided(3, 6) + strided(6, 12),
        3: strided(3, 6) + strided(6, 12) + strided(12, 12),
    }[levels]
    doublings = {
        1: strided(12, 3),
        2: strided(12, 6) + strided(6, 3),
        3: strided(12, 12) + strided(12, 6) + strided(6, 3),
    }[levels]
    block = (9 * width * residual + residual) + (residual * width + width)
    into = {1: 6}.get(levels, 12)
    assert sizes(e) == halvings + (9 * into * width + width) + blocks * block + (width * features + features)
    assert sizes(d) == (9 * features * width + width) + blocks * block + doublings


# Quantisation.


def test_codes_match_brute_force():
    codes, quantized, commitment = quantize(Z, VECTORS)
    expected = nearest_codes(Z.reshape(-1, 5), VECTORS).reshape(Z.shape[:-1])
    assert codes.dtype == jnp.int32
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_allclose(quantized, VECTORS[expected], atol=1e-6)
    np.testing.assert_allclose(commitment, np.mean((Z - VECTORS[expected]) ** 2, (1, 2, 3)), rtol=1e-5)


def test_quantize_has_a_straight_through_gradient():
    weights = jnp.asarray(np.float32(DRAW.normal(size=Z.shape)))
    decode = lambda q: jnp.sum(jnp.sin(q) * weights)
    grad_z, grad_vectors = jax.grad(lambda z, e: decode(quantize(z, e)[1]), (0, 1))(Z, VECTORS)
    nearest = VECTORS[np.asarray(quantize(Z, VECTORS)[0])]
    np.testing.assert_allclose(grad_z, np.cos(nearest) * weights, atol=1e-5)
    assert not np.any(grad_vectors)


def test_commitment_has_a_gradient_to_the_encoder_only():
    grad_z, grad_vectors = jax.grad(lambda z, e: jnp.sum(quantize(z, e)[2]), (0, 1))(Z, VECTORS)
    nearest = VECTORS[np.asarray(quantize(Z, VECTORS)[0])]
    np.testing.assert_allclose(grad_z, 2 * (Z - nearest) / Z[0].size, atol=1e-6)
    assert not np.any(grad_vectors)


# The codebook.


def members(codes, size):
    return np.asarray(codes)[..., None] == np.arange(size)


def test_tally_counts_and_sums():
    codes = nearest_codes(Z.reshape(-1, 5), VECTORS).reshape(Z.shape[:-1])
    usage, total = tally(jnp.asarray(Z), jnp.asarray(members(codes, 7)))
    flat, n = Z.reshape(-1, 5), codes.size
    np.testing.assert_allclose(usage, np.bincount(codes.ravel(), minlength=7) / n, rtol=1e-6)
    expected = np.stack([flat[codes.ravel() == k].sum(0) for k in range(7)]) / n
    np.testing.assert_allclose(total, expected, atol=1e-6)
    halves = [tally(jnp.asarray(Z[:, i : i + 2]), jnp.asarray(members(codes[:, i : i + 2], 7))) for i in (0, 2)]
    for expected, *parts in zip((usage, total), *halves, strict=True):
        np.testing.assert_allclose(expected, np.mean(parts, 0), atol=1e-6)


def test_codes_of_a_fixed_assignment_converge_to_its_centroids():
    """After t updates N_t = g^t N_0 + (1 - g^t) n, and the codes tend to the cluster means, as in k-means."""
    assignment = np.arange(24) % 4
    flat = Z.reshape(-1, 5)
    centroids = np.stack([flat[assignment == k].mean(0) for k in range(4)])
    tallied = tally(jnp.asarray(flat), jnp.asarray(members(assignment, 4)))
    start = Codebook(jnp.asarray([0.7, 0.1, 0.1, 0.1]), jnp.asarray(np.float32(DRAW.normal(size=(4, 5)))))

    codebook, decay, steps = start, 0.8, 30
    for _ in range(steps):
        codebook = move(codebook, *tallied, decay)
    remaining = decay**steps
    usage = remaining * np.asarray(start.usage) + (1 - remaining) * 0.25
    total = remaining * np.asarray(start.total) + (1 - remaining) * 0.25 * centroids
    np.testing.assert_allclose(codebook.usage, usage, rtol=1e-5)
    np.testing.assert_allclose(codebook.vectors, total / usage[:, None], atol=1e-5)
    for _ in range(50):
        codebook = move(codebook, *tallied, decay)
    np.testing.assert_allclose(codebook.vectors, centroids, atol=1e-5)


def test_a_new_codebook_is_negligible_against_the_first_batch():
    codebook = create_codebook(jax.random.key(0), 4, 5)
    np.testing.assert_allclose(np.std(create_codebook(jax.random.key(1), 400, 5).vectors), 1, rtol=0.1)
    flat, assignment = Z.reshape(-1, 5), np.arange(24) % 3
    moved = move(codebook, *tally(jnp.asarray(flat), jnp.asarray(members(assignment, 4))), 0.99)
    centroids = np.stack([flat[assignment == k].mean(0) for k in range(3)])
    np.testing.assert_allclose(moved.vectors[:3], centroids, atol=1e-3)


def test_vectors_of_unused_codes_are_finite():
    codebook = Codebook(jnp.asarray([0.5, 0.5, 0.0]), jnp.asarray([[1.0], [2.0], [0.0]]))
    np.testing.assert_allclose(codebook.vectors, [[2.0], [4.0], [0.0]], rtol=1e-5)


def test_dead_codes_are_reset_and_others_kept():
    usage, total = jnp.asarray([0.5, 0.02, 0.48, 0.0]), jnp.asarray(np.float32(DRAW.normal(size=(4, 5))))
    candidates = jnp.asarray(np.float32(DRAW.normal(size=(4, 5))))
    before = Codebook(usage, total)
    after, dead = revive(before, candidates, 0.1)  # uniform usage is 0.25, so codes below 0.025 are dead
    np.testing.assert_array_equal(dead, [False, True, False, True])
    np.testing.assert_array_equal(after.usage, np.float32([0.5, 0.05, 0.48, 0.05]))
    np.testing.assert_allclose(after.vectors[dead], candidates[dead], rtol=1e-5)
    np.testing.assert_allclose(after.vectors[~dead], before.vectors[~dead], rtol=1e-5)
    kept, dead = revive(before, candidates, 0.0)
    assert not np.any(dead) and np.array_equal(kept.total, total)


def test_a_collapsed_codebook_recovers():
    """Eight clusters and one code near them: with resets each cluster gets its own code, without them only one code
    is used."""
    centres = np.float32(10 * np.eye(8))
    z = jnp.asarray(np.repeat(centres, 4, 0) + np.float32(0.01 * DRAW.normal(size=(32, 8))))
    far = np.float32(np.concatenate([np.ones((1, 8)), np.full((31, 8), 1e3)]))
    used = {}
    for threshold in (0.1, 0.0):
        codebook = Codebook(jnp.full(32, 1 / 32), jnp.asarray(far / 32))
        for step in range(6):
            codes, _, _ = quantize(z[:, None], codebook.vectors)
            codebook = move(codebook, *tally(z, jnp.asarray(members(codes[:, 0], 32))), 0.1)
            codebook, _ = revive(codebook, z[np.random.default_rng(step).integers(0, 32, 32)], threshold)
        codes = np.asarray(quantize(z[:, None], codebook.vectors)[0]).reshape(8, 4)
        used[threshold] = len(np.unique(codes))
        if threshold:
            assert all(not set(a) & set(b) for i, a in enumerate(codes) for b in codes[:i])
    assert used[0.0] == 1 and used[0.1] >= 8


def test_perplexity():
    np.testing.assert_allclose(perplexity(jnp.full(11, 1 / 11)), 11, rtol=1e-6)
    np.testing.assert_allclose(perplexity(jnp.asarray([0.0, 1.0, 0.0])), 1, rtol=1e-6)
    p = DRAW.dirichlet(np.ones(9))
    np.testing.assert_allclose(perplexity(jnp.asarray(p)), 2 ** -np.sum(p * np.log2(p)), rtol=1e-5)
