"""Gradient penalties."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def gradient_norms(logits_fn: Callable[[jax.Array], jax.Array], image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Squared norm of the logits' gradient with respect to the images: R1 (Mescheder et al. 2018, equation 9).

    Args:
      logits_fn: images [B, H, W, C] -> logits [B].
      image: [B, H, W, C].

    Returns:
      squared norms [B] and logits [B].
    """
    logits, pull = jax.vjp(logits_fn, image)
    (grad,) = pull(jnp.ones_like(logits))
    return jnp.sum(jnp.square(grad.astype(jnp.float32)), (1, 2, 3)), logits


def path_lengths(synthesize: Callable[[jax.Array], jax.Array], ws: jax.Array, noise: jax.Array) -> jax.Array:
    """Length |J^T y| of a random image direction pulled back to the latents, StyleGAN2 (Karras et al. 2020), eq. 4.

    Args:
      synthesize: latents [B, L, W] -> images [B, H, W, C].
      ws: [B, L, W]; the square is summed over W and averaged over the L layers.
      noise: y before scaling, standard normal, [B, H, W, C].

    Returns:
      lengths [B].
    """
    image, pull = jax.vjp(synthesize, ws)
    y = noise / jnp.sqrt(image.shape[1] * image.shape[2])
    (grad,) = pull(y.astype(image.dtype))
    return jnp.sqrt(jnp.mean(jnp.sum(jnp.square(grad), 2), 1))
