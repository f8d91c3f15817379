"""Sheets of a photo before and after, with figures where there is a perfect version of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from skimage.metrics import structural_similarity

from productgen.core.pixels import eight_bits
from productgen.data.images import BadImage
from productgen.data.native import Photo, read_photo, resized
from productgen.data.pictures import save_png, side_by_side
from productgen.data.profiles import STRIP
from productgen.data.scan import scan
from productgen.losses.pixel import SSIM_SIGMA, SSIM_WINDOW
from productgen.model.features import open_lpips

# Pictures uint8 [N, H, W, 3], twice -> distances [N].
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SIDE = 480  # pixels of a picture of a sheet
_SQUARE = 256  # pixels of a side of what LPIPS compares


class References:
    """Perfect versions of photos, found by their names without the ending.

    Args:
      folder: of files that `read_photo` reads.
      lpips: trunk of the LPIPS to compare by; empty for none.

    Raises:
      UserError: its published weights are missing.
    """

    def __init__(self, folder: Path, lpips: str = ''):
        self._lock = threading.Lock()
        self._lpips = open_lpips(lpips, 1) if lpips else None
        self._paths = {Path(name).with_suffix('').as_posix(): folder / name for name in sorted(scan(folder).pictures)}

    def find(self, name: str) -> Path | None:
        """The version of a photo, by its name in the input."""
        return self._paths.get(Path(name).with_suffix('').as_posix())

    def figures(self, picture: np.ndarray, perfect: np.ndarray) -> str:
        """How near a picture is to its perfect version, both [H, W, 3] in [0, 1]; several threads may ask."""
        text = f'PSNR {psnr(picture, perfect):.2f} dB   SSIM {ssim(picture, perfect):.4f}'
        if self._lpips:
            with self._lock:
                text += f'   LPIPS {lpips_in_squares(self._lpips, picture, perfect):.4f}'
        return text


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of [H, W, 3] in [0, 1], as `metrics.pairwise.psnr`, for photos of any size."""
    total = sum(float(np.sum(np.square(a - b), dtype=np.float64)) for a, b in _strips(one, other, 0))
    return 10 * np.log10(one.size / total) if total else np.inf


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """SSIM of [H, W, 3] in [0, 1], as `metrics.pairwise.ssim`, for photos of any size; NaN below 11 pixels a side."""
    if min(one.shape[:2]) < SSIM_WINDOW:
        return np.nan
    options = {'gaussian_weights': True, 'sigma': SSIM_SIGMA, 'use_sample_covariance': False}
    parts = []
    for a, b in _strips(one, other, SSIM_WINDOW - 1):  # each window is in one strip
        value = structural_similarity(a, b, data_range=1, channel_axis=-1, **options)
        parts.append((value, len(a) - SSIM_WINDOW + 1))
    return sum(value * rows for value, rows in parts) / sum(rows for _, rows in parts)


def _strips(one: np.ndarray, other: np.ndarray, overlap: int):
    rows = max(1, STRIP // one.shape[1])
    for start in range(0, len(one) - overlap, rows):
        yield (np.clip(x[start : start + rows + overlap], 0, 1) for x in (one, other))


def lpips_in_squares(distance: Distance, one: np.ndarray, other: np.ndarray) -> float:
    """LPIPS of [H, W, 3] in [0, 1]: the mean over squares of at most 256 pixels that cover the photo.

    Args:
      distance: of `model.features.open_lpips`.
      one: a photo of any size.
      other: a photo of the same size.
    """
    side = min(_SQUARE, *one.shape[:2])
    starts = [np.linspace(0, length - side, -(-length // side)).round().astype(int) for length in one.shape[:2]]
    places = [(y, x) for y in starts[0] for x in starts[1]]
    square = lambda picture, y, x: eight_bits(picture[y : y + side, x : x + side])[None]
    return float(np.mean([distance(square(one, *at), square(other, *at)) for at in places]))


def sheet(path: Path, before: Photo, after: Photo, name: str = '', references: References | None = None) -> None:
    """Writes a PNG: the photo before, after and the reference, as a whole and a part of it pixel by pixel.

    Args:
      path: of the sheet.
      before: the photo.
      after: it may have another size.
      name: of the photo in the input.
      references: perfect versions, where there are some.
    """
    white = (1.0, 1.0, 1.0)
    one, other = before.over(white), after.over(white)
    # What changes its frame, such as a canvas, is no pair pixel by pixel.
    grown = np.divide(after.size, before.size)
    same = abs(grown[0] / grown[1] - 1) < 0.02
    pairs, names = [one, other], ['before', 'after']
    reference = references and references.find(name)
    if reference:
        try:
            perfect = read_photo(reference).over(white)
        except BadImage as error:
            names[1] += f'   (reference: {error.reason})'
        else:
            pairs.append(perfect)
            names.append('reference')
            for i, picture in enumerate((one, other)):
                if picture.shape == perfect.shape:
                    names[i] += f'   {references.figures(picture, perfect)}'
    length = len(names[0])
    narrowest = 260 if length < 20 else 380 if length < 50 else 480  # so that a caption fits
    center = _detail(other)
    rows = []
    for picture in pairs:
        parts = [_fitted(picture)]
        if same:
            parts.append(_crop(picture, center, other.shape[:2]))
        width = max(narrowest, *(x.shape[1] for x in parts))
        rows.append(np.concatenate([_padded(x, width) for x in parts]))
    save_png(path, side_by_side(rows, names))


def _detail(picture: np.ndarray) -> tuple[float, float]:
    """Where a photo has most detail, (y, x) as fractions of its size."""
    small = resized(picture[..., 1], tuple(min(side, 256) for side in picture.shape[:2]))
    change = np.abs(np.diff(small, axis=0, append=small[-1:])) + np.abs(np.diff(small, axis=1, append=small[:, -1:]))
    coarse = resized(np.ascontiguousarray(change, np.float32), tuple(min(side, 8) for side in small.shape))
    y, x = np.unravel_index(coarse.argmax(), coarse.shape)
    return (y + 0.5) / coarse.shape[0], (x + 0.5) / coarse.shape[1]


def _crop(picture: np.ndarray, center: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The part of a photo around a place, as large as it is in a photo of `size`; small ones are repeated pixels."""
    sides = [max(1, round(min(_SIDE, of) * side / of)) for side, of in zip(picture.shape[:2], size, strict=True)]
    start = [
        int(np.clip(c * side - n / 2, 0, side - n)) for c, side, n in zip(center, picture.shape[:2], sides, strict=True)
    ]
    part = picture[start[0] : start[0] + sides[0], start[1] : start[1] + sides[1]]
    repeat = max(1, round(size[0] / picture.shape[0]))
    return eight_bits(part.repeat(repeat, 0).repeat(repeat, 1))


def _fitted(picture: np.ndarray) -> np.ndarray:
    scale = min(1, _SIDE / max(picture.shape[:2]))
    return eight_bits(resized(picture, tuple(max(1, round(side * scale)) for side in picture.shape[:2])))


def _padded(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture in the middle of white of a width, with a line below."""
    left = (width - picture.shape[1]) // 2
    return np.pad(picture, [(0, 4), (left, width - picture.shape[1] - left), (0, 0)], constant_values=255)
