"""Distances between images, per pixel or over small neighbourhoods.

Each takes two batches [B, H, W, C] and returns one value per image, [B], zero where they are equal. Filters are
separable sums of shifted images, which XLA fuses, instead of depthwise convolutions. All compute in float32 or wider.

All raise a ValueError where the shapes differ or are not [B, H, W, C], instead of broadcasting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

Distance = Callable[[jax.Array, jax.Array], jax.Array]

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03
SSIM_RANGE = 2.0  # of images in [-1, 1]
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
PYRAMID_LEVELS = 5


def _checked(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Checks the shapes and converts both to float32 or wider."""
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f'images must both be [B, H, W, C], got {a.shape} and {b.shape}')
    wide = lambda x: x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
    return wide(a), wide(b)


def _mean(x: jax.Array) -> jax.Array:
    """Mean over each image, [B, H, W, C] -> [B]."""
    return jnp.mean(x, (1, 2, 3))


def mse(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean squared difference."""
    a, b = _checked(a, b)
    return _mean(jnp.square(a - b))


def l1(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean absolute difference."""
    a, b = _checked(a, b)
    return _mean(jnp.abs(a - b))


def charbonnier(a: jax.Array, b: jax.Array, eps: float = 1e-3) -> jax.Array:
    """Mean of sqrt(d^2 + eps^2) - eps, a smooth `l1` (Charbonnier et al. 1994; for images Lai et al. 2017).

    It is quadratic for differences far below `eps` and linear far above. 1e-3, the value of Lai et al., is an eighth of
    a grey level of images in [-1, 1]. Subtracting eps, which they do not, makes the distance of equal images 0.
    """
    a, b = _checked(a, b)
    return _mean(jnp.sqrt(jnp.square(a - b) + eps * eps) - eps)


def _filter(x: jax.Array, taps: Sequence[float] | jax.Array, axis: int) -> jax.Array:
    """Applies a symmetric filter along one axis without padding: N samples become N - len(taps) + 1."""
    size = x.shape[axis] - len(taps) + 1
    return sum(taps[i] * jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(len(taps)))


def ssim_terms(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Luminance, and product of contrast and structure, of SSIM (Wang et al. 2004, equations 6 and 13).

    Gaussian window of 11 x 11 pixels and sigma 1.5, K1 = 0.01, K2 = 0.03, without padding, each colour channel by
    itself. Along a side shorter than 11 pixels the window is cropped to the largest odd length that fits. Images are in
    [-1, 1].

    Returns:
      Two [B, H', W', C], where H' = H - 10 and W' = W - 10 if the window fits; both 1 for equal images.
    """
    a, b = _checked(a, b)
    c1, c2 = (SSIM_K1 * SSIM_RANGE) ** 2, (SSIM_K2 * SSIM_RANGE) ** 2
    a, b = a + 1, b + 1  # the luminance term is defined on intensities from 0
    moments = jnp.concatenate([a, b, a * a, b * b, a * b], -1)  # [B, H, W, 5C]
    for axis in (1, 2):
        radius = (min(SSIM_WINDOW, moments.shape[axis]) - 1) // 2
        taps = jnp.exp(-0.5 * jnp.square(jnp.arange(-radius, radius + 1, dtype=a.dtype) / SSIM_SIGMA))
        moments = _filter(moments, taps / jnp.sum(taps), axis)
    mean_a, mean_b, aa, bb, ab = jnp.split(moments, 5, -1)
    # Rounding may make the variance of a flat neighbourhood negative.
    variance_a, variance_b = jnp.maximum(aa - mean_a**2, 0), jnp.maximum(bb - mean_b**2, 0)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * (ab - mean_a * mean_b) + c2) / (variance_a + variance_b + c2)
    return luminance, structure


def ssim_index(a: jax.Array, b: jax.Array) -> jax.Array:
    """Structural similarity (SSIM), the mean product of `ssim_terms` (equation 17), [B]; 1 for equal images."""
    luminance, structure = ssim_terms(a, b)
    return _mean(luminance * structure)


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """1 - `ssim_index`, from 0 to 2."""
    return 1 - ssim_index(a, b)


def _pad(x: jax.Array, axis: int, margin: int) -> jax.Array:
    """Pads one axis by repeating the outermost samples."""
    return jnp.pad(x, [(margin, margin) if i == axis else (0, 0) for i in range(x.ndim)], mode='edge')


def _reduce(x: jax.Array) -> jax.Array:
    """Blurs and subsamples, [B, 2H, 2W, C] -> [B, H, W, C]: REDUCE of Burt and Adelson 1983."""
    for axis in (1, 2):
        blurred = _filter(_pad(x, axis, 2), BINOMIAL, axis)
        x = jax.lax.slice_in_dim(blurred, 0, x.shape[axis], 2, axis)
    return x


def _expand(x: jax.Array) -> jax.Array:
    """Upsamples with the same filter, [B, H, W, C] -> [B, 2H, 2W, C]: EXPAND of Burt and Adelson 1983."""
    for axis in (1, 2):
        shape = list(x.shape)
        shape[axis] *= 2
        padded = _pad(x, axis, 1)
        even = _filter(padded, (1 / 8, 6 / 8, 1 / 8), axis)
        odd = 0.5 * (x + jax.lax.slice_in_dim(padded, 2, None, axis=axis))
        x = jnp.stack([even, odd], axis + 1).reshape(shape)
    return x


def laplacian(a: jax.Array, b: jax.Array) -> jax.Array:
    """L1 distance of Laplacian pyramids: sum_j 2^(2j) |L_j(a) - L_j(b)|_1 / (H W C), j = 0 being the finest level.

    Ling and Okada 2006, with the weights of Bojanowski et al. 2018 (section 3.2). Since level j has a fraction 2^-2j of
    the image's samples, this is the sum of the mean absolute differences of the levels. There are 5 levels besides the
    low-pass residual, fewer where a side becomes odd or smaller than 4. Borders are padded by repetition.
    """
    a, b = _checked(a, b)
    rest, total = a - b, 0.0  # pyramids are linear: their difference is the pyramid of the difference
    for _ in range(PYRAMID_LEVELS):
        if any(side % 2 or side < 4 for side in rest.shape[1:3]):
            break
        coarse = _reduce(rest)
        total += _mean(jnp.abs(rest - _expand(coarse)))
        rest = coarse
    return total + _mean(jnp.abs(rest))


RECONSTRUCTION: dict[str, Distance] = {
    'mse': mse,
    'l1': l1,
    'charbonnier': charbonnier,
    'ssim': ssim,
    'laplacian': laplacian,
}


def weighted(weights: Mapping[str, float]) -> Distance:
    """Builds a weighted sum of distances, such as {'mse': 1.0, 'ssim': 0.1}; those of weight 0 are not computed.

    Raises:
      ValueError: an unknown name, a negative weight, or no positive weight.
    """
    for name, weight in weights.items():
        if name not in RECONSTRUCTION:
            raise ValueError(f'there is no reconstruction loss {name!r}; choose from {", ".join(RECONSTRUCTION)}')
        if not weight >= 0:
            raise ValueError(f'{name}: weights must not be negative, got {weight}')
    terms = [(RECONSTRUCTION[name], weight) for name, weight in weights.items() if weight]
    if not terms:
        raise ValueError(f'at least one of {", ".join(RECONSTRUCTION)} must have a weight above 0')
    return lambda a, b: sum(weight * distance(a, b) for distance, weight in terms)
