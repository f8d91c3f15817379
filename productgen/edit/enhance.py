"""Steps that improve a photo without a network, in float and in the order that a text names them.

`white_balance:method=background,levels,canvas:fill=0.85`: steps are separated by commas, options by colons. Steps work
on sRGB-coded values; none clips but where it says so.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from skimage.filters import unsharp_mask

from productgen.config import UserError, build, choose
from productgen.core.pixels import LUMA
from productgen.data.native import Photo
from productgen.data.profiles import STRIP, coded, linear
from productgen.edit.canvas import Canvas, border

_SAMPLE = 2**20  # pixels that are looked at
_CAST = 0.2  # largest difference of the channels of a white ground, as of paper under a lamp


def _pointwise(photo: Photo, function: Callable[[np.ndarray], np.ndarray]) -> Photo:
    """Applies a function of colours [h, W, 3] strip by strip."""
    result, rows = np.empty_like(photo.pixels), max(1, STRIP // photo.size[1])
    for start in range(0, photo.size[0], rows):
        result[start : start + rows] = function(photo.pixels[start : start + rows])
    return photo.replace(pixels=result)


def _with_luma(photo: Photo, luma: np.ndarray, new: np.ndarray) -> Photo:
    """The same differences of the channels with another luma, [H, W] each."""
    return photo.replace(pixels=photo.pixels + (new - luma)[..., None])


def _visible(photo: Photo) -> np.ndarray:
    """Colours [N, 3] of an even sample of the visible pixels."""
    step = int(np.ceil(np.sqrt(photo.size[0] * photo.size[1] / _SAMPLE)))
    colors = photo.pixels[::step, ::step].reshape(-1, 3)
    if photo.alpha is None:
        return colors
    seen = colors[photo.alpha[::step, ::step].ravel() > 0.5]
    return seen if len(seen) else colors


@dataclasses.dataclass(frozen=True)
class WhiteBalance:
    """Scales the channels in linear light (von Kries, in sRGB).

    Attributes:
      method: `grey_world` makes the mean gray, `white_patch` the brightest percent; `background` makes the
        border, which should be plain, white; a coloured border is left as it is, and says so.
      limit: largest factor of a channel, 1 to 8.
    """

    method: str = 'white_patch'
    limit: float = 2.0

    def __post_init__(self):
        choose(dict.fromkeys(('grey_world', 'white_patch', 'background')), self.method, 'method')
        _within(self, limit=(1, 8))

    def __call__(self, photo: Photo) -> Photo:
        if self.method == 'background':
            ground = border(photo)
            if np.ptp(ground) > _CAST:
                note = 'white_balance: the border is coloured, not white in a coloured light, so nothing is changed'
                return photo.replace(notes=(*photo.notes, note))
            gain = 1 / np.maximum(linear(ground), 1e-3)
        else:
            light = linear(_visible(photo))
            level = light.mean(0) if self.method == 'grey_world' else np.percentile(light, 99, axis=0)
            level = np.maximum(level, 1e-4)
            gain = level.mean() / level if self.method == 'grey_world' else level.max() / level
        gain = (gain * min(1, self.limit / gain.max())).astype(np.float32)
        return _pointwise(photo, lambda x: coded(linear(x) * gain))


@dataclasses.dataclass(frozen=True)
class Exposure:
    """Multiplies linear light by 2^stops, -5 to 5."""

    stops: float = 0.5

    def __post_init__(self):
        _within(self, stops=(-5, 5))

    def __call__(self, photo: Photo) -> Photo:
        return _pointwise(photo, lambda x: coded(linear(x) * np.float32(2**self.stops)))


@dataclasses.dataclass(frozen=True)
class Levels:
    """Makes two percentiles of all values black and white, for all channels alike; 0 <= low < high <= 100."""

    low: float = 0.1
    high: float = 99.9

    def __post_init__(self):
        _within(self, low=(0, 100), high=(0, 100))
        if not self.low < self.high:
            raise UserError('low', 'must be below high')

    def __call__(self, photo: Photo) -> Photo:
        black, white = np.percentile(_visible(photo), (self.low, self.high)).astype(np.float32)
        return photo if white - black < 1 / 255 else _pointwise(photo, lambda x: (x - black) / (white - black))


@dataclasses.dataclass(frozen=True)
class Clahe:
    """Contrast-limited adaptive histogram equalisation of the luma (OpenCV); clip 0 to 40, tiles 1 to 64 a side."""

    clip: float = 2.0
    tiles: int = 8

    def __post_init__(self):
        _within(self, clip=(0, 40), tiles=(1, 64))

    def __call__(self, photo: Photo) -> Photo:
        luma = np.clip(photo.pixels @ LUMA, 0, 1)
        tiles = tuple(min(self.tiles, side) for side in photo.size[::-1])
        new = cv2.createCLAHE(self.clip, tiles).apply(np.rint(luma * 65535).astype(np.uint16))
        return _with_luma(photo, luma, new.astype(np.float32) / 65535)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Scales the distance from middle gray, 0 to 5; 1 changes nothing."""

    amount: float = 1.1

    def __post_init__(self):
        _within(self, amount=(0, 5))

    def __call__(self, photo: Photo) -> Photo:
        return _pointwise(photo, lambda x: 0.5 + np.float32(self.amount) * (x - 0.5))


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Scales the distance from the luma (ITU-R BT.601), 0 to 5; 1 changes nothing."""

    amount: float = 1.15

    def __post_init__(self):
        _within(self, amount=(0, 5))

    def __call__(self, photo: Photo) -> Photo:
        def move(x: np.ndarray) -> np.ndarray:
            gray = (x @ LUMA)[..., None]
            return gray + np.float32(self.amount) * (x - gray)

        return _pointwise(photo, move)


@dataclasses.dataclass(frozen=True)
class Sharpen:
    """Unsharp mask of the luma (scikit-image); radius 0.1 to 50 pixels, amount 0 to 5."""

    radius: float = 1.0
    amount: float = 0.5

    def __post_init__(self):
        _within(self, radius=(0.1, 50), amount=(0, 5))

    def __call__(self, photo: Photo) -> Photo:
        luma = photo.pixels @ LUMA
        return _with_luma(photo, luma, unsharp_mask(luma, self.radius, self.amount, preserve_range=True))


@dataclasses.dataclass(frozen=True)
class Denoise:
    """Non-local means (OpenCV, 16 bits), in values clipped to [0, 1]; strength 0.1 to 50, in levels of 255."""

    strength: float = 4.0

    def __post_init__(self):
        _within(self, strength=(0.1, 50))

    def __call__(self, photo: Photo) -> Photo:
        def smooth(pixels: np.ndarray) -> np.ndarray:
            deep = np.rint(pixels * 65535).astype(np.uint16)
            channels = [
                cv2.fastNlMeansDenoising(
                    np.ascontiguousarray(deep[..., i]),
                    h=[self.strength * 257],
                    templateWindowSize=5,
                    searchWindowSize=15,
                    normType=cv2.NORM_L1,
                )
                for i in range(3)
            ]
            return np.stack(channels, -1).astype(np.float32) / 65535

        return photo.mapped(smooth)


@dataclasses.dataclass(frozen=True)
class Grayscale:
    """Gray of the same luminance (linear light, ITU-R BT.709)."""

    def __call__(self, photo: Photo) -> Photo:
        weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
        return _pointwise(photo, lambda x: np.broadcast_to(coded(linear(x) @ weights)[..., None], x.shape))


STEPS: dict[str, type] = {
    'white_balance': WhiteBalance,
    'exposure': Exposure,
    'levels': Levels,
    'clahe': Clahe,
    'contrast': Contrast,
    'saturation': Saturation,
    'sharpen': Sharpen,
    'denoise': Denoise,
    'grayscale': Grayscale,
    'canvas': Canvas,
}


def _within(step: Any, **ranges: tuple[float, float]) -> None:
    for name, (least, most) in ranges.items():
        if not least <= getattr(step, name) <= most:
            raise UserError(name, f'{getattr(step, name)} is not from {least} to {most}')


def parse_steps(text: str, field: str) -> list[Callable[[Photo], Photo]]:
    """The steps of a text, with their options.

    Raises:
      UserError: an unknown step or option, or a value that is none; the message names `field`.
    """
    steps = []
    for part in filter(None, map(str.strip, text.split(','))):
        name, *options = (word.strip() for word in part.split(':'))
        cls, place = choose(STEPS, name, field), f'{field}: {name}'
        kinds, values = typing.get_type_hints(cls), {}
        for option in options:
            key, equals, value = option.partition('=')
            if not equals:
                raise UserError(place, f'{option!r} is not OPTION=VALUE')
            try:
                values[key] = kinds.get(key, str)(value)
            except ValueError:
                raise UserError(f'{place}.{key}', f'{value!r} is not a number') from None
        try:
            steps.append(build(cls, values, place))
        except UserError as error:
            raise (error if error.field.startswith(place) else error.at(place)) from None
    if not steps:
        raise UserError(field, 'names no step', f'such as white_balance,levels,sharpen (of {", ".join(STEPS)})')
    return steps


def enhance(photo: Photo, steps: list[Callable[[Photo], Photo]]) -> Photo:
    """A photo after all steps."""
    for step in steps:
        photo = step(photo)
    return photo
