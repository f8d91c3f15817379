"""Likelihoods and divergences against SciPy, closed forms and analytic models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from productgen.losses import elbo
from productgen.losses.elbo import LIKELIHOODS, bits_per_dim, by_group, free_bits

DRAW = np.random.default_rng(0)
VALUES = np.arange(256) / 127.5 - 1  # every 8-bit value
COMPILED = {
    name: one._replace(
        log_prob=jax.jit(one.log_prob), mean=jax.jit(one.mean), log_mass=one.log_mass and jax.jit(one.log_mass)
    )
    for name, one in LIKELIHOODS.items()
}
gaussian_kl = jax.jit(elbo.gaussian_kl)
gaussian, discretized_gaussian = COMPILED['gaussian'].log_prob, COMPILED['gaussian'].log_mass
EACH = pytest.mark.parametrize('name', sorted(LIKELIHOODS))
MASSES = pytest.mark.parametrize('name', sorted(name for name, one in LIKELIHOODS.items() if one.log_mass))


def table(locations):
    """All pairs of values and locations as images of one pixel, [256 n, 1, 1, 1] each."""
    image, location = np.meshgrid(VALUES, locations)
    return image.reshape(-1, 1, 1, 1), location.reshape(-1, 1, 1, 1)


# Divergences.


def test_divergence_of_two_gaussians_matches_the_closed_form(x64):
    m, p, s, t = DRAW.normal(size=(4, 50))
    expected = np.log(np.exp(t / 2) / np.exp(s / 2)) + (np.exp(s) + (m - p) ** 2) / (2 * np.exp(t)) - 0.5
    np.testing.assert_allclose(gaussian_kl(m, s, p, t), expected, rtol=1e-9)
    unit = 0.5 * (np.exp(s) + m**2 - 1 - s)  # Kingma and Welling 2014, appendix B
    np.testing.assert_allclose(gaussian_kl(m, s), unit, rtol=1e-9)


def test_divergence_matches_a_monte_carlo_estimate(x64):
    q, p = scipy.stats.norm(0.7, np.exp(-0.2)), scipy.stats.norm(-0.3, np.exp(0.3))
    x = q.rvs(400_000, random_state=1)
    ratios = q.logpdf(x) - p.logpdf(x)
    error = ratios.std() / np.sqrt(len(x))
    assert abs(float(gaussian_kl(np.float64(0.7), np.float64(-0.4), -0.3, 0.6)) - ratios.mean()) < 4 * error


def test_divergence_is_zero_for_equal_gaussians_and_accurate_for_small_differences():
    x = np.float32([0.3, -2.0])
    np.testing.assert_array_equal(gaussian_kl(x, x, x, x), np.zeros(2))
    small = np.float32([1e-4])
    np.testing.assert_allclose(gaussian_kl(np.zeros(1, 'f4'), small), 0.25e-8, rtol=0.15)


def test_divergence_of_different_shapes_raises():
    with pytest.raises(ValueError, match='the same shape'):
        gaussian_kl(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(ValueError, match='the same shape'):
        gaussian_kl(np.zeros(4), np.zeros(4), np.zeros((4, 1)))


def test_groups_are_dimensions_of_vectors_and_channels_of_maps():
    kl = DRAW.uniform(size=(2, 4, 3, 5)).astype('f4')
    np.testing.assert_allclose(by_group(kl), kl.sum((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(by_group(kl[:, 0, 0]), kl[:, 0, 0])


def test_free_bits_bound_each_group_and_stop_its_gradient():
    kl = np.float32([[0.1, 2.0], [0.3, 4.0]])  # means 0.2 and 3
    assert free_bits(kl, 0.5) == pytest.approx(3.5)
    assert free_bits(kl, 0.0) == pytest.approx(3.2)
    np.testing.assert_allclose(jax.jit(jax.grad(free_bits))(kl, 0.5), [[0, 0.5], [0, 0.5]])
    assert free_bits(np.float32([[0.1], [0.9]]), 0.3) == pytest.approx(0.5)  # the mean is inside the maximum
    with pytest.raises(ValueError):
        free_bits(kl[0], 0.5)


# Likelihoods.


def test_gaussian_matches_scipy(x64):
    image, location = DRAW.normal(size=(2, 3, 4, 2, 3))
    for log_scale in (-3.0, 0.4, DRAW.normal(size=image.shape)):
        expected = scipy.stats.norm(location, np.exp(log_scale)).logpdf(image).sum((1, 2, 3))
        np.testing.assert_allclose(gaussian(image, location, log_scale), expected, rtol=1e-10)


def test_bernoulli_of_binary_images_matches_scipy(x64):
    image, logits = DRAW.integers(0, 2, size=(3, 4, 2, 3)), 3 * DRAW.normal(size=(3, 4, 2, 3))
    expected = scipy.stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(image).sum((1, 2, 3))
    np.testing.assert_allclose(COMPILED['bernoulli'].log_prob(2.0 * image - 1, logits), expected, rtol=1e-9)
    np.testing.assert_allclose(COMPILED['bernoulli'].mean(logits), 2 / (1 + np.exp(-logits)) - 1, rtol=1e-9)


@MASSES
@pytest.mark.parametrize('log_scale', [-6.0, -3.0, -1.0, 1.0])
def test_masses_of_all_values_sum_to_one(name, log_scale, x64):
    image, location = table([-1.3, -1.0, -0.2, 0.001, 0.7, 1.0, 2.0])
    mass = np.exp(COMPILED[name].log_mass(image, location, log_scale)).reshape(-1, 256)
    np.testing.assert_allclose(mass.sum(1), 1, rtol=1e-9)


@MASSES
def test_masses_are_differences_of_the_distribution_function(name, x64):
    scale, locations = 0.05, [-0.9, 0.02, 0.4]
    image, location = table(locations)
    law = {'gaussian': scipy.stats.norm, 'discretized_logistic': scipy.stats.logistic}[name](location.ravel(), scale)
    x = image.ravel()
    upper = np.where(x > 0.999, np.inf, x + 1 / 255)
    lower = np.where(x < -0.999, -np.inf, x - 1 / 255)
    expected = law.cdf(upper) - law.cdf(lower)
    accurate = expected > 1e-6  # in the upper tail the difference cancels
    assert accurate.mean() > 0.2
    value = np.asarray(COMPILED[name].log_mass(image, location, np.log(scale)))
    np.testing.assert_allclose(value[accurate], np.log(expected[accurate]), rtol=1e-8)


def test_gaussian_mass_in_the_tails_is_the_integral_of_its_density(x64):
    """In both tails, where the mass is below machine epsilon."""
    for x, location in ((0.2, -0.8), (-0.2, 0.8)):
        x = np.round((x + 1) * 127.5) / 127.5 - 1
        grid = np.linspace(x - 1 / 255, x + 1 / 255, 20_001)
        density = scipy.stats.norm(location, 0.05).logpdf(grid)
        expected = density.max() + np.log(np.trapezoid(np.exp(density - density.max()), grid))
        value = discretized_gaussian(*(np.full((1, 1, 1, 1), v) for v in (x, location)), np.log(0.05))
        assert expected < -150
        np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_mass_of_wide_gaussians_is_density_times_bin_width(x64):
    image, location = (DRAW.uniform(-0.9, 0.9, size=(2, 4, 4, 3)) for _ in range(2))
    image = np.round((image + 1) * 127.5) / 127.5 - 1
    expected = np.asarray(gaussian(image, location, -0.5)) + image[0].size * np.log(2 / 255)
    np.testing.assert_allclose(discretized_gaussian(image, location, -0.5), expected, rtol=1e-6)


def test_a_uniform_image_has_eight_bits_per_dimension():
    assert bits_per_dim(np.log(1 / 256) * 12, 12) == pytest.approx(8)


@EACH
def test_likelihoods_by_name(name):
    """Each is the function of its name, uses the scale only if `scaled`, and shows the location of symmetric ones."""
    one = COMPILED[name]
    image, location = np.float32(VALUES[:48].reshape(1, 4, 4, 3)), np.float32(DRAW.normal(size=(1, 4, 4, 3)))
    values = [one.log_prob(image, location, log_scale) for log_scale in (0.0, 0.5)]
    np.testing.assert_array_equal(values[1], jax.jit(getattr(elbo, name))(image, location, 0.5))
    assert one.scaled == bool(values[0] != values[1])
    if name != 'bernoulli':
        np.testing.assert_array_equal(one.mean(location), location)


@EACH
def test_values_and_gradients_are_finite_at_extremes(name):
    image, location = table([-100.0, -1.0, 1 / 3, 100.0])
    image, location = np.float32(image), np.float32(location)
    one = LIKELIHOODS[name]
    for function in filter(None, (one.log_prob, one.log_mass)):
        total = lambda location, s, f=function: jnp.sum(f(image, location, s))
        slopes = jax.jit(jax.value_and_grad(total, (0, 1)))
        for log_scale in (-7.0, 7.0) if one.scaled else (0.0,):
            value, grads = slopes(location, np.float32(log_scale))
            assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)


@EACH
def test_likelihoods_of_different_shapes_raise(name):
    one = LIKELIHOODS[name]
    for function in filter(None, (one.log_prob, one.log_mass)):
        for shape in ((2, 4, 4, 1), (1, 4, 4, 3), (4, 4, 3)):
            with pytest.raises(ValueError, match='must both be'):
                jax.eval_shape(function, np.zeros((2, 4, 4, 3), 'f4'), np.zeros(shape, 'f4'), 0.0)


# The bound.


def test_the_bound_is_tight_only_at_the_posterior_of_a_linear_gaussian_model(x64):
    """x = W z + N(0, s^2), z = N(0, I): p(x) and the posterior are Gaussian, the latter with diagonal covariance where
    the columns of W are orthogonal."""
    columns, scale, latents = np.linalg.qr(DRAW.normal(size=(12, 3)))[0] * [0.5, 1.0, 2.0], 0.4, 3
    x = scipy.stats.multivariate_normal(np.zeros(12), columns @ columns.T + scale**2 * np.eye(12)).rvs(random_state=0)
    evidence = scipy.stats.multivariate_normal(np.zeros(12), columns @ columns.T + scale**2 * np.eye(12)).logpdf(x)
    variance = 1 / (1 + np.sum(columns**2, 0) / scale**2)
    mean = variance * (columns.T @ x) / scale**2

    # E_q of a quadratic function is its mean over the points mean +- sqrt(3) sigma e_i.
    def bound(mean, variance):
        shifts = np.sqrt(latents * variance) * np.concatenate([np.eye(latents), -np.eye(latents)])
        location = ((mean + shifts) @ columns.T).reshape(-1, 2, 2, 3)
        image = np.broadcast_to(x.reshape(1, 2, 2, 3), location.shape)
        log_prob = np.mean(gaussian(image, location, np.log(scale)))
        return log_prob - np.sum(gaussian_kl(mean, np.log(variance)))

    assert bound(mean, variance) == pytest.approx(evidence, abs=1e-9)
    for shift, factor in ((0.3, 1.0), (0.0, 2.0), (0.0, 0.5), (-0.1, 1.2)):
        q = scipy.stats.multivariate_normal(mean + shift, np.diag(factor * variance))
        assert bound(mean + shift, factor * variance) < evidence - 1e-3, q
