"""Full-reference metrics of images, and the MS-SSIM diversity of a set.

Each of `PAIRWISE` takes two batches [B, H, W, 3] of floats, sRGB in [-1, 1], and returns one value per image, [B]. They
can be jitted, and compute in float32 or wider. SSIM is `productgen.losses.pixel.ssim_index`.

All raise a ValueError where the shapes differ or are not [B, H, W, 3], or where a batch is not floating point.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.pixels import to_float
from productgen.losses.pixel import SSIM_WINDOW, mse, ssim_index, ssim_terms
from productgen.metrics.colour import ciede2000, lab

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest first
GMSD_CONSTANT = 170.0  # of luma in 0..255
_CHUNK = 16  # pairs per call


def _checked(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    if a.ndim != 4 or a.shape != b.shape or a.shape[-1] != 3:
        raise ValueError(f'images must both be [B, H, W, 3], got {a.shape} and {b.shape}')
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (a, b)):
        raise ValueError(f'images must be floats in [-1, 1], got {a.dtype} and {b.dtype}')
    wide = lambda x: jnp.asarray(x, jnp.float64 if x.dtype == jnp.float64 else jnp.float32)
    return wide(a), wide(b)


def psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio in dB, 10 log10(2^2 / mean squared difference), for a data range of 2.

    Equal images give inf, and so does the mean over a batch with such a pair.
    """
    return 10 * jnp.log10(4 / mse(*_checked(a, b)))


def ssim(a: jax.Array, b: jax.Array) -> jax.Array:
    """SSIM (`ssim_index`), the mean over the colour channels; 1 for equal images."""
    return ssim_index(*_checked(a, b))


def ms_ssim(a: jax.Array, b: jax.Array, levels: int = len(MS_SSIM_WEIGHTS)) -> jax.Array:
    """Multi-scale structural similarity in [0, 1], the mean over the colour channels; 1 for equal images.

    Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003, equation 7: the
    product of contrast and structure of each level to the power of its weight, times the luminance of the coarsest.
    Levels are 2 x 2 averages of the previous one, with the last row and column of odd sizes repeated. Negative means,
    whose power is undefined, count as 0.

    Args:
      a: [B, H, W, 3].
      b: [B, H, W, 3].
      levels: 5 as in the paper; fewer, for small images, are the finest, with weights rescaled to the same sum. Values
        of different numbers of levels are not comparable.

    Raises:
      ValueError: the window does not fit the coarsest level (sides of 160 pixels or less, for 5 levels), or `levels`
        is not 1 to 5.
    """
    if not 1 <= levels <= len(MS_SSIM_WEIGHTS):
        raise ValueError(f'levels must be 1 to {len(MS_SSIM_WEIGHTS)}, got {levels}')
    a, b = _checked(a, b)
    smallest = (SSIM_WINDOW - 1) * 2 ** (levels - 1) + 1
    if min(a.shape[1:3]) < smallest:
        raise ValueError(f'{levels} levels of MS-SSIM need {smallest} pixels per side, got {a.shape[1]} x {a.shape[2]}')
    index, scale = 1.0, sum(MS_SSIM_WEIGHTS) / sum(MS_SSIM_WEIGHTS[:levels])
    for level, weight in enumerate(MS_SSIM_WEIGHTS[:levels]):
        if level:
            a, b = _halve(a, 'edge'), _halve(b, 'edge')
        luminance, structure = ssim_terms(a, b)
        if level == levels - 1:
            structure = luminance * structure
        index *= jnp.maximum(jnp.mean(structure, (1, 2)), 0) ** (scale * weight)  # [B, C]
    return jnp.mean(index, -1)


def ms_ssim_levels(size: tuple[int, int]) -> int:
    """Largest number of levels of `ms_ssim` that images of (H, W) allow, 0 to 5."""
    multiple = (min(size) - 1) // (SSIM_WINDOW - 1)  # of the smallest size of one level
    return min(multiple.bit_length(), len(MS_SSIM_WEIGHTS))


def _halve(x: jax.Array, mode: str) -> jax.Array:
    """2 x 2 average pooling, [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), C]; odd sizes are padded at the end."""
    x = jnp.pad(x, [(0, 0), *((0, side % 2) for side in x.shape[1:3]), (0, 0)], mode=mode)
    batch, height, width, channels = x.shape
    return jnp.mean(x.reshape(batch, height // 2, 2, width // 2, 2, channels), (2, 4))


def delta_e(a: jax.Array, b: jax.Array) -> jax.Array:
    """Mean CIE Delta E 2000 over the pixels: 0 for equal images, 100 between black and white."""
    a, b = _checked(a, b)
    return jnp.mean(ciede2000(lab((a + 1) / 2), lab((b + 1) / 2)), (1, 2))


def gmsd(a: jax.Array, b: jax.Array) -> jax.Array:
    """Gradient magnitude similarity deviation: 0 for equal images, larger is worse; rarely above 0.35.

    Xue et al., "Gradient magnitude similarity deviation", 2014, equations 1 to 6: Prewitt gradients of the luma (ITU-R
    BT.601) in 0..255, downsampled by 2 x 2 averages, with c = 170 and zero padding, as in the authors' code.
    """
    weights = jnp.asarray((0.299, 0.587, 0.114))
    magnitudes = []
    for x in _checked(a, b):
        luma = jnp.sum(127.5 * (x + 1) * weights.astype(x.dtype), -1, keepdims=True)
        x = jnp.pad(_halve(luma, 'constant')[..., 0], [(0, 0), (1, 1), (1, 1)])  # [B, H + 2, W + 2]
        rows, columns = x[:, :-2] + x[:, 1:-1] + x[:, 2:], x[..., :-2] + x[..., 1:-1] + x[..., 2:]
        magnitudes.append(jnp.hypot(rows[..., 2:] - rows[..., :-2], columns[:, 2:] - columns[:, :-2]) / 3)
    one, other = magnitudes
    return jnp.std((2 * one * other + GMSD_CONSTANT) / (one**2 + other**2 + GMSD_CONSTANT), (1, 2))


PAIRWISE = {'psnr': psnr, 'ssim': ssim, 'ms_ssim': ms_ssim, 'delta_e': delta_e, 'gmsd': gmsd}


def ms_ssim_diversity(images: np.ndarray, pairs: int = 100, seed: int = 0, levels: int = len(MS_SSIM_WEIGHTS)) -> float:
    """Mean MS-SSIM of random pairs of different images of a set; lower is more diverse.

    Odena, Olah and Shlens, "Conditional image synthesis with auxiliary classifier GANs", 2017, section 4.2, who use 100
    pairs per class. Noise lowers it too: compare with the value of the data.

    Args:
      images: uint8 [N, H, W, 3].
      pairs: number of pairs, drawn with replacement.
      seed: random seed of the pairs.
      levels: levels of `ms_ssim`.

    Raises:
      ValueError: fewer than two images, a wrong dtype or shape, or as `ms_ssim`.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) < 2:
        raise ValueError(f'expected uint8 [N, H, W, 3] of at least two images, got {images.dtype} {images.shape}')
    draw = np.random.default_rng(seed)
    first = draw.integers(len(images), size=pairs)
    second = (first + draw.integers(1, len(images), size=pairs)) % len(images)
    similarity = jax.jit(lambda a, b: ms_ssim(to_float(a), to_float(b), levels))
    found = [similarity(images[first[i : i + _CHUNK]], images[second[i : i + _CHUNK]]) for i in range(0, pairs, _CHUNK)]
    return float(np.mean(np.concatenate(found)))
