"""Colour profiles of files: from a file's own values to sRGB and back.

Profiles of three primaries and a curve each (sRGB, Display P3, Adobe RGB, ProPhoto) and of one gray curve are computed
here in float32 and without clipping: colours outside of sRGB become values below 0 or above 1, and come back as they
were. All others (tables, CMYK) go through LittleCMS with 8 bits.

Source: ICC.1:2022, sections 7.2 and 7.3 (header and tags), 10.6 `curveType`, 10.18 `parametricCurveType`, F.3 (matrix).
"""

from __future__ import annotations

import functools
import io
import struct
from typing import Protocol

import numpy as np
from PIL import Image, ImageCms

from productgen.core.pixels import LUMA, from_linear, to_linear

STRIP = 2**20  # pixels that are converted at once, so that a large photo needs little beyond its own memory

_SRGB = ImageCms.createProfile('sRGB')
_NODES = 4096  # of a sampled curve
_CMS = {
    'renderingIntent': ImageCms.Intent.RELATIVE_COLORIMETRIC,
    'flags': ImageCms.Flags.BLACKPOINTCOMPENSATION,
}


def linear(coded: np.ndarray) -> np.ndarray:
    """Linear light of sRGB-coded values (IEC 61966-2-1), any floats; negative ones are mirrored."""
    return np.copysign(to_linear(np.abs(coded)), coded)


def coded(light: np.ndarray) -> np.ndarray:
    """sRGB-coded values of linear light, the inverse of `linear`."""
    return np.copysign(from_linear(np.abs(light)), light)


class Profile(Protocol):
    """A conversion between a file's values and sRGB.

    `decode` takes floats [N, C] in [0, 1] and returns sRGB-coded float32 [N, 3], which may lie outside of [0, 1];
    `encode` is its inverse, and clips what the file cannot hold. C is 1, 3 or 4, as the file has channels.
    """

    def decode(self, values: np.ndarray) -> np.ndarray: ...

    def encode(self, pixels: np.ndarray) -> np.ndarray: ...


class Plain:
    """sRGB itself, or gray values coded like it.

    Args:
      channels: 1 or 3.
    """

    def __init__(self, channels: int):
        self._channels = channels

    def decode(self, values: np.ndarray) -> np.ndarray:
        return np.broadcast_to(values, (len(values), 3))

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return np.clip(pixels if self._channels == 3 else pixels @ LUMA[:, None], 0, 1)


class _Matrix:
    """Primaries and curves.

    Args:
      curves: linear values [K] of evenly spaced coded ones, one curve a channel.
      matrix: [3, 3], from linear values to XYZ of the profile connection space; None for a gray curve.
      channels: of the file; a gray file may have a profile of colours.
    """

    def __init__(self, curves: list[np.ndarray], matrix: np.ndarray | None, channels: int):
        self._curves, self._channels = curves, channels
        self._matrix = None if matrix is None else (np.linalg.inv(_srgb_matrix()) @ matrix).astype(np.float32)
        self._inverse = None if matrix is None else np.linalg.inv(self._matrix)

    def decode(self, values: np.ndarray) -> np.ndarray:
        values = np.broadcast_to(values, (len(values), len(self._curves)))
        light = np.stack(
            [np.interp(x, _grid(len(curve)), curve) for x, curve in zip(values.T, self._curves, strict=True)], -1
        )
        light = light.astype(np.float32)
        return coded(np.broadcast_to(light, (len(light), 3)) if self._matrix is None else light @ self._matrix.T)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        pixels = pixels if self._channels == 3 else np.repeat(pixels @ LUMA[:, None], 3, -1)
        light = linear(pixels)
        light = light[:, :1] if self._inverse is None else light @ self._inverse.T
        light = np.clip(light, 0, 1)
        values = [np.interp(x, curve, _grid(len(curve))) for x, curve in zip(light.T, self._curves, strict=True)]
        return np.stack(values[: self._channels], -1).astype(np.float32)


class _Tables:
    """What LittleCMS converts, with 8 bits.

    Args:
      profile: of the file.
      mode: Pillow's, of the file: L, RGB or CMYK.
    """

    def __init__(self, profile: ImageCms.ImageCmsProfile, mode: str):
        self._mode = mode
        self._decode = ImageCms.buildTransform(profile, _SRGB, mode, 'RGB', **_CMS)
        self._encode = ImageCms.buildTransform(_SRGB, profile, 'RGB', mode, **_CMS)

    def decode(self, values: np.ndarray) -> np.ndarray:
        return self._apply(self._decode, values, self._mode)

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self._apply(self._encode, np.clip(pixels, 0, 1), 'RGB')

    def _apply(self, transform: ImageCms.ImageCmsTransform, values: np.ndarray, mode: str) -> np.ndarray:
        eight = np.ascontiguousarray(np.rint(values * 255).astype(np.uint8))
        result = transform.apply(Image.frombytes(mode, (1, len(eight)), eight.tobytes()))
        return np.asarray(result, np.float32).reshape(len(eight), -1) / 255


