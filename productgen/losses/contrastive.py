"""Contrastive losses of features of patches."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def patch_nce(query: jax.Array, key: jax.Array, temperature: float) -> jax.Array:
    """Cross-entropy of finding each patch of one image among those of another: PatchNCE, [B].

    l = -log(exp(q_s . k_s / tau) / sum_t exp(q_s . k_t / tau)), a mean over the S patches: Park et al. 2020, equations
    2 and 3, with the other patches of the same image as negatives. `key` counts as a constant, as in the authors' code.

    Args:
      query: unit vectors [B, S, D] of patches of the translation.
      key: unit vectors [B, S, D] of patches at the same places of the input.
      temperature: tau, 0.07 in the paper.

    Raises:
      ValueError: the shapes differ or are not [B, S, D].
    """
    if query.ndim != 3 or query.shape != key.shape:
        raise ValueError(f'features must both be [B, S, D], got {query.shape} and {key.shape}')
    logits = jnp.einsum('bsd,btd->bst', query, jax.lax.stop_gradient(key)) / temperature
    same = jnp.diagonal(logits, axis1=1, axis2=2)  # [B, S]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - same, -1)
