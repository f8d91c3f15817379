"""Gradient penalties of discriminators with respect to images, and path lengths of generators."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Logits = Callable[[jax.Array], jax.Array]  # images [B, H, W, C] -> logits [B]
Penalty = Callable[[Logits, jax.Array, jax.Array, jax.Array], jax.Array]


def gradient_norms(logits_fn: Logits, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes squared norms of the logits' gradients with respect to the images.

    Args:
      logits_fn: images [B, H, W, C] -> logits [B].
      image: [B, H, W, C].

    Returns:
      squared norms [B] and logits [B].
    """
    logits, pull = jax.vjp(logits_fn, image)
    (grad,) = pull(jnp.ones_like(logits))
    return jnp.sum(jnp.square(grad.astype(jnp.float32)), (1, 2, 3)), logits


def r1(logits_fn: Logits, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """R1: half the squared gradient norm at real images (Mescheder et al. 2018, equation 9)."""
    return 0.5 * gradient_norms(logits_fn, real)[0]


def r2(logits_fn: Logits, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """R2: half the squared gradient norm at fake images (Mescheder et al. 2018, equation 10)."""
    return 0.5 * gradient_norms(logits_fn, fake)[0]


def r1_r2(logits_fn: Logits, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """R1 + R2 (R3GAN, Huang et al. 2024, section 2.2)."""
    return r1(logits_fn, real, fake, keys) + r2(logits_fn, real, fake, keys)


def _distance_from_one(logits_fn: Logits, image: jax.Array) -> jax.Array:
    """Computes (|gradient| - 1)^2; an offset keeps the derivative of the root finite at gradient 0."""
    return jnp.square(jnp.sqrt(gradient_norms(logits_fn, image)[0] + 1e-12) - 1)


def wgan_gp(logits_fn: Logits, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """WGAN-GP: (|gradient| - 1)^2 at random interpolations of real and fake images (Gulrajani et al. 2017, eq. 3)."""
    fraction = jax.vmap(jax.random.uniform)(keys)[:, None, None, None]
    return _distance_from_one(logits_fn, fraction * real + (1 - fraction) * fake)


def dragan(logits_fn: Logits, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """DRAGAN: (|gradient| - 1)^2 at perturbed real images (Kodali et al. 2017, section 2.4).

    The perturbation is that of the authors' code: uniform noise per pixel, up to half the standard deviation of the
    batch (with `train.accumulate` of its part), times a uniform random factor per image.
    """

    def perturbation(key):
        factor, noise = jax.random.split(key)
        return jax.random.uniform(factor) * jax.random.uniform(noise, real.shape[1:])

    return _distance_from_one(logits_fn, real + 0.5 * jnp.std(real) * jax.vmap(perturbation)(keys))


# (logits function, real and fake images [B, H, W, C], keys [B]) -> penalties [B].
PENALTIES: dict[str, Penalty] = {'r1': r1, 'r2': r2, 'r1_r2': r1_r2, 'wgan_gp': wgan_gp, 'dragan': dragan}


def path_lengths(synthesize: Callable[[jax.Array], jax.Array], ws: jax.Array, noise: jax.Array) -> jax.Array:
    """Computes |J^T y| of random image directions y, J being the generator's Jacobian (StyleGAN2, Karras 2020, eq. 4).

    Args:
      synthesize: latents [B, L, W] -> images [B, H, W, C].
      ws: [B, L, W]; squares are summed over W and averaged over the L layers.
      noise: y before scaling, standard normal, [B, H, W, C].

    Returns:
      lengths [B].
    """
    image, pull = jax.vjp(synthesize, ws)
    y = noise / jnp.sqrt(image.shape[1] * image.shape[2])
    (grad,) = pull(y.astype(image.dtype))
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(grad), 2), 1))
