"""Losses for classification and representation learning: cross entropy over attributes, contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax


def cross_entropy(classes: Sequence[jax.Array], label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Cross entropy, summed over attributes; also AC-GAN's -L_C (Odena et al. 2017, equation 3).

    Args:
      classes: for each attribute the logits of its values, [B, n].
      label: int [B, A]; an unknown value, -1, contributes 0.
      smoothing: label smoothing, the probability mass spread over all values (Szegedy et al. 2016, section 7).

    Returns:
      [B], the sum over attributes.

    Raises:
      ValueError: the numbers of logits and attributes differ.
    """
    if len(classes) != label.shape[-1]:
        raise ValueError(f'{len(classes)} classifiers for {label.shape[-1]} attributes')
    total = jnp.zeros(len(label))
    for a, logits in enumerate(classes):
        target = optax.smooth_labels(jax.nn.one_hot(label[:, a], logits.shape[-1]), smoothing)
        total += jnp.where(label[:, a] >= 0, optax.safe_softmax_cross_entropy(logits, target), 0.0)
    return total


def nt_xent(first: jax.Array, second: jax.Array, temperature: float) -> jax.Array:
    """Normalised temperature-scaled cross entropy (Chen et al., SimCLR, ICML 2020, equation 1).

    Each view must identify the other view of its image among all other views, by cosine similarity.

    Args:
      first: projections of one view of each image, [B, D].
      second: projections of another view of the same images, [B, D].
      temperature: tau, divides the similarities.

    Returns:
      [B], the mean over both views of an image; log(2 B - 1) where all views are equal.

    Raises:
      ValueError: the shapes differ or are not [B, D] with B of at least 2.
    """
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise ValueError(f'two views [B, D] of at least two images are needed, got {first.shape} and {second.shape}')
    views = jnp.concatenate([first, second])  # [2 B, D]
    views *= jax.lax.rsqrt(jnp.sum(jnp.square(views), -1, keepdims=True) + 1e-12)
    count = len(first)
    similarity = jnp.where(jnp.eye(2 * count, dtype=bool), -jnp.inf, views @ views.T / temperature)
    partner = jnp.roll(jnp.arange(2 * count), count)
    loss = optax.softmax_cross_entropy_with_integer_labels(similarity, partner)
    return jnp.mean(loss.reshape(2, count), 0)
