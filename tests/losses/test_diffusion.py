"""Gaussian diffusion against NumPy in float64, Bayes' rule on a grid, and analytic distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from productgen.losses import diffusion as gauss

T = 1000


def betas64(name, steps):
    """Schedules as written in the papers."""
    if name == 'linear':
        return np.minimum(np.linspace(1e-4, 0.02, steps) * 1000 / steps, 0.999)
    f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


def bars64(name, steps=T):
    return np.concatenate([[1.0], np.cumprod(1 - betas64(name, steps))])


@pytest.mark.parametrize('name', gauss.SCHEDULES)
@pytest.mark.parametrize('steps', [T, 100])
def test_alpha_bar_matches_the_papers(name, steps):
    log_bar = gauss.log_alpha_bar(gauss.SCHEDULES[name](steps))
    signal, noise = gauss.signal_noise(log_bar)
    expected = bars64(name, steps)
    assert log_bar.shape == (steps + 1,)
    np.testing.assert_allclose(signal**2, expected, rtol=2e-3, atol=1e-9)
    np.testing.assert_allclose(signal[: steps // 2] ** 2, expected[: steps // 2], rtol=1e-5)
    np.testing.assert_allclose(noise**2, 1 - expected, rtol=2e-5)  # also where it is as small as 4e-5


def test_schedules_have_the_published_end_points():
    linear = np.asarray(gauss.linear_betas(T))
    np.testing.assert_allclose(linear[[0, -1]], [1e-4, 0.02], rtol=1e-5)
    bar = np.exp(gauss.log_alpha_bar(gauss.linear_betas(T))[-1])
    np.testing.assert_allclose(bar, 4.0e-5, rtol=0.02)  # its root, 0.006, is the remaining signal
    assert np.isclose(gauss.cosine_betas(T)[-1], 0.999)


@pytest.mark.parametrize('name', gauss.SCHEDULES)
def test_betas_of_few_steps_are_clipped(name):
    betas = gauss.SCHEDULES[name](10)
    assert np.isclose(betas[-1], 0.999) and np.isfinite(gauss.log_alpha_bar(betas)).all()


@pytest.mark.parametrize('prediction', gauss.PREDICTIONS)
@pytest.mark.parametrize('t', [1, 200, 700])
def test_predictions_convert_back_to_x0_and_epsilon(prediction, t):
    draw = np.random.default_rng(t)
    x0, epsilon = np.float32(draw.normal(size=(2, 3, 4, 4, 2)))
    log_bar = jnp.log(jnp.float32(bars64('cosine')[t]))
    x = gauss.q_sample(x0, epsilon, log_bar)
    signal, noise = np.sqrt(bars64('cosine')[t]), np.sqrt(1 - bars64('cosine')[t])
    np.testing.assert_allclose(x, signal * x0 + noise * epsilon, atol=1e-5)
    output = gauss.target(prediction, x0, epsilon, log_bar)
    expected = epsilon if prediction == 'epsilon' else signal * epsilon - noise * x0
    np.testing.assert_allclose(output, expected, atol=1e-4)
    np.testing.assert_allclose(gauss.to_x0(prediction, output, x, log_bar), x0, atol=1e-4)
    np.testing.assert_allclose(gauss.to_epsilon(x0, x, log_bar), epsilon, atol=2e-3)


@pytest.mark.parametrize('t, s', [(1, 0), (2, 1), (300, 299), (300, 120), (1000, 999)])
def test_posterior_matches_bayes_rule_on_a_grid(t, s):
    """q(x_s | x_t, x_0) is proportional to q(x_t | x_s) q(x_s | x_0)."""
    bar = bars64('linear')
    x0, x = 0.7, -0.4
    mean, variance = gauss.posterior(x0, x, jnp.float32(np.log(bar[t])), jnp.float32(np.log(bar[s])))
    if s == 0:
        np.testing.assert_allclose([mean, variance], [x0, 0], atol=1e-6)
        return
    grid = np.linspace(-12, 12, 400_001)
    ratio = bar[t] / bar[s]
    log = -((x - np.sqrt(ratio) * grid) ** 2) / (2 * (1 - ratio)) - (grid - np.sqrt(bar[s]) * x0) ** 2 / 2 / (
        1 - bar[s]
    )
    mass = np.exp(log - log.max())
    mass /= mass.sum()
    expected = np.sum(mass * grid)
    np.testing.assert_allclose(mean, expected, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(variance, np.sum(mass * (grid - expected) ** 2), rtol=2e-3)


@pytest.mark.parametrize('t, s', [(1, 0), (500, 499), (900, 400)])
def test_ddim_with_eta_one_samples_the_posterior(t, s):
    bar = bars64('cosine')
    now, then = jnp.log(jnp.float32(bar[[t, s]]))
    x0, x, z = jnp.asarray([0.3, -0.9]), jnp.asarray([1.2, 0.1]), jnp.asarray([0.5, -1.5])
    mean, variance = gauss.posterior(x0, x, now, then)
    np.testing.assert_allclose(
        gauss.ddim_step(x0, x, now, then, 1.0, z), mean + jnp.sqrt(variance) * z, rtol=1e-4, atol=1e-5
    )
    # Song et al., equation 16, with eta 0.5.
    sigma = 0.5 * np.sqrt((1 - bar[s]) / (1 - bar[t])) * np.sqrt(1 - bar[t] / bar[s])
    two = [gauss.ddim_step(x0, x, now, then, 0.5, w) for w in (1.0, 0.0)]
    np.testing.assert_allclose(two[0] - two[1], sigma, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('eta', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('name', gauss.SCHEDULES)
def test_sampling_with_the_exact_score_of_a_gaussian_gives_that_gaussian(name, eta):
    """For data N(m, d^2), E[x_0 | x_t] is linear in x_t, so samples stay Gaussian with known moments."""
    m, d = 0.6, 0.3
    log_bar = gauss.log_alpha_bar(gauss.SCHEDULES[name](T))

    def denoised(x, now):
        signal, noise = gauss.signal_noise(now)
        return m + signal * d**2 / (signal**2 * d**2 + noise**2) * (x - signal * m)

    @jax.jit
    def sample(x, z):
        def step(i, x):
            now, then = log_bar[T - i], log_bar[T - i - 1]
            return gauss.ddim_step(denoised(x, now), x, now, then, eta, z[i])

        return jax.lax.fori_loop(0, T, step, x)

    draw = np.random.default_rng(0)
    start, noise = np.float32(draw.normal(size=4000)), np.float32(draw.normal(size=(T, 4000)))
    samples = np.asarray(sample(start, noise))
    error = 4 * d / np.sqrt(4000)  # four standard errors
    assert abs(samples.mean() - m) < error + 0.002
    assert abs(samples.std() - d) < error / np.sqrt(2) + 0.003
    if eta == 0:  # a deterministic linear map: N(0, 1) to N(m, d^2)
        np.testing.assert_allclose(samples, m + d * start, atol=0.015)


def test_min_snr_bounds_the_weight_of_x0():
    bar = bars64('cosine')[[1, 100, 500, 900]]
    log_bar, snr = jnp.log(jnp.float32(bar)), bar / (1 - bar)
    np.testing.assert_allclose(gauss.min_snr_weight('epsilon', log_bar, 5.0), np.minimum(5 / snr, 1), rtol=2e-3)
    # |v - v'|^2 = (SNR + 1) |x_0 - x_0'|^2
    np.testing.assert_allclose(gauss.min_snr_weight('v', log_bar, 5.0) * (snr + 1), np.minimum(snr, 5.0), rtol=2e-3)