class Inks:
    """CMYK without a profile, as Pillow and browsers show it; there is no way back."""

    def decode(self, values: np.ndarray) -> np.ndarray:
        return (1 - values[:, :3]) * (1 - values[:, 3:])


@functools.lru_cache(maxsize=32)
def open_profile(data: bytes, mode: str) -> Profile | None:
    """The conversion of an embedded ICC profile.

    Args:
      data: the profile.
      mode: Pillow's, of the file's values: L, RGB or CMYK.

    Returns:
      None where the profile is damaged, is for other kinds of values, or has no way back.
    """
    channels = {'L': 1, 'RGB': 3, 'CMYK': 4}[mode]
    try:
        found = _matrix(data, channels)
    except (struct.error, ValueError, IndexError, KeyError, np.linalg.LinAlgError):
        found = None
    if found is None:
        try:
            return _Tables(ImageCms.ImageCmsProfile(io.BytesIO(data)), mode)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            return None
    # Most profiles are variants of sRGB, whose values need no conversion: they come back unchanged either way.
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 9)] * channels), -1).reshape(-1, channels)
    return Plain(channels) if np.abs(found.decode(grid) - grid).max() <= 1 / 255 else found


def _matrix(data: bytes, channels: int) -> _Matrix | None:
    """A profile of primaries and curves; None where it is another kind.

    Raises:
      ValueError, struct.error, IndexError, KeyError: it is damaged.
    """
    tags = _tags(data)
    space, connection = data[16:20], data[20:24]
    if b'A2B0' in tags or connection != b'XYZ ' or channels == 4:
        return None
    if space == b'GRAY' and channels == 1:
        return _Matrix([_curve(tags[b'kTRC'])], None, channels)
    if space != b'RGB ':
        return None
    primaries = np.stack([_xyz(tags[name]) for name in (b'rXYZ', b'gXYZ', b'bXYZ')], -1)
    return _Matrix([_curve(tags[name]) for name in (b'rTRC', b'gTRC', b'bTRC')], primaries, channels)


def _tags(data: bytes) -> dict[bytes, bytes]:
    """The elements of a profile by their signatures."""
    if data[36:40] != b'acsp':
        raise ValueError('no profile')
    (count,) = struct.unpack_from('>I', data, 128)
    if count > 200:
        raise ValueError('too many tags')
    table = [struct.unpack_from('>4sII', data, 132 + 12 * i) for i in range(count)]
    return {name: data[start : start + size] for name, start, size in table}


def _xyz(tag: bytes) -> np.ndarray:
    """Numbers of an `XYZType`, [3]."""
    if tag[:4] != b'XYZ ':
        raise ValueError('no XYZ')
    return np.array(struct.unpack_from('>3i', tag, 8)) / 65536


def _curve(tag: bytes) -> np.ndarray:
    """Linear values [K] of evenly spaced coded ones, rising from 0 to 1 at most."""
    (count,) = struct.unpack_from('>I', tag, 8)
    x = _grid(_NODES)
    if tag[:4] == b'curv' and count > 1:
        curve = np.frombuffer(tag, '>u2', count, 12) / 65535
    elif tag[:4] == b'curv':
        curve = x ** (struct.unpack_from('>H', tag, 12)[0] / 256) if count else x
    elif tag[:4] == b'para':
        curve = _parametric(struct.unpack_from('>H', tag, 8)[0], tag, x)
    else:
        raise ValueError('no curve')
    curve = np.maximum.accumulate(np.clip(curve, 0, 1))
    if not curve[-1] > curve[0]:
        raise ValueError('flat curve')
    return curve


def _parametric(kind: int, tag: bytes, x: np.ndarray) -> np.ndarray:
    """A `parametricCurveType` at x, table 68 of ICC.1:2022; x and the result are floats [K]."""
    count = (1, 3, 4, 5, 7)[kind]
    g, *rest = (n / 65536 for n in struct.unpack_from(f'>{count}i', tag, 12))
    a, b, c, d, e, f = (*rest, *[0.0] * (6 - len(rest)))
    if kind == 0:
        return x**g
    power = np.maximum((a * x + b), 0) ** g
    if kind in (1, 2):
        return np.where(x >= -b / a, power, 0) + c
    return np.where(x >= d, power + e, c * x + f)


@functools.cache
def _grid(count: int) -> np.ndarray:
    return np.linspace(0, 1, count)


@functools.cache
def _srgb_matrix() -> np.ndarray:
    """From linear sRGB to XYZ of the profile connection space (D50), as LittleCMS has it."""
    tags = _tags(ImageCms.ImageCmsProfile(_SRGB).tobytes())
    return np.stack([_xyz(tags[name]) for name in (b'rXYZ', b'gXYZ', b'bXYZ')], -1)
