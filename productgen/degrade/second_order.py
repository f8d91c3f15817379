"""Degradation as Real-ESRGAN describes it: blur, resizing, noise and JPEG, twice, in random strengths.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCVW 2021, section 3,
with the numbers of the authors' options (`train_realesrgan_x4plus.yml`). Every picture draws its own; theirs draw the
resizing and the kind of noise for a batch. Resizing is antialiased here, theirs by bilinear and bicubic filters is not.
Their sharpening of the targets is left out: it is not part of the degradation.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.pixels import LUMA
from productgen.core.rng import normal, streams
from productgen.degrade import blur, jpeg, noise
from productgen.degrade.resize import FILTERS, rescale

KERNEL = 21  # side
# Of Gaussian, generalised and plateau kernels, isotropic first.
SHAPES = {('gaussian', 0): 0.45, ('gaussian', 1): 0.25, ('general', 0): 0.12, ('general', 1): 0.03}
SHAPES |= {('plateau', 0): 0.12, ('plateau', 1): 0.03}
SINC, FINAL_SINC = 0.1, 0.8  # probabilities
GRAY = 0.4  # probability of noise that is the same in all channels
QUALITY = 30.0, 95.0
METHODS = np.array([list(FILTERS).index(name) for name in ('box', 'bilinear', 'bicubic')])


@dataclasses.dataclass(frozen=True)
class Order:
    """The numbers of one of the two processes.

    Attributes:
      blur: probability of blur.
      sigma: interval of standard deviations of kernels, pixels.
      resize: probabilities of enlarging and of reducing.
      scales: smallest and largest factor.
      gaussian: interval of standard deviations, grey levels.
      poisson: interval of the authors' scale: 1 is 255 photons for white, the variance in proportion.
    """

    blur: float
    sigma: tuple[float, float]
    resize: tuple[float, float]
    scales: tuple[float, float]
    gaussian: tuple[float, float]
    poisson: tuple[float, float]


FIRST = Order(1.0, (0.2, 3.0), (0.2, 0.7), (0.15, 1.5), (1, 30), (0.05, 3.0))
SECOND = Order(0.8, (0.2, 1.5), (0.3, 0.4), (0.3, 1.2), (1, 25), (0.05, 2.5))


def _uniform(keys: jax.Array, name: str, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """A number for each key, [B]."""
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(streams(keys, name))


def _kernels(keys: jax.Array, order: Order) -> jax.Array:
    """A blur for each key, [B, K, K]; the identity where there is none."""
    sigma, across = (_uniform(keys, name, *order.sigma) for name in ('sigma', 'across'))
    kinds = jax.vmap(lambda key: jax.random.choice(key, len(SHAPES), p=jnp.asarray(list(SHAPES.values()))))
    kind = kinds(streams(keys, 'kind'))
    uneven = jnp.asarray([bool(k[1]) for k in SHAPES])[kind]
    plateau, general = (jnp.asarray([k[0] == name for k in SHAPES])[kind] for name in ('plateau', 'general'))
    # From 0.5 to 4 (1 to 2 of plateaus), on either side of 1 equally often.
    low, high = jnp.where(plateau, 1.0, 0.5), jnp.where(plateau, 2.0, 4.0)
    below = _uniform(keys, 'side') < 0.5
    t = _uniform(keys, 'shape')
    shape = jnp.where(below, low + t * (1 - low), 1 + t * (high - 1))
    shape = jnp.where(plateau | general, shape, 1.0)
    angle = _uniform(keys, 'angle', -np.pi, np.pi)
    smooth = blur.gaussian_kernel(KERNEL, sigma, jnp.where(uneven, across, sigma), angle, shape, plateau)
    ringing = _uniform(keys, 'sinc') < SINC
    kernel = jnp.where(ringing.reshape(-1, 1, 1), _sinc(keys), smooth)
    return _or_nothing(kernel, _uniform(keys, 'blurred') < order.blur)


def _sinc(keys: jax.Array) -> jax.Array:
    return blur.sinc_kernel(KERNEL, _uniform(keys, 'cutoff', np.pi / 3, np.pi))


def _or_nothing(kernel: jax.Array, used: jax.Array) -> jax.Array:
    centre = np.arange(KERNEL) == KERNEL // 2
    return jnp.where(used.reshape(-1, 1, 1), kernel, jnp.asarray(np.outer(centre, centre), jnp.float32))


def _scales(keys: jax.Array, order: Order) -> jax.Array:
    """A factor for each key, [B]."""
    kind, t = _uniform(keys, 'resize'), _uniform(keys, 'factor')
    up, down = order.resize
    larger, smaller = 1 + t * (order.scales[1] - 1), order.scales[0] + t * (1 - order.scales[0])
    return jnp.where(kind < up, larger, jnp.where(kind < up + down, smaller, 1.0))


def _noisy(x: jax.Array, keys: jax.Array, order: Order) -> jax.Array:
    sigma, scale = _uniform(keys, 'sigma', *order.gaussian), _uniform(keys, 'scale', *order.poisson)
    gray = (_uniform(keys, 'gray') < GRAY).reshape(-1, 1, 1, 1)
    column = lambda value: value.reshape(-1, 1, 1, 1)
    drawn = normal(streams(keys, 'normal'), x.shape[1:]) * column(sigma) / 255
    white = jnp.where(gray, drawn[..., :1], drawn)
    counts = lambda x: noise.poisson(x, 255.0, streams(keys, 'poisson')) - x
    luma = x @ jnp.asarray(LUMA)
    shot = column(scale) * jnp.where(gray, counts(luma[..., None]), counts(x))
    return jnp.clip(x + jnp.where(column(_uniform(keys, 'which') < 0.5), white, shot), 0, 1)


def _resized(
    x: jax.Array, size: tuple[int, int], scale: jax.Array, valid: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Pictures [B, H, W, C] whose first `valid` [B, 2] rows and columns count, by factors [B, 2], and what counts."""
    method = jnp.asarray(METHODS)[jax.vmap(lambda key: jax.random.randint(key, (), 0, 3))(streams(keys, 'method'))]
    target = jnp.maximum(jnp.round(valid * scale), 1.0)
    made = jax.vmap(lambda x, s, v, m: rescale(x, size, s, v, m))(x, target / valid, valid, method)
    return made, target


