"""Adversarial losses, each what the generator and what the discriminator minimises as functions of the logits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

Game = Callable[[jax.Array, jax.Array], jax.Array]  # logits of real and of fake images [B] -> values [B]


def _of_logits(part: Game) -> Game:
    """The function with its arguments checked: other shapes would broadcast without an error."""

    @functools.wraps(part)
    def checked(real: jax.Array, fake: jax.Array) -> jax.Array:
        if real.ndim != 1 or real.shape != fake.shape:
            raise ValueError(f'logits must both be [B], got {real.shape} and {fake.shape}')
        return part(real, fake)

    return checked


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
    """The objectives of both players, per sample.

    Both are functions of the discriminator's logits on real and on fake images, [B] each, and return [B]. They raise a
    ValueError for logits of other or different shapes.

    Attributes:
      generator: what the generator minimises.
      discriminator: what the discriminator minimises.
      paired: the generator's part depends on the real logits.
      signed: a logit of zero separates real from fake.
    """

    generator: Game
    discriminator: Game
    paired: bool = False
    signed: bool = False

    def __post_init__(self):
        for player in ('generator', 'discriminator'):
            object.__setattr__(self, player, _of_logits(getattr(self, player)))


def _cross_entropy(real: jax.Array, fake: jax.Array) -> jax.Array:
    """-log D(real) - log(1 - D(fake)), D being the logit's sigmoid."""
    return jax.nn.softplus(-real) + jax.nn.softplus(fake)


ADVERSARIAL: dict[str, AdversarialLoss] = {
    # Goodfellow et al. 2014, equation 1: the generator minimises log(1 - D(fake)).
    'minimax': AdversarialLoss(lambda real, fake: -jax.nn.softplus(fake), _cross_entropy, signed=True),
    # Goodfellow et al. 2014, section 3: the generator minimises -log D(fake).
    'non_saturating': AdversarialLoss(lambda real, fake: jax.nn.softplus(-fake), _cross_entropy, signed=True),
    # LSGAN (Mao et al. 2017), equation 9: targets 1 for real and 0 for fake, and 1 for the generator.
    'least_squares': AdversarialLoss(
        lambda real, fake: 0.5 * jnp.square(fake - 1),
        lambda real, fake: 0.5 * (jnp.square(real - 1) + jnp.square(fake)),
    ),
    # WGAN (Arjovsky et al. 2017), algorithm 1: a difference of means, which needs a bound on the critic's slope.
    'wasserstein': AdversarialLoss(lambda real, fake: -fake, lambda real, fake: fake - real),
    # Lim and Ye 2017, as in SNGAN (Miyato et al. 2018), equations 16 and 17.
    'hinge': AdversarialLoss(
        lambda real, fake: -fake,
        lambda real, fake: jax.nn.relu(1 - real) + jax.nn.relu(1 + fake),
        signed=True,
    ),
    # Relativistic pairing (Jolicoeur-Martineau 2019; R3GAN, Huang et al. 2024, equation 2) with softplus.
    'relativistic': AdversarialLoss(
        lambda real, fake: jax.nn.softplus(real - fake),
        lambda real, fake: jax.nn.softplus(fake - real),
        paired=True,
    ),
}
