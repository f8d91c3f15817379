"""The Gaussian algebra of diffusion: noise schedules, predictions, losses' weights and reverse steps.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (DDPM); Song et al., "Denoising Diffusion Implicit
Models", ICLR 2021 (DDIM); Nichol & Dhariwal, "Improved Denoising Diffusion Probabilistic Models", ICML 2021; Salimans &
Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022.

Times run from 0 (the data) to T (noise): q(x_t | x_0) = N(sqrt(a_t) x_0, (1 - a_t) I), where a_t, written alpha-bar in
DDPM, is the product of the first t values 1 - beta. How far a picture has been diffused is told by `log_bar` = log a_t
throughout, broadcastable to it: signal and noise both follow from it without cancellation, however small they are.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

PREDICTIONS = ('epsilon', 'v')


def linear_betas(steps: int) -> jax.Array:
    """Betas [T] from 1e-4 to 0.02 (DDPM, section 4), scaled by 1000 / T so that any T ends in the same noise."""
    return jnp.minimum(jnp.linspace(1e-4, 0.02, steps) * (1000 / steps), 0.999)


def cosine_betas(steps: int) -> jax.Array:
    """Betas [T] of a_t = f(t) / f(0), f(t) = cos^2 of (t / T + s) / (1 + s) pi / 2, s = 0.008, at most 0.999.

    Nichol & Dhariwal, eq. 17; 1 - f(t + 1) / f(t) is written by cos^2 u - cos^2 (u + d) = sin d sin(2u + d).
    """
    s = 0.008
    d = jnp.pi / 2 / (1 + s) / steps
    u = (jnp.arange(steps) / steps + s) / (1 + s) * jnp.pi / 2
    return jnp.minimum(jnp.sin(d) * jnp.sin(2 * u + d) / jnp.square(jnp.cos(u)), 0.999)


SCHEDULES: dict[str, Callable[[int], jax.Array]] = {'linear': linear_betas, 'cosine': cosine_betas}


def log_alpha_bar(betas: jax.Array) -> jax.Array:
    """log a_t of all times, [T] -> [T + 1], 0 at the data."""
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.log1p(-betas))])


def signal_noise(log_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sqrt(a) and sqrt(1 - a)."""
    return jnp.exp(log_bar / 2), jnp.sqrt(-jnp.expm1(log_bar))


def q_sample(x0: jax.Array, epsilon: jax.Array, log_bar: jax.Array) -> jax.Array:
    """The data x_0 with the noise of a time (DDPM, eq. 4)."""
    signal, noise = signal_noise(log_bar)
    return signal * x0 + noise * epsilon


def target(prediction: str, x0: jax.Array, epsilon: jax.Array, log_bar: jax.Array) -> jax.Array:
    """What the network predicts: `epsilon`, or v = sqrt(a) epsilon - sqrt(1 - a) x_0 (Salimans & Ho, section 4)."""
    signal, noise = signal_noise(log_bar)
    return epsilon if prediction == 'epsilon' else signal * epsilon - noise * x0


def to_x0(prediction: str, output: jax.Array, x: jax.Array, log_bar: jax.Array) -> jax.Array:
    """The data that a prediction for x_t means; the inverse of `target`."""
    signal, noise = signal_noise(log_bar)
    return (x - noise * output) / signal if prediction == 'epsilon' else signal * x - noise * output


def to_epsilon(x0: jax.Array, x: jax.Array, log_bar: jax.Array) -> jax.Array:
    """The noise in x_t if the data are x_0; t > 0."""
    signal, noise = signal_noise(log_bar)
    return (x - signal * x0) / noise


def min_snr_weight(prediction: str, log_bar: jax.Array, limit: float) -> jax.Array:
    """Weight of the squared error of a prediction under which that of x_0 has min(SNR, limit).

    Hang et al., "Efficient Diffusion Training via Min-SNR Weighting Strategy", ICCV 2023, section 3.4; limit 5 there.
    """
    signal, noise = signal_noise(log_bar)
    snr = jnp.square(signal / noise)
    return jnp.minimum(snr, limit) / (snr if prediction == 'epsilon' else snr + 1)


def step_beta(now: jax.Array, then: jax.Array) -> jax.Array:
    """Variance that noising adds from an earlier time on: beta_t if `then` is the time just before `now`."""
    return -jnp.expm1(now - then)


def posterior(x0: jax.Array, x: jax.Array, now: jax.Array, then: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance of q(x_s | x_t, x_0), s < t (DDPM, eq. 7, for any earlier time s).

    Args:
      x0: the data.
      x: x_t.
      now: log a_t.
      then: log a_s.
    """
    share = jnp.expm1(then) / jnp.expm1(now)  # (1 - a_s) / (1 - a_t)
    beta = step_beta(now, then)
    mean = jnp.exp(then / 2) * beta / -jnp.expm1(now) * x0 + jnp.exp((now - then) / 2) * share * x
    return mean, share * beta


def ddim_step(
    x0: jax.Array, x: jax.Array, now: jax.Array, then: jax.Array, eta: float, z: jax.Array | float
) -> jax.Array:
    """x_s from x_t (DDIM, eq. 12 and 16).

    Args:
      x0: the data as predicted from x_t.
      x: x_t.
      now: log a_t.
      then: log a_s, s < t.
      eta: 0 for the deterministic step; 1 for a sample of `posterior`.
      z: standard normal; of no influence where eta is 0.
    """
    variance = eta**2 * jnp.expm1(then) / jnp.expm1(now) * step_beta(now, then)
    direction = jnp.sqrt(jnp.maximum(-jnp.expm1(then) - variance, 0))
    return jnp.exp(then / 2) * x0 + direction * to_epsilon(x0, x, now) + jnp.sqrt(variance) * z
