"""Perceptual path length: how smoothly images change along straight lines between latents.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", CVPR 2019, section 4.1: the
mean of d(G(w(t)), G(w(t + e))) / e^2 over pairs of latents, where d is a perceptual distance that is quadratic for
similar images.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

STEP = 1e-4  # e, as in the paper
TRIM = 0.01  # fraction of the smallest and of the largest values that is discarded, as in the reference code


@dataclasses.dataclass(frozen=True)
class PathLength:
    """Trimmed mean over the pairs, and its standard error (Tukey and McLaughlin 1963); NaN for a single pair."""

    value: float
    standard_error: float


def perceptual_path_length(distances: ArrayLike, step: float = STEP, trim: float = TRIM) -> PathLength:
    """Computes the path length from distances [N] between images whose latents are `step` apart.

    Raises:
      ValueError: no distances, distances that are not finite, or a trim outside [0, 0.5).
    """
    lengths = np.sort(np.asarray(distances, np.float64)) / step**2
    if lengths.ndim != 1 or not len(lengths) or not np.isfinite(lengths).all():
        raise ValueError(f'expected finite distances [N], got {lengths.shape}')
    if not 0 <= trim < 0.5:
        raise ValueError(f'trim must be at least 0 and below 0.5, got {trim}')
    count = len(lengths)
    cut = int(trim * (count - 1))  # values beyond the quantiles
    kept = lengths[cut : count - cut]
    if count < 2:
        return PathLength(float(kept.mean()), float('nan'))
    winsorised = np.clip(lengths, kept[0], kept[-1])
    return PathLength(float(kept.mean()), float(np.std(winsorised, ddof=1) / ((1 - 2 * cut / count) * np.sqrt(count))))
