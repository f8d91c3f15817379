"""Adversarial losses, each a function of the discriminator's logits on real and on fake images.

A loss returns what the generator and what the discriminator minimise, per sample; whichever is unused costs nothing
under `jit`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax

Loss = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _check(real: jax.Array, fake: jax.Array) -> None:
    if real.ndim != 1 or real.shape != fake.shape:
        raise ValueError(f'logits must both be [B], got {real.shape} and {fake.shape}')


def non_saturating(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Goodfellow et al. 2014, section 3, with logits: -log D(fake), and -log D(real) - log(1 - D(fake)).

    Args:
      real: logits of real images, [B].
      fake: logits of fake images, [B].

    Returns:
      the generator's and the discriminator's loss, [B] each.

    Raises:
      ValueError: logits of different or other shapes, which would broadcast to something else in silence.
    """
    _check(real, fake)
    return jax.nn.softplus(-fake), jax.nn.softplus(-real) + jax.nn.softplus(fake)


ADVERSARIAL: dict[str, Loss] = {
    'non_saturating': non_saturating,
}
