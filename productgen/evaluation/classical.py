"""Restoration by classical filters of OpenCV, scikit-image and Pillow: what networks are compared with.

Settings are the best ones by PSNR, found on 30 training photos of clothing that were degraded as training degrades them
(`method.degrade` at its defaults):

  python benchmarks/restoration.py tune --photos=PHOTOS/train --count=30

One setting serves all degradations of a task; for a single one, such as one blur, others are better (`measure
--tuned-on` of the same program). Filters that remove noise are as strong as the noise that `metrics.estimate` finds,
times a factor. Wavelets are left out: scikit-image needs another package for them, and non-local means were better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from PIL import Image
from skimage import restoration

from productgen.core.pixels import eight_bits
from productgen.metrics.estimate import noise_level

SMALLEST = 0.1  # grey levels: weaker filters change nothing


@dataclasses.dataclass(frozen=True)
class Classical:
    """A filter with its settings.

    Attributes:
      function: from uint8 [H, W, 3] to uint8 [s H, s W, 3], or float in [0, 1]; of `inpaint` it is given `mask` too.
      settings: its arguments.
      grid: what tuning tries for each of them.
    """

    function: Callable[..., np.ndarray]
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    grid: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)

    def __call__(self, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """The restored picture.

        Args:
          image: uint8 [H, W, 3].
          mask: bool [H, W] or [H, W, 1], true where a pixel is missing, for filters that fill these; the others stay
            as they are.

        Returns:
          uint8 [s H, s W, 3].
        """
        if mask is None:
            return _eight(self.function(image, **self.settings))
        mask = mask.reshape(image.shape[:2])
        return np.where(mask[..., None], _eight(self.function(image, mask=mask, **self.settings)), image)

    def with_settings(self, **settings: float) -> Classical:
        """The same filter with other settings."""
        return dataclasses.replace(self, settings={**self.settings, **settings})


def _unit(image: np.ndarray) -> np.ndarray:
    """uint8 as float32 in [0, 1]."""
    return image.astype(np.float32) / 255


def _eight(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8; uint8 as it is."""
    return image if image.dtype == np.uint8 else eight_bits(image)


# Super-resolution.


