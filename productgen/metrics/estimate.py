"""What is wrong with a photo: its noise, blur and JPEG blocks, estimated from its pixels alone."""

from __future__ import annotations

import dataclasses

import numpy as np
from skimage.measure import blur_effect

from productgen.core.pixels import LUMA

BLOCK = 32  # side of the areas in which noise is measured
LARGEST = 2048  # longer sides are measured in their middle only

# Above these a photo is restored; see `estimate`.
NOISE = 4.0
BLOCKS = 1.35
BLUR = 0.55


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of a photo.

    Attributes:
      sigma: standard deviation of its noise, grey levels of 255.
      blocks: how much steeper steps are on the grid of JPEG's blocks than off it; 1 without blocks.
      blur: Crete's measure, 0 (sharp) to 1.
    """

    sigma: float
    blocks: float
    blur: float

    @property
    def tasks(self) -> tuple[str, ...]:
        """What to do, in order: blocks first, since they would look like detail to the others."""
        found = ('jpeg',) if self.blocks > BLOCKS else ()
        found += ('denoise',) if self.sigma > NOISE else ()
        return found + (('deblur',) if self.blur > BLUR and not found else ())

    def __str__(self) -> str:
        return f'noise {self.sigma:.1f}, blocks {self.blocks:.2f}, blur {self.blur:.2f}'


def estimate(pixels: np.ndarray) -> Estimate:
    """Estimates what is wrong with a photo.

    Noise: the median absolute deviation of the finest diagonal Haar coefficients (Donoho and Johnstone 1994), in the
    quarter of all blocks with the least, since texture is no noise. Blocks: mean steps of luma by their position
    modulo 8, the largest over the median. Blur: `skimage.measure.blur_effect` (Crete et al. 2007).

    Args:
      pixels: float32 [H, W, 3] in [0, 1].
    """
    luma = _luma(pixels)
    return Estimate(_sigma(luma), _blocks(luma), _blur(luma))


def noise_level(pixels: np.ndarray) -> float:
    """`Estimate.sigma` alone."""
    return _sigma(_luma(pixels))


def _luma(pixels: np.ndarray) -> np.ndarray:
    return np.clip(_middle(pixels), 0, 1) @ LUMA


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (max(0, length - LARGEST) // 2 for length in pixels.shape[:2])
    return pixels[top : top + LARGEST, left : left + LARGEST]


def _sigma(luma: np.ndarray) -> float:
    height, width = (length // 2 * 2 for length in luma.shape)
    x = luma[:height, :width]
    detail = np.abs(x[::2, ::2] - x[::2, 1::2] - x[1::2, ::2] + x[1::2, 1::2]) / 2
    side = BLOCK // 2
    rows, columns = (max(length // side, 1) for length in detail.shape)
    blocks = [
        np.median(part) for row in np.array_split(detail, rows) for part in np.array_split(row, columns, 1) if part.size
    ]
    # A channel's noise is that of luma over the norm of luma's weights.
    return float(np.quantile(blocks, 0.25) / 0.6745 * 255 / np.linalg.norm(LUMA)) if blocks else 0.0


def _blocks(luma: np.ndarray) -> float:
    found = []
    for x in (luma, luma.T):
        if min(x.shape) < 24:
            continue
        # Steps less the mean of the steps beside them: edges of the product do not count.
        step = np.abs(np.diff(x, axis=1))
        excess = step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2
        means = np.array([np.mean(np.clip(excess[:, i::8], -0.05, 0.05)) for i in range(8)])
        typical = np.median(np.mean(np.clip(step, 0, 0.05), 0)) + 1 / 255 / 4
        found.append(1 + (np.max(means) - np.median(means)) / typical)
    return float(min(found)) if found else 1.0


def _blur(luma: np.ndarray) -> float:
    return float(blur_effect(luma)) if min(luma.shape) >= 16 else 0.0
