"""Sliced Wasserstein distance between patches of two sets of images, on each level of a Laplacian pyramid.

Karras et al., "Progressive Growing of GANs", ICLR 2018, section 5: patches of 7 x 7 pixels from every level are
normalised by the mean and standard deviation of each colour channel and compared along 512 random directions. The
finest level measures noise and sharpness, the coarsest, of at least 16 pixels, large-scale structure.

There are three differences. Both sets are normalised by the statistics of the real images, so that a wrong contrast or
colour cast counts. The patch positions are drawn once and are the same in all images, so that the order of the images
does not matter and equal sets have distance 0. Sets are smaller than the paper's 16,384 images: compare values with the
distance between two halves of the data, which decreases with the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

PATCH = 7
PATCHES = 128  # patches per image and level, as in the paper ...
MOST = 2**15  # ... but at most this many of all images: sorting dominates the time
DIRECTIONS = 512
COARSEST = 16
_CHUNK = 32  # directions per call: sorting copies the projections

_TAPS = np.array([1, 4, 6, 4, 1], np.float32) / 16  # of Burt and Adelson 1983


def _blur(images: np.ndarray) -> np.ndarray:
    """5 x 5 binomial blur of [N, H, W, C], with reflected borders."""
    for axis in (1, 2):
        length = images.shape[axis]
        widths = [(2, 2) if a == axis else (0, 0) for a in range(4)]
        padded = np.pad(images, widths, 'reflect')
        images = sum(t * np.take(padded, np.arange(i, i + length), axis) for i, t in enumerate(_TAPS))
    return images


def _down(images: np.ndarray) -> np.ndarray:
    return _blur(images)[:, ::2, ::2]


def _up(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Upsamples to (H, W): inserts zeros, blurs, and divides by the sum of the weights."""
    spread = np.zeros((len(images), *shape, images.shape[-1]), np.float32)
    spread[:, ::2, ::2] = images
    weight = np.zeros((1, *shape, 1), np.float32)
    weight[:, ::2, ::2] = 1
    return _blur(spread) / _blur(weight)


def pyramid(images: np.ndarray) -> list[np.ndarray]:
    """Laplacian pyramid of [N, H, W, C], finest level first.

    Each level is the difference to the upsampled next coarser one; the last is the low-pass residual, the coarsest
    whose shorter side has at least 16 pixels.
    """
    level, levels = np.asarray(images, np.float32), []
    while (min(level.shape[1:3]) + 1) // 2 >= COARSEST:
        coarser = _down(level)
        levels.append(level - _up(coarser, level.shape[1:3]))
        level = coarser
    return [*levels, level]


class SlicedWasserstein:
    """Distance of sets of images to a fixed reference set.

    Args:
      real: batches uint8 [n, H, W, C].
      count: total number of images.
      seed: random seed of patch positions and directions.
    """

    def __init__(self, real: Iterable[np.ndarray], count: int, seed: int = 0):
        self._seed = seed
        self._patches = min(PATCHES, max(MOST // count, 1))
        self._real = self._descriptors(real)
        self._moments = {}
        for name, patches in self._real.items():
            std = patches.std((0, 1))  # of each channel
            self._moments[name] = patches.mean((0, 1)), np.maximum(std, 1e-8)

    def __call__(self, images: Iterable[np.ndarray]) -> dict[str, float]:
        """Computes distances x 1000 of as many images as there are real ones: `swd_SIZE` per level, `swd` their mean.

        Raises:
          ValueError: the number or size of the images differs.
        """
        found, descriptors = {}, self._descriptors(images)
        shapes = [{name: x.shape for name, x in patches.items()} for patches in (self._real, descriptors)]
        if shapes[0] != shapes[1]:
            raise ValueError('the two sets of images differ in number or size')
        for name, fake in descriptors.items():
            mean, std = self._moments[name]
            both = [((x - mean) / std).reshape(len(x), -1) for x in (self._real[name], fake)]
            found[f'swd_{name}'] = 1000 * sliced_distance(*both, seed=self._seed)
        return {'swd': float(np.mean(list(found.values()))), **found}

    def _descriptors(self, images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Extracts patches float32 [N x P, 49, C] of every level, by the level's name."""
        found: dict[str, list[np.ndarray]] = {}
        for part in images:
            for level in pyramid(np.asarray(part, np.float32) / 127.5 - 1):
                found.setdefault(level_name(level.shape[1:3]), []).append(_patches(level, self._patches, self._seed))
        return {name: np.concatenate(parts) for name, parts in found.items()}


def level_name(shape: tuple[int, int]) -> str:
    """Name of a level of (height, width): `32`, or `24x32` (width x height)."""
    height, width = shape
    return str(height) if height == width else f'{width}x{height}'


def figure_names(shape: tuple[int, int]) -> tuple[str, ...]:
    """Names of the metrics for images of (height, width)."""
    return 'swd', *(f'swd_{level_name(level.shape[1:3])}' for level in pyramid(np.zeros((1, *shape, 1))))


def _patches(level: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Extracts patches at `count` random positions, or all if fewer, equal for all images, -> [N x P, 49, C]."""
    height, width = (min(PATCH, side) for side in level.shape[1:3])
    rows, columns = level.shape[1] - height + 1, level.shape[2] - width + 1
    chosen = np.sort(np.random.RandomState(seed).permutation(rows * columns)[:count])
    windows = [level[:, y : y + height, x : x + width] for y, x in zip(*divmod(chosen, columns), strict=True)]
    return np.stack(windows, 1).reshape(-1, height * width, level.shape[-1])


def sliced_distance(a: np.ndarray, b: np.ndarray, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """Sliced Wasserstein-1 distance of [M, D] and [M, D] (Rabin et al. 2011).

    The mean over random directions of the distance of the projections: in one dimension, the mean absolute difference
    of the sorted values.
    """
    axes = np.random.RandomState(seed).standard_normal((directions, a.shape[1])).astype(np.float32)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, directions, _CHUNK):
        part = axes[start : start + _CHUNK]
        difference = np.sort(part @ a.T, 1) - np.sort(part @ b.T, 1)
        total += float(np.abs(difference).mean(1, dtype=np.float64).sum())
    return total / directions