def _enlarged(scale: int, method: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
    def enlarge(image: np.ndarray) -> np.ndarray:
        size = scale * image.shape[1], scale * image.shape[0]
        return np.asarray(Image.fromarray(image).resize(size, method))

    return enlarge


def _super_resolution(scale: int) -> dict[str, Classical]:
    return {
        'lanczos': Classical(_enlarged(scale, Image.Resampling.LANCZOS)),
        'bicubic': Classical(_enlarged(scale, Image.Resampling.BICUBIC)),
    }


# Smoothing; `strength` is in grey levels.


def _nl_means(image: np.ndarray, strength: float, sigma: float = 0.0) -> np.ndarray:
    """Non-local means (Buades et al. 2005) of colours; `sigma` is the noise of patches, grey levels."""
    if strength < SMALLEST:
        return image
    options = {'patch_size': 5, 'patch_distance': 6, 'fast_mode': True, 'channel_axis': -1}
    return restoration.denoise_nl_means(_unit(image), h=strength / 255, sigma=sigma / 255, **options)


def _nl_means_lab(image: np.ndarray, strength: float) -> np.ndarray:
    """Non-local means of lightness and of colour."""
    return cv2.fastNlMeansDenoisingColored(image, None, strength, strength, 7, 21) if strength >= SMALLEST else image


def _tv(image: np.ndarray, strength: float) -> np.ndarray:
    """Total variation (Chambolle 2004)."""
    if strength < SMALLEST:
        return image
    return restoration.denoise_tv_chambolle(_unit(image), strength / 255, max_num_iter=50, channel_axis=-1)


def _bilateral(image: np.ndarray, strength: float, space: float) -> np.ndarray:
    """Bilateral filter (Tomasi and Manduchi 1998); `space` in pixels."""
    return cv2.bilateralFilter(_unit(image), 0, strength / 255, space) if strength >= SMALLEST else image


def _by_noise(function: Callable[..., np.ndarray], known: bool = False) -> Callable[..., np.ndarray]:
    """A filter whose strength is the estimated noise times `factor`; `known`: it is told the noise too."""

    def filtered(image: np.ndarray, factor: float, **settings: float) -> np.ndarray:
        level = noise_level(_unit(image))
        return function(image, strength=factor * level, **settings, **({'sigma': level} if known else {}))

    return filtered


# Sharpening, for an assumed Gaussian kernel of `sigma` pixels.


def _unsharp(image: np.ndarray, sigma: float, amount: float) -> np.ndarray:
    x = _unit(image)
    return x + amount * (x - _blurred(x, sigma))


def _blurred(x: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _richardson_lucy(image: np.ndarray, sigma: float, steps: float) -> np.ndarray:
    """Richardson 1972, Lucy 1974; beyond its borders the picture is mirrored."""
    seen = np.maximum(_unit(image), 1e-3)
    found = seen.copy()
    for _ in range(int(steps)):
        found *= _blurred(seen / _blurred(found, sigma), sigma)
    return found


def _wiener(image: np.ndarray, sigma: float, balance: float) -> np.ndarray:
    """Wiener filter with a Laplacian prior (`skimage.restoration.wiener`), mirrored beyond the borders."""
    reach = int(np.ceil(4 * sigma))
    row = cv2.getGaussianKernel(2 * reach + 1, sigma)
    padded = np.pad(_unit(image), [(4 * reach, 4 * reach)] * 2 + [(0, 0)], mode='symmetric')
    found = [restoration.wiener(padded[..., i], row @ row.T, balance, clip=False) for i in range(3)]
    return np.stack(found, -1)[4 * reach : -4 * reach, 4 * reach : -4 * reach]


# Holes.


def _filled(method: int) -> Callable[..., np.ndarray]:
    def fill(image: np.ndarray, mask: np.ndarray, radius: float) -> np.ndarray:
        # OpenCV reads a few of the missing pixels at the borders.
        known = image[~mask].mean(0) if not mask.all() else 0.0
        image = np.where(mask[..., None], np.uint8(known), image)
        return cv2.inpaint(image, mask.astype(np.uint8), radius, method)

    return fill


FACTORS = {'factor': (0.4, 0.6, 0.8, 1.0, 1.3, 1.7)}
STRENGTHS = {'strength': (2.0, 4.0, 6.0, 9.0, 13.0, 18.0, 25.0)}
SPACE = {'space': (1.0, 2.0, 3.0)}
SIGMAS = {'sigma': (0.5, 0.7, 1.0, 1.3, 1.5, 1.8)}

CLASSICAL: dict[str, dict[str, Classical]] = {
    'sr2': _super_resolution(2),
    'sr4': _super_resolution(4),
    'denoise': {
        'nl_means': Classical(
            _by_noise(_nl_means, known=True), {'factor': 0.7}, {'factor': (0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.3)}
        ),
        'nl_means_lab': Classical(_by_noise(_nl_means_lab), {'factor': 0.6}, FACTORS),
        'tv': Classical(_by_noise(_tv), {'factor': 0.8}, FACTORS),
        'bilateral': Classical(
            _by_noise(_bilateral), {'factor': 4.0, 'space': 3.0}, {'factor': (1.5, 2.0, 3.0, 4.0, 5.0, 6.5), **SPACE}
        ),
    },
    'jpeg': {
        'nl_means': Classical(_nl_means, {'strength': 4.0}, STRENGTHS),
        'tv': Classical(_tv, {'strength': 1.0}, {'strength': (0.5, 1.0, 2.0, 4.0, 6.0, 9.0)}),
        'bilateral': Classical(_bilateral, {'strength': 18.0, 'space': 2.0}, {**STRENGTHS, **SPACE}),
    },
    'deblur': {
        'unsharp': Classical(
            _unsharp, {'sigma': 1.0, 'amount': 0.75}, {**SIGMAS, 'amount': (0.25, 0.5, 0.75, 1.0, 2.0, 3.0)}
        ),
        'richardson_lucy': Classical(
            _richardson_lucy, {'sigma': 0.7, 'steps': 3.0}, {**SIGMAS, 'steps': (3.0, 6.0, 12.0, 25.0, 50.0)}
        ),
        'wiener': Classical(
            _wiener, {'sigma': 0.7, 'balance': 0.003}, {**SIGMAS, 'balance': (1e-4, 3e-4, 0.001, 0.003, 0.01, 0.03)}
        ),
    },
    'inpaint': {
        'telea': Classical(_filled(cv2.INPAINT_TELEA), {'radius': 2.0}, {'radius': (2.0, 4.0, 8.0)}),
        'navier_stokes': Classical(_filled(cv2.INPAINT_NS), {'radius': 16.0}, {'radius': (2.0, 4.0, 8.0, 16.0)}),
    },
}
