"""Adversarial losses, each a function of the discriminator's logits on real and on fake images.

A loss returns what the generator and what the discriminator minimise, per sample; whichever is unused costs nothing
under `jit`. All take logits [B] of real and of fake images, return a pair of [B], and raise a ValueError for logits of
different or other shapes, which would broadcast to something else in silence.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def _check(real: jax.Array, fake: jax.Array) -> None:
    if real.ndim != 1 or real.shape != fake.shape:
        raise ValueError(f'logits must both be [B], got {real.shape} and {fake.shape}')


def minimax(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Goodfellow et al. 2014, equation 1, with logits: the generator minimises log(1 - D(fake))."""
    _check(real, fake)
    return -jax.nn.softplus(fake), jax.nn.softplus(-real) + jax.nn.softplus(fake)


def non_saturating(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Goodfellow et al. 2014, section 3, with logits: -log D(fake), and -log D(real) - log(1 - D(fake))."""
    _check(real, fake)
    return jax.nn.softplus(-fake), jax.nn.softplus(-real) + jax.nn.softplus(fake)


def least_squares(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """LSGAN (Mao et al. 2017), equation 9: targets 1 for real and 0 for fake, and 1 for the generator."""
    _check(real, fake)
    return 0.5 * jnp.square(fake - 1), 0.5 * (jnp.square(real - 1) + jnp.square(fake))


def wasserstein(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """WGAN (Arjovsky et al. 2017), algorithm 1: the critic's difference; it needs a bound on the critic's slope."""
    _check(real, fake)
    return -fake, fake - real


def hinge(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lim and Ye 2017, as in SNGAN (Miyato et al. 2018), equations 16 and 17."""
    _check(real, fake)
    return -fake, jax.nn.relu(1 - real) + jax.nn.relu(1 + fake)


def relativistic(real: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Relativistic pairing (Jolicoeur-Martineau 2019; R3GAN, Huang et al. 2024, equation 2), softplus form."""
    _check(real, fake)
    return jax.nn.softplus(real - fake), jax.nn.softplus(fake - real)


ADVERSARIAL: dict[str, Loss] = {
    'minimax': minimax,
    'non_saturating': non_saturating,
    'least_squares': least_squares,
    'wasserstein': wasserstein,
    'hinge': hinge,
    'relativistic': relativistic,
}

# Losses under which zero divides real from fake, so that the sign of a logit says which it is.
SIGNED = frozenset({'minimax', 'non_saturating', 'hinge'})

# Losses in which the generator's part depends on the logits of real images.
PAIRED = frozenset({'relativistic'})
