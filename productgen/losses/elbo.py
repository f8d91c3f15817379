"""Terms of the evidence lower bound: likelihoods of images and divergences of Gaussians.

Images are [B, H, W, C] in [-1, 1], x = k / 127.5 - 1 for 8-bit values k. Log-likelihoods and divergences are in nats;
log-likelihoods are summed over H, W and C, one value per image, [B].
"""

from __future__ import annotations

from collections import namedtuple

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr

HALF_BIN = 1 / 255  # half the distance between neighbouring 8-bit values


def gaussian_kl(
    mean: jax.Array,
    log_variance: jax.Array,
    prior_mean: jax.Array | float = 0.0,
    prior_log_variance: jax.Array | float = 0.0,
) -> jax.Array:
    """Elementwise KL divergence KL(q || p) of Gaussians (Kingma and Welling 2014, appendix B, for p = N(0, 1)).

    Args:
      mean: mean of q, any shape.
      log_variance: log-variance of q, the same shape.
      prior_mean: mean of p, the same shape or a number.
      prior_log_variance: log-variance of p, the same shape or a number.

    Returns:
      divergences in nats, the same shape.

    Raises:
      ValueError: the shapes differ.
    """
    shapes = {jnp.shape(x) for x in (mean, log_variance)}
    shapes |= {jnp.shape(x) for x in (prior_mean, prior_log_variance) if jnp.ndim(x)}
    if len(shapes) > 1:
        raise ValueError(f'means and log-variances must have the same shape, got {sorted(shapes)}')
    ratio = log_variance - prior_log_variance
    distance = jnp.square(mean - prior_mean) * jnp.exp(-prior_log_variance)
    return 0.5 * (jnp.expm1(ratio) - ratio + distance)


def by_group(kl: jax.Array) -> jax.Array:
    """Sums divergences by group, [B, Z] -> [B, Z] or, for latent maps, [B, h, w, c] -> [B, c]."""
    return jnp.sum(kl, tuple(range(1, kl.ndim - 1)))


def free_bits(kl: jax.Array, floor: float) -> jax.Array:
    """Free bits, sum_g max(floor, mean_B KL_g): no gradient below `floor` nats (Kingma et al. 2016, equation 15).

    Args:
      kl: divergences by group, [B, G].
      floor: lambda, in nats; 0 gives the plain mean.

    Returns:
      a scalar; the mean over the batch is inside the maximum.

    Raises:
      ValueError: `kl` is not [B, G].
    """
    if kl.ndim != 2:
        raise ValueError(f'divergences by group must be [B, G], got {kl.shape}')
    return jnp.sum(jnp.maximum(jnp.mean(kl, 0), floor))


def bits_per_dim(log_mass: jax.Array, dimensions: int) -> jax.Array:
    """Converts log-probabilities of 8-bit images in nats, or bounds on them, to bits per dimension."""
    return -log_mass / (dimensions * jnp.log(2.0))


def _sum(x: jax.Array, image: jax.Array, location: jax.Array) -> jax.Array:
    """Sums [B, H, W, C] -> [B]; raises a ValueError where image and location differ in shape and would broadcast."""
    if image.ndim != 4 or image.shape != location.shape:
        raise ValueError(f'image and location must both be [B, H, W, C], got {image.shape} and {location.shape}')
    return jnp.sum(x, (1, 2, 3))


def gaussian(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-density of N(location, e^log_scale) at pixel values in [-1, 1].

    Args:
      image: [B, H, W, C].
      location: [B, H, W, C].
      log_scale: log standard deviation, a scalar or [B, H, W, C]; the same for all likelihoods.

    Returns:
      [B].

    Raises:
      ValueError: the shapes of `image` and `location` differ or are not [B, H, W, C].
    """
    deviation = (image - location) * jnp.exp(-log_scale)
    return _sum(-0.5 * (jnp.square(deviation) + jnp.log(2 * jnp.pi)) - log_scale, image, location)


def discretized_gaussian(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-probability of 8-bit images: the mass of `gaussian` in the bin of each value; the outer bins are unbounded.

    Densities have no upper bound and cannot be compared; this is a probability of 256 values, comparable with that of
    `discretized_logistic`. Differences of the distribution function are computed in the lower tail, where they do not
    cancel.
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
    """Selects `low` at the 8-bit value 0, `high` at 255 and `inner` between them."""
    return jnp.where(image < HALF_BIN - 1, low, jnp.where(image > 1 - HALF_BIN, high, inner))


def discretized_logistic(image: jax.Array, location: jax.Array, log_scale: jax.Array | float) -> jax.Array:
    """Log-probability of 8-bit images, discretized logistic (Kingma et al. 2016; PixelCNN++, Salimans et al. 2017).

    The mass of an inner bin, s(u) - s(l) with the sigmoid s, equals s(u) s(-l) (1 - e^(l - u)). Its logarithm is
    accurate, so that the fallbacks of the published code for bins without mass are not needed.
    """
    inverse = jnp.exp(-log_scale)
    low = jax.nn.log_sigmoid((image - location + HALF_BIN) * inverse)
    high = jax.nn.log_sigmoid((location - image + HALF_BIN) * inverse)
    inner = low + high + jnp.log(-jnp.expm1(-2 * HALF_BIN * inverse))
    return _sum(_edges(image, low, inner, high), image, location)


def bernoulli(image: jax.Array, logits: jax.Array, log_scale: jax.Array | float = 0.0) -> jax.Array:
    """Negative cross entropy of intensities in [0, 1], taken as probabilities of white; `log_scale` is ignored.

    This is a likelihood of binary images only. For others it is a common loss, but neither a probability of 256 values
    nor a normalised density (Loaiza-Ganem and Cunningham 2019), so it has no bits per dimension.
    """
    intensity = (image + 1) / 2
    white, black = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return _sum(intensity * white + (1 - intensity) * black, image, logits)


class Likelihood(namedtuple('Likelihood', 'log_prob mean log_mass scaled')):
    """Likelihood of an image given the output of a decoder.

    Attributes:
      log_prob: (image, location, log_scale) -> nats [B], the training objective.
      mean: location -> image to show, approximately the mean of the distribution.
      log_mass: as `log_prob`, the log-probability of the 8-bit values; None if undefined.
      scaled: whether `log_scale` is used.
    """


LIKELIHOODS: dict[str, Likelihood] = {
    'gaussian': Likelihood(gaussian, lambda location: location, discretized_gaussian, True),
    'bernoulli': Likelihood(bernoulli, lambda logits: jnp.tanh(logits / 2), None, False),
    'discretized_logistic': Likelihood(discretized_logistic, lambda location: location, discretized_logistic, True),
}
