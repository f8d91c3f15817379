"""Gradient penalties against closed forms, and against finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from productgen.losses import penalties
from productgen.losses.penalties import PENALTIES, dragan, gradient_norms, path_lengths, wgan_gp
from productgen.nets.stylegan2 import Synthesis, Widths

norms_of = jax.jit(gradient_norms, static_argnums=0)
KEY = jax.random.key(0)


def test_gradient_norm_of_a_linear_critic():
    rng = np.random.default_rng(0)
    weights, image = rng.normal(size=(4, 3, 2)), rng.normal(size=(5, 4, 3, 2))
    norms, logits = norms_of(lambda x: jnp.einsum('bhwc,hwc->b', x, weights) + 7, np.float32(image))
    np.testing.assert_allclose(norms, np.full(5, np.sum(weights**2)), rtol=1e-5)
    np.testing.assert_allclose(logits, np.einsum('bhwc,hwc->b', image, weights) + 7, rtol=1e-4)


def test_gradient_norms_match_finite_differences(float64):
    rng = np.random.default_rng(0)
    first, second, image = rng.normal(size=(12, 5)), rng.normal(size=5), rng.normal(size=(3, 2, 3, 2))
    critic = jax.jit(lambda x: jnp.tanh(x.reshape(len(x), -1) @ first) @ second)
    norms, _ = norms_of(critic, image)
    step, expected = 1e-5, np.zeros(3)
    for pixel in np.ndindex(2, 3, 2):
        shift = np.zeros((2, 3, 2))
        shift[pixel] = step
        expected += np.square((np.asarray(critic(image + shift)) - np.asarray(critic(image - shift))) / (2 * step))
    np.testing.assert_allclose(norms, expected, rtol=1e-7)


def test_derivatives_of_gradient_norms_match_finite_differences(float64):
    rng = np.random.default_rng(0)
    first, second, image = rng.normal(size=(12, 5)), rng.normal(size=5), rng.normal(size=(3, 2, 3, 2))

    @jax.jit
    def penalty(weights):
        return jnp.sum(gradient_norms(lambda x: jnp.tanh(x.reshape(len(x), -1) @ weights) @ second, image)[0])

    direction, step = rng.normal(size=first.shape), 1e-5
    slope = (penalty(first + step * direction) - penalty(first - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(jax.jit(jax.grad(penalty))(first) * direction), slope, rtol=1e-7)


def test_gradient_norms_of_bfloat16_images_are_float32():
    image = np.full((2, 16, 16, 3), 0.1, jnp.bfloat16)
    norms, _ = norms_of(lambda x: jnp.sum(x.astype(jnp.float32), (1, 2, 3)), image)
    assert norms.dtype == jnp.float32
    np.testing.assert_array_equal(norms, [768, 768])  # a sum in bfloat16 stops at 256


def linear(weights):
    return lambda x: jnp.einsum('bhwc,hwc->b', x, weights)


def test_penalties_of_a_linear_critic():
    rng = np.random.default_rng(0)
    weights, (real, fake) = rng.normal(size=(4, 3, 2)), np.float32(rng.normal(size=(2, 5, 4, 3, 2)))
    square = np.sum(weights**2)
    one = (np.sqrt(square) - 1) ** 2
    expected = {'r1': square / 2, 'r2': square / 2, 'r1_r2': square, 'wgan_gp': one, 'dragan': one}
    assert set(expected) == set(PENALTIES)
    everything = lambda *args: {name: PENALTIES[name](linear(weights), *args) for name in expected}
    got = jax.jit(everything)(real, fake, jax.random.split(KEY, 5))
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], np.full(5, value), rtol=1e-4, err_msg=name)


def test_penalties_are_evaluated_at_the_right_points():
    """The gradient of the critic |x|^2 / 2 is the image itself, which shows where it was evaluated."""
    rng = np.random.default_rng(1)
    real, fake = np.float32(rng.normal(size=(2, 6, 4, 3, 2)))
    keys = jax.random.split(KEY, 6)
    critic = lambda x: jnp.sum(jnp.square(x), (1, 2, 3)) / 2
    square = lambda x: np.sum(np.square(x), (1, 2, 3))
    everything = lambda *args: [PENALTIES[name](critic, *args) for name in ('r1', 'r2', 'wgan_gp')]
    r1, r2, gp = jax.jit(everything)(real, fake, keys)
    np.testing.assert_allclose(r1, square(real) / 2, rtol=1e-4)
    np.testing.assert_allclose(r2, square(fake) / 2, rtol=1e-4)
    # WGAN-GP: |gradient| matches some interpolation of the two images, a different one for each pair.
    size = np.sqrt(gp) + 1  # all are longer than 1
    fractions = np.linspace(0, 1, 20001)[:, None, None, None]
    found = []
    for i in range(6):
        sizes = np.sqrt(square(fractions * real[i] + (1 - fractions) * fake[i]))
        assert np.abs(sizes - size[i]).min() < 1e-3
        found.append(int(np.abs(sizes - size[i]).argmin()))
    assert len(set(found)) == 6


def test_wgan_gp_interpolates_by_a_uniform_fraction_of_the_real_image(monkeypatch):
    monkeypatch.setattr(penalties, '_distance_from_one', lambda logits_fn, image: image)
    keys = jax.random.split(jax.random.key(0), 500)
    one, zero = np.ones((500, 1, 1, 1), np.float32), np.zeros((500, 1, 1, 1), np.float32)
    both = jax.jit(lambda keys: (wgan_gp(None, one, zero, keys).ravel(), jax.vmap(jax.random.uniform)(keys)))
    fraction, expected = both(keys)
    np.testing.assert_array_equal(fraction, expected)
    np.testing.assert_allclose(np.quantile(fraction, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_dragan_perturbs_real_images_by_scaled_uniform_noise(monkeypatch):
    """x + alpha u std / 2, with std of the batch, u per pixel and alpha per image uniform in [0, 1)."""
    monkeypatch.setattr(penalties, '_distance_from_one', lambda logits_fn, image: image)
    rng = np.random.default_rng(2)
    real = np.float32(rng.normal(size=(2000, 8, 8, 3)) * np.where(np.arange(2000) % 2, 0.1, 1)[:, None, None, None])
    perturbed = jax.jit(lambda real: dragan(None, real, None, jax.random.split(KEY, 2000)))(real)
    noise = (np.asarray(perturbed, np.float64) - real) / (0.5 * real.std(dtype=np.float64))  # alpha u
    assert -1e-5 < noise.min() < 0.01 and 0.9 < noise.max() < 1 + 1e-5
    np.testing.assert_allclose(noise.mean(), 1 / 4, rtol=0.05)
    np.testing.assert_allclose(noise.var((1, 2, 3)).mean(), 1 / 36, rtol=0.05)  # E alpha^2 var u: within an image
    np.testing.assert_allclose(noise.mean((1, 2, 3)).std(), np.sqrt(1 / 48), rtol=0.05)  # std alpha E u: between images


def test_wgan_gp_has_a_finite_gradient_where_that_of_the_critic_vanishes():
    image, keys = np.zeros((2, 2, 2, 1), np.float32), jax.random.split(KEY, 2)
    penalty = lambda weights: jnp.sum(wgan_gp(linear(weights), image, image, keys))
    value, slope = jax.jit(jax.value_and_grad(penalty))(np.zeros((2, 2, 1), np.float32))
    np.testing.assert_allclose(value, 2, rtol=1e-4)
    assert np.isfinite(slope).all()


def test_path_lengths_of_a_linear_synthesis_network():
    """|J^T y| with y normal divided by the root of the number of pixels; root mean square over layers."""
    rng = np.random.default_rng(0)
    layers, width, height, breadth = 3, 4, 2, 5
    jacobian = rng.normal(size=(height, breadth, 3, layers, width))
    ws, noise = rng.normal(size=(6, layers, width)), rng.normal(size=(6, height, breadth, 3))
    synthesize = lambda ws: jnp.einsum('hwclk,blk->bhwc', jacobian, ws)
    lengths = jax.jit(path_lengths, static_argnums=0)(synthesize, np.float32(ws), np.float32(noise))
    for sample in range(6):
        pulled = np.tensordot(noise[sample] / np.sqrt(height * breadth), jacobian, 3)  # [L, W]
        expected = np.sqrt(np.mean([np.sum(pulled[layer] ** 2) for layer in range(layers)]))
        np.testing.assert_allclose(lengths[sample], expected, rtol=1e-5)


def test_path_lengths_of_stylegan2_match_finite_differences(float64):
    synthesis = Synthesis((4, 3), Widths(64, 8, 1, 0))
    rng = np.random.default_rng(0)
    ws, noise = rng.normal(size=(2, synthesis.widths.num_latents, 4)), rng.normal(size=(2, 8, 6, 3))
    keys = jax.random.split(jax.random.key(0), 2)
    shapes = jax.eval_shape(synthesis.init, KEY, ws, keys)['params']
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), shapes)
    synthesize = lambda ws, keys: synthesis.apply({'params': params}, ws, keys)
    lengths = jax.jit(lambda ws: path_lengths(lambda ws: synthesize(ws, keys), ws, noise))(ws)
    assert lengths.dtype == jnp.float64

    step, shifts = 1e-6, np.eye(ws[0].size).reshape(-1, *ws[0].shape)  # one latent coordinate at a time
    project = jax.jit(lambda ws, key, y: jnp.sum(synthesize(ws, jnp.repeat(key[None], len(ws))) * y, (1, 2, 3)))
    for i in range(2):
        up, down = (project(ws[i] + sign * step * shifts, keys[i], noise[i] / np.sqrt(8 * 6)) for sign in (1, -1))
        squares = np.square((np.asarray(up) - np.asarray(down)) / (2 * step)).reshape(ws[0].shape)
        np.testing.assert_allclose(lengths[i], np.sqrt(squares.sum(1).mean()), rtol=1e-6)
