"""Noise: Gaussian, Poisson, salt and pepper, and that of a camera's sensor."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from productgen.core.pixels import from_linear, to_linear
from productgen.core.rng import normal, streams


def _column(value: jax.Array | float, like: jax.Array) -> jax.Array:
    """A number, or one value a picture [B], as [B, 1, 1, 1]."""
    return jnp.broadcast_to(jnp.asarray(value, jnp.float32).reshape(-1, 1, 1, 1), (len(like), 1, 1, 1))


def gaussian(x: jax.Array, sigma: jax.Array | float, keys: jax.Array) -> jax.Array:
    """Adds white Gaussian noise.

    Args:
      x: [B, H, W, C].
      sigma: standard deviation in grey levels of 255, as papers give it; a number or [B].
      keys: [B].
    """
    return x + _column(sigma, x) / 255 * normal(keys, x.shape[1:])


def poisson(x: jax.Array, peak: jax.Array | float, keys: jax.Array) -> jax.Array:
    """Shot noise: counts of photons of mean `peak` x value, divided by `peak`.

    Args:
      x: [B, H, W, C]; values below 0 count as 0.
      peak: mean count of white, such as 30 (strong) to 1000 (weak); a number or [B].
      keys: [B].
    """
    peak = _column(peak, x)
    return _counts(jnp.maximum(x, 0) * peak, normal(keys, x.shape[1:])) / peak


def _counts(mean: jax.Array, z: jax.Array) -> jax.Array:
    """Poisson variables of given means, from standard normal ones by their quantiles.

    Exact for means up to 10; above, by the Cornish-Fisher expansion of second order (Abramowitz and Stegun 26.2.49),
    whose distribution function differs by at most 0.0015. Without a loop that rejects: `jax.random.poisson` took half
    the time of a training step on CPUs.
    """
    few = jnp.minimum(mean, 10.0)
    share = jax.scipy.special.ndtr(z)
    term = total = jnp.exp(-few)
    count = jnp.zeros_like(mean)
    for k in range(1, 32):  # beyond, 1e-8 is left
        count = count + (share > total).astype(mean.dtype)
        term = term * few / k
        total = total + term
    many = jnp.round(mean + jnp.sqrt(mean) * z + (z**2 - 1) / 6)
    return jnp.where(mean <= 10, count, jnp.maximum(many, 0))


def salt_and_pepper(x: jax.Array, amount: jax.Array | float, keys: jax.Array) -> jax.Array:
    """Sets a fraction of the pixels to white or black, each half of them, in all channels.

    Args:
      x: [B, H, W, C].
      amount: expected fraction of pixels, 0 to 1; a number or [B].
      keys: [B].
    """
    shape = (*x.shape[1:3], 1)
    chance = jax.vmap(lambda key: jax.random.uniform(key, shape))(keys)
    amount = _column(amount, x)
    return jnp.where(chance < amount / 2, 0.0, jnp.where(chance < amount, 1.0, x))


def camera(x: jax.Array, shot: jax.Array | float, read: jax.Array | float, keys: jax.Array) -> jax.Array:
    """Noise of a sensor: in linear light, of variance `shot` x value + `read`, before the sRGB curve.

    Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019, section 3.1, without their mosaic and
    white balance: a shop's camera has applied these before its JPEG. They give shot noise from 1e-4 to 1.2e-2 and read
    noise from about 1e-6 to 1e-3 of full scale squared.

    Args:
      x: [B, H, W, C].
      shot: a number or [B].
      read: a number or [B].
      keys: [B].

    Returns:
      [B, H, W, C], clipped to [0, 1] as a sensor does.
    """
    light = to_linear(jnp.clip(x, 0, 1))
    deviation = jnp.sqrt(_column(shot, x) * light + _column(read, x))
    return from_linear(jnp.clip(light + deviation * normal(streams(keys, 'sensor'), x.shape[1:]), 0, 1))