def second_order(x: jax.Array, keys: jax.Array, scale: int) -> jax.Array:
    """Degrades pictures.

    Args:
      x: [B, H, W, 3] in [0, 1], with sides that `scale` divides.
      keys: [B].
      scale: how much smaller the result is.

    Returns:
      [B, H / scale, W / scale, 3] in [0, 1].
    """
    height, width = x.shape[1:3]
    both = lambda values: jnp.stack([values, values], -1)
    valid = jnp.broadcast_to(jnp.asarray([height, width], jnp.float32), (len(x), 2))

    first = streams(keys, 'first')
    x = blur.apply_kernel(x, _kernels(streams(first, 'blur'), FIRST))
    canvas = tuple(int(np.ceil(side * FIRST.scales[1])) for side in (height, width))
    x, valid = _resized(x, canvas, both(_scales(first, FIRST)), valid, first)
    x = jpeg.compress(_noisy(x, streams(first, 'noise'), FIRST), _uniform(first, 'quality', *QUALITY))

    second = streams(keys, 'second')
    x = blur.apply_kernel(x, _kernels(streams(second, 'blur'), SECOND))
    small = height // scale, width // scale
    canvas = tuple(int(np.ceil(side * SECOND.scales[1])) for side in small)
    target = jnp.asarray(small, jnp.float32) * both(_scales(second, SECOND))
    x, valid = _resized(x, canvas, target / valid, valid, second)
    x = _noisy(x, streams(second, 'noise'), SECOND)

    # In one of two orders: to its size and the last filter, then JPEG; or JPEG first.
    last, quality = streams(keys, 'last'), _uniform(second, 'quality', *QUALITY)
    ringing = _or_nothing(_sinc(last), _uniform(last, 'ringing') < FINAL_SINC)

    def to_size(x: jax.Array) -> jax.Array:
        x, _ = _resized(x, small, jnp.asarray(small, jnp.float32) / valid, valid, last)
        return jnp.clip(blur.apply_kernel(x, ringing), 0, 1)

    one, other = jpeg.compress(to_size(x), quality), to_size(jpeg.compress(x, quality))
    return jnp.where((_uniform(last, 'order') < 0.5).reshape(-1, 1, 1, 1), one, other)
