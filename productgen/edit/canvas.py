"""The canvas of a marketplace: the product in the middle of pure white, filling a given part of the frame."""

from __future__ import annotations

import dataclasses
import re

import cv2
import numpy as np

from productgen.config import UserError
from productgen.data.native import Photo, resized

_LOOK = 1024  # longer side of the picture in which the product is looked for


def border(photo: Photo) -> np.ndarray:
    """The median colour [3] of the outermost fiftieth of a photo."""
    height, width = photo.size
    n, m = max(1, height // 50), max(1, width // 50)
    x = photo.pixels
    parts = [part.reshape(-1, 3) for part in (x[:n], x[-n:], x[:, :m], x[:, -m:])]
    return np.median(np.concatenate(parts), 0)


@dataclasses.dataclass(frozen=True)
class Canvas:
    """Crops or extends a photo so that the product fills the frame as asked, on white.

    The product is what differs from the colour of the border, or what is opaque. Where the border is not plain the
    whole photo is taken for the product, and its ground is left as it is. The result has no transparency.

    Attributes:
      ratio: width x height of the frame, such as 1x1 or 4x5.
      fill: the longer side of the product relative to the frame, 0.1 to 1.
      tolerance: how far colours may be from the border's to count as ground, 0.01 to 0.5.
      size: longer side of the result in pixels; 0 keeps the photo's scale.
      upscale: largest factor of enlargement for `size`, 1 to 8; beyond it the result is smaller, and says so.
    """

    ratio: str = '1x1'
    fill: float = 0.85
    tolerance: float = 0.08
    size: int = 0
    upscale: float = 1.0

    def __post_init__(self):
        if not re.fullmatch(r'[1-9]\d{0,3}x[1-9]\d{0,3}', self.ratio):
            raise UserError('ratio', f'{self.ratio!r} is not WIDTHxHEIGHT such as 4x5')
        limits = {'fill': (0.1, 1), 'tolerance': (0.01, 0.5), 'size': (0, 20000), 'upscale': (1, 8)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise UserError(name, f'{getattr(self, name)} is not from {least} to {most}')

    def __call__(self, photo: Photo) -> Photo:
        pixels, notes = np.array(photo.over((1, 1, 1)), np.float32), list(photo.notes)
        flat = photo.replace(pixels=pixels, alpha=None)
        ground = border(flat)
        distance = np.abs(pixels - ground).max(-1)  # [H, W]
        edge = np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]])
        height, width = photo.size
        if np.mean(edge <= self.tolerance) < 0.6:
            notes.append('canvas: the border is not plain, so the whole photo is taken for the product')
            top, left, bottom, right = 0, 0, height, width
        else:
            top, left, bottom, right = self._box(distance if photo.alpha is None else photo.alpha)
            # Ground that reaches the border becomes white, with a soft edge; white inside of the product stays.
            share = np.clip(distance / self.tolerance - 1, 0, 1)
            _, label = cv2.connectedComponents((share < 1).astype(np.uint8), connectivity=4)
            outside = np.unique(np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))
            kept = np.where(np.isin(label, outside[outside > 0]), share, 1)[..., None].astype(np.float32)
            pixels = 1 - kept + pixels * kept
        across, down = map(int, self.ratio.split('x'))
        unit = max((right - left) / across, (bottom - top) / down) / self.fill
        frame = max(1, round(unit * down)), max(1, round(unit * across))
        start = round((top + bottom - frame[0]) / 2), round((left + right - frame[1]) / 2)
        result = np.ones((*frame, 3), np.float32)
        rows, columns = ((max(0, s), min(side, s + n)) for s, side, n in zip(start, photo.size, frame, strict=True))
        result[rows[0] - start[0] : rows[1] - start[0], columns[0] - start[1] : columns[1] - start[1]] = pixels[
            slice(*rows), slice(*columns)
        ]
        if self.size:
            scale = self.size / max(frame)
            if scale > self.upscale:
                scale = self.upscale
                notes.append(f'canvas: smaller than {self.size} pixels, which would enlarge it beyond {self.upscale:g}')
            result = resized(result, tuple(max(1, round(side * scale)) for side in frame))
        return photo.replace(pixels=result, alpha=None, notes=tuple(notes))

    def _box(self, distance: np.ndarray) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of what is no ground, without specks; the whole where there is nothing else."""
        height, width = distance.shape
        scale = max(1.0, max(height, width) / _LOOK)
        small = resized(distance, (max(1, round(height / scale)), max(1, round(width / scale))))
        count, _, stats, _ = cv2.connectedComponentsWithStats((small > self.tolerance).astype(np.uint8))
        boxes = stats[1:count]
        boxes = boxes[boxes[:, cv2.CC_STAT_AREA] >= 0.0005 * small.size] if len(boxes) else boxes
        if not len(boxes):
            return 0, 0, height, width
        left, top = boxes[:, :2].min(0)
        right, bottom = (boxes[:, :2] + boxes[:, 2:4]).max(0)
        limit = lambda value, side: int(np.clip(round(value * scale), 0, side))
        return limit(top, height), limit(left, width), limit(bottom, height), limit(right, width)
