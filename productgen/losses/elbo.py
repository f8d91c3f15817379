"""Likelihoods of pictures, divergences of Gaussians, and what they make: the evidence lower bound.

Pictures are [B, H, W, C] in [-1, 1], as 8-bit values k in 0..255 become by x = k / 127.5 - 1. Log-likelihoods and
divergences are in nats; log-likelihoods are sums over H, W and C, one value a picture, [B].
"""

from __future__ import annotations

from collections import namedtuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

HALF_BIN = 1 / 255  # half the distance of neighbouring 8-bit values


def gaussian_kl(
    mean: jax.Array,
    log_variance: jax.Array,
    prior_mean: jax.Array | float = 0.0,
    prior_log_variance: jax.Array | float = 0.0,
) -> jax.Array:
    """KL divergence of one Gaussian from another, by element: Kingma and Welling 2014, appendix B, for N(0, 1).

    Args:
      mean: of q, any shape.
      log_variance: of q, the same shape.
      prior_mean: of p, the same shape or a number.
      prior_log_variance: of p, likewise.

    Raises:
      ValueError: the shapes differ.
    """
    shapes = {jnp.shape(x) for x in (mean, log_variance)}
    shapes |= {jnp.shape(x) for x in (prior_mean, prior_log_variance) if jnp.ndim(x)}
    if len(shapes) > 1:
        raise ValueError(f'means and log-variances must be of one shape, got {sorted(shapes)}')
    ratio = log_variance - prior_log_variance
    distance = jnp.square(mean - prior_mean) * jnp.exp(-prior_log_variance)
    return 0.5 * (jnp.expm1(ratio) - ratio + distance)


def by_group(kl: jax.Array) -> jax.Array:
    """[B, Z] or, for latent maps, [B, h, w, c] -> [B, Z] or [B, c]: a map's channel is one group."""
    return jnp.sum(kl, tuple(range(1, kl.ndim - 1)))


def free_bits(kl: jax.Array, floor: float) -> jax.Array:
    """sum_g max(floor, mean_B KL_g): no group is pressed below `floor` nats (Kingma et al. 2016, equation 15).

    Args:
      kl: by group, [B, G].
      floor: lambda, in nats; 0 gives the plain mean.

    Returns:
      a scalar: the mean over the minibatch stands inside the maximum.
    """
    if kl.ndim != 2:
        raise ValueError(f'divergences by group must be [B, G], got {kl.shape}')
    return jnp.sum(jnp.maximum(jnp.mean(kl, 0), floor))


def bits_per_dim(log_mass: jax.Array, dimensions: int) -> jax.Array:
    """Log-probability of 8-bit pictures in nats, or a bound of it, as bits for each of H x W x C values."""
    return -log_mass / (dimensions * jnp.log(2.0))


def _sum(x: jax.Array, image: jax.Array, location: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B]; what went into it must not have been broadcast."""
    if image.ndim != 4 or image.shape != location.shape:
        raise ValueError(f'image and location must both be [B, H, W, C], got {image.shape} and {location.shape}')
    return jnp.sum(x, (1, 2, 3))


def gaussian(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-density of N(location, e^log_scale), over pixel values in [-1, 1].

    Args:
      image: [B, H, W, C].
      location: [B, H, W, C].
      log_scale: log standard deviation, a scalar, or [B, H, W, C] (so for all others, too).
    """
    deviation = (image - location) * jnp.exp(-log_scale)
    return _sum(-0.5 * (jnp.square(deviation) + jnp.log(2 * jnp.pi)) - log_scale, image, location)


def discretized_gaussian(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-probability of 8-bit pictures: the mass of `gaussian` in each value's bin, the outer bins without end.

    A density can be of any size and says nothing that could be compared; this is a probability of the same 256 values
    that `discretized_logistic` is of. Differences of the distribution function are taken in the lower tail, where they
    are not differences of numbers close to 1.
    """
    scale = jnp.exp(log_scale)
    upper, lower = (image - location + HALF_BIN) / scale, (image - location - HALF_BIN) / scale
    flip = image > location
    upper, lower = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    below, above = log_ndtr(upper), log_ndtr(lower)
    inner = below + jnp.log(-jnp.expm1(above - below))
    low = log_ndtr((image - location + HALF_BIN) / scale)
    high = log_ndtr((location - image + HALF_BIN) / scale)
    return _sum(_edges(image, low, inner, high), image, location)


def _edges(image: jax.Array, low: jax.Array, inner: jax.Array, high: jax.Array) -> jax.Array:
    """`low` at the value 0, `high` at 255, `inner` between them."""
    return jnp.where(image < HALF_BIN - 1, low, jnp.where(image > 1 - HALF_BIN, high, inner))


def discretized_logistic(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-probability of 8-bit pictures under a binned logistic (Kingma et al. 2016; PixelCNN++, Salimans et al. 2017).

    The mass of an inner bin, s(u) - s(l) with the sigmoid s, is s(u) s(-l) (1 - e^(l - u)): exact in its logarithm, so
    that it needs none of the published fallbacks for bins without mass.
    """
    inverse = jnp.exp(-log_scale)
    low = jax.nn.log_sigmoid((image - location + HALF_BIN) * inverse)
    high = jax.nn.log_sigmoid((location - image + HALF_BIN) * inverse)
    inner = low + high + jnp.log(-jnp.expm1(-2 * HALF_BIN * inverse))
    return _sum(_edges(image, low, inner, high), image, location)


def bernoulli(image: jax.Array, logits: jax.Array, log_scale: jax.Array | float = 0.0) -> jax.Array:
    """Minus the cross-entropy of intensities in [0, 1] as probabilities of white; `log_scale` has no meaning.

    A likelihood for pictures of two colours only. Of grey ones it is a customary loss: it is no probability of 256
    values nor a density that integrates to one (Loaiza-Ganem and Cunningham 2019), so it has no bits per dimension.
    """
    intensity = (image + 1) / 2
    white, black = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return _sum(intensity * white + (1 - intensity) * black, image, logits)


class Likelihood(namedtuple('Likelihood', 'log_prob mean log_mass scaled')):
    """How a decoder's output is compared with a picture.

    Attributes:
      log_prob: (image, location, log_scale) -> nats [B], what is maximised.
      mean: location -> the picture to show, about the distribution's mean.
      log_mass: like `log_prob`, probability of the 8-bit values; None where there is none.
      scaled: whether `log_scale` has a meaning.
    """


LIKELIHOODS: dict[str, Likelihood] = {
    'gaussian': Likelihood(gaussian, lambda location: location, discretized_gaussian, True),
    'bernoulli': Likelihood(bernoulli, lambda logits: jnp.tanh(logits / 2), None, False),
    'discretized_logistic': Likelihood(discretized_logistic, lambda location: location, discretized_logistic, True),
}
