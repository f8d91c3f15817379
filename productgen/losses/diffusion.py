"""Gaussian diffusion: noise schedules, prediction targets, loss weights and reverse steps.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (DDPM); Song et al., "Denoising Diffusion Implicit
Models", ICLR 2021 (DDIM); Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021; Salimans &
Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022.

Times run from 0 (data) to T (noise): q(x_t | x_0) = N(sqrt(a_t) x_0, (1 - a_t) I), where a_t, alpha-bar in DDPM, is
the product of the first t values 1 - beta. Noise levels are given as `log_bar` = log a_t, broadcastable to the image:
signal and noise both follow from it without cancellation, however small they are.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

PREDICTIONS = ('epsilon', 'v')


def linear_betas(steps: int) -> jax.Array:
    """Betas [T], linear from 1e-4 to 0.02 (DDPM, section 4), times 1000 / T for the same final noise level at any T."""
    return jnp.minimum(jnp.linspace(1e-4, 0.02, steps) * (1000 / steps), 0.999)


def cosine_betas(steps: int) -> jax.Array:
    """Betas [T] of a_t = f(t) / f(0), f(t) = cos^2((t / T + s) / (1 + s) pi / 2), s = 0.008, at most 0.999.

    Nichol & Dhariwal, eq. 17; 1 - f(t + 1) / f(t) is computed by cos^2 u - cos^2 (u + d) = sin d sin(2u + d).
    """
    s = 0.008
    d = jnp.pi / 2 / (1 + s) / steps
    u = (jnp.arange(steps) / steps + s) / (1 + s) * jnp.pi / 2
    return jnp.minimum(jnp.sin(d) * jnp.sin(2 * u + d) / jnp.square(jnp.cos(u)), 0.999)


SCHEDULES: dict[str, Callable[[int], jax.Array]] = {'linear': linear_betas, 'cosine': cosine_betas}


def log_alpha_bar(betas: jax.Array) -> jax.Array:
    """Computes log a_t of all times, betas [T] -> [T + 1]; 0 at t = 0."""
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.log1p(-betas))])


def signal_noise(log_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes sqrt(a) and sqrt(1 - a)."""
    return jnp.exp(log_bar / 2), jnp.sqrt(-jnp.expm1(log_bar))


def q_sample(x0: jax.Array, epsilon: jax.Array, log_bar: jax.Array) -> jax.Array:
    """Samples x_t from x_0 and normal noise `epsilon` (DDPM, eq. 4)."""
    signal, noise = signal_noise(log_bar)
    return signal * x0 + noise * epsilon


def target(prediction: str, x0: jax.Array, epsilon: jax.Array, log_bar: jax.Array) -> jax.Array:
    """Prediction target: epsilon, or v = sqrt(a) epsilon - sqrt(1 - a) x_0 (Salimans & Ho, section 4)."""
    signal, noise = signal_noise(log_bar)
    return epsilon if prediction == 'epsilon' else signal * epsilon - noise * x0


def to_x0(prediction: str, output: jax.Array, x: jax.Array, log_bar: jax.Array) -> jax.Array:
    """Converts the prediction for x_t to one of x_0; inverts `target`."""
    signal, noise = signal_noise(log_bar)
    return (x - noise * output) / signal if prediction == 'epsilon' else signal * x - noise * output


def to_epsilon(x0: jax.Array, x: jax.Array, log_bar: jax.Array) -> jax.Array:
    """Computes the noise in x_t given x_0, for t > 0."""
    signal, noise = signal_noise(log_bar)
    return (x - signal * x0) / noise


def min_snr_weight(prediction: str, log_bar: jax.Array, limit: float) -> jax.Array:
    """Weight of the squared error of a prediction that equals a weight min(SNR, limit) on the error of x_0.

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023, section 3.4; limit 5 there.
    """
    signal, noise = signal_noise(log_bar)
    snr = jnp.square(signal / noise)
    return jnp.minimum(snr, limit) / (snr if prediction == 'epsilon' else snr + 1)


def step_beta(log_bar_t: jax.Array, log_bar_s: jax.Array) -> jax.Array:
    """Variance added by the forward process between times s < t: beta_t for consecutive times."""
    return -jnp.expm1(log_bar_t - log_bar_s)


def posterior(x0: jax.Array, x: jax.Array, log_bar_t: jax.Array, log_bar_s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of q(x_s | x_t, x_0), s < t (DDPM, eq. 7, for any earlier time s).

    Args:
      x0: x_0.
      x: x_t.
      log_bar_t: log a_t.
      log_bar_s: log a_s.
    """
    ratio = jnp.expm1(log_bar_s) / jnp.expm1(log_bar_t)  # (1 - a_s) / (1 - a_t)
    beta = step_beta(log_bar_t, log_bar_s)
    mean = jnp.exp(log_bar_s / 2) * beta / -jnp.expm1(log_bar_t) * x0 + jnp.exp((log_bar_t - log_bar_s) / 2) * ratio * x
    return mean, ratio * beta


def ddim_step(
    x0: jax.Array, x: jax.Array, log_bar_t: jax.Array, log_bar_s: jax.Array, eta: float, z: jax.Array | float
) -> jax.Array:
    """Computes x_s from x_t (DDIM, eq. 12 and 16).

    Args:
      x0: x_0 as predicted from x_t.
      x: x_t.
      log_bar_t: log a_t.
      log_bar_s: log a_s, s < t.
      eta: 0 for the deterministic step; 1 for a sample of `posterior`.
      z: standard normal noise; no effect if eta is 0.
    """
    variance = eta**2 * jnp.expm1(log_bar_s) / jnp.expm1(log_bar_t) * step_beta(log_bar_t, log_bar_s)
    direction = jnp.sqrt(jnp.maximum(-jnp.expm1(log_bar_s) - variance, 0))
    return jnp.exp(log_bar_s / 2) * x0 + direction * to_epsilon(x0, x, log_bar_t) + jnp.sqrt(variance) * z
