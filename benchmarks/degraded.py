"""Photos degraded whole by Pillow, OpenCV and NumPy: what benchmarks/restoration.py measures on."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from productgen.core.pixels import eight_bits

# uint8 [H, W, 3] -> the same degraded, and the mask of missing pixels or None.
Degrade = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray | None]]


def smaller(scale: int) -> Degrade:
    def degrade(image: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, None]:
        size = image.shape[1] // scale, image.shape[0] // scale
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), None

    return degrade


def noisy(sigma: float) -> Degrade:
    return lambda image, draw: (eight_bits(image / 255 + draw.normal(0, sigma / 255, image.shape)), None)


def compressed(quality: int) -> Degrade:
    def degrade(image: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, None]:
        file = io.BytesIO()
        Image.fromarray(image).save(file, 'JPEG', quality=quality)
        return np.asarray(Image.open(file)), None

    return degrade


def blurred(low: float, high: float) -> Degrade:
    """A Gaussian kernel of a standard deviation from an interval."""

    def degrade(image: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, None]:
        image, sigma = image.astype(np.float32) / 255, draw.uniform(low, high)
        return eight_bits(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)), None

    return degrade


def stored(degrade: Degrade, quality: int = 90) -> Degrade:
    """Then compressed, as a camera does."""
    return lambda image, draw: compressed(quality)(degrade(image, draw)[0], draw)


def holed(fraction: float) -> Degrade:
    """Strokes of a brush that turns, until a fraction of the picture is missing."""

    def degrade(image: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        shorter, mask = min(height, width), np.zeros((height, width), np.uint8)
        while mask.mean() < fraction:
            corner, angle = draw.uniform(0, 1, 2) * (width, height), draw.uniform(0, 2 * np.pi)
            thick = max(1, round(shorter * draw.uniform(0.03, 0.08)))
            for _ in range(draw.integers(2, 6)):
                angle += np.pi + draw.uniform(-1.5, 1.5)
                step = shorter * draw.uniform(0.1, 0.3) * np.array([np.cos(angle), np.sin(angle)])
                end = np.clip(corner + step, 0, (width - 1, height - 1))
                cv2.line(mask, *(tuple(int(x) for x in point) for point in (corner, end)), 1, thick)
                corner = end
        return np.where(mask[..., None] > 0, np.uint8(128), image), mask > 0

    return degrade


SETTINGS: dict[str, tuple[str, Degrade]] = {
    'x2 bicubic': ('sr2', smaller(2)),
    'x4 bicubic': ('sr4', smaller(4)),
    'noise 15': ('denoise', noisy(15)),
    'noise 25': ('denoise', noisy(25)),
    'noise 50': ('denoise', noisy(50)),
    'noise 25, then JPEG 90': ('denoise', stored(noisy(25))),
    'JPEG 10': ('jpeg', compressed(10)),
    'JPEG 20': ('jpeg', compressed(20)),
    'JPEG 40': ('jpeg', compressed(40)),
    'blur 1.5': ('deblur', blurred(1.5, 1.5)),
    'blur 0.7 to 2.3, then JPEG 90': ('deblur', stored(blurred(0.7, 2.3))),
    'holes 20 %': ('inpaint', holed(0.2)),
}
