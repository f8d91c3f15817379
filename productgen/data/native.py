"""Photos in their own size: read into float32, and written back in the kind of file they came from.

A photo keeps its format, bit depth, gray or colour, transparency, colour profile, EXIF and resolution in dpi. XMP,
IPTC and the EXIF thumbnail, which would show the picture before it was changed, are left out. 8 bits are used for
HEIC, AVIF and CMYK of more than 8, and 16 for TIFFs of 12, 32 or floats.

All functions are safe to call from many threads.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from productgen.data import exif, images
from productgen.data.encode import encode
from productgen.data.profiles import STRIP, Inks, Plain, Profile, open_profile

_NO_WAY_BACK = frozenset({'GIF'})  # formats that hold too few colours
_ORIENTATION = 0x0112
_DEEP_PNG = 24  # offset of the bit depth in a PNG


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture and what its file says about it.

    Attributes:
      pixels: float32 [H, W, 3], upright, sRGB-coded. 0 to 1, but where a wide-gamut profile has colours that sRGB has
        not: these are below 0 or above 1. Hidden pixels (alpha 0) have the colour of the nearest visible one, so that
        no filter draws a dark fringe from them.
      alpha: float32 [H, W], 0 (transparent) to 1, not multiplied into the pixels; None where it is opaque.
      format: Pillow's name, such as JPEG; the one it is written in.
      depth: bits of a value in the file, 8 or 16.
      gray: the file has one channel of colour. A photo that a change gives colours is written with them only where
        this is set to False.
      cmyk: the file has four inks and a profile for them.
      profile: ICC profile; None for sRGB.
      exif: EXIF as JPEG files have it, with orientation 1; None where there is none.
      dpi: (across, down); None where the file does not say.
      lossless: a WebP without loss; other formats have one way.
      notes: what of the file was not kept, lines for the user.
      doubt: why what a tool made of it may be wrong, a line for the user; empty where nothing says so.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    format: str = 'PNG'
    depth: int = 8
    gray: bool = False
    cmyk: bool = False
    profile: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()
    doubt: str = ''

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[:2]

    @property
    def mode(self) -> str:
        """Pillow's name of the file's values without alpha: L, RGB or CMYK."""
        return 'L' if self.gray else 'CMYK' if self.cmyk else 'RGB'

    def replace(self, **fields) -> Photo:
        """A photo with other fields."""
        return dataclasses.replace(self, **fields)

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> Photo:
        """Passes the picture through a network that knows sRGB only, such as one that denoises or enlarges.

        Colours beyond sRGB are clipped before and what was clipped is added afterwards, so that a function that changes
        nothing changes nothing. Alpha is resized with the picture.

        Args:
          function: from float32 [H, W, 3] in [0, 1] to float [H', W', 3].
        """
        inside, rest = self.pixels, None
        if min(self.pixels.min(), 1 - self.pixels.max()) < 0:
            inside = np.clip(self.pixels, 0, 1)
            rest = self.pixels - inside
        result = np.asarray(function(inside), np.float32)
        height, width = result.shape[:2]
        if rest is not None:
            result = result + resized(rest, (height, width))
        alpha = None if self.alpha is None else np.clip(resized(self.alpha, (height, width)), 0, 1)
        return self.replace(pixels=result, alpha=alpha)

    def over(self, color: tuple[float, float, float]) -> np.ndarray:
        """The picture in front of an sRGB colour, float32 [H, W, 3]."""
        if self.alpha is None:
            return self.pixels
        alpha = self.alpha[..., None]
        return self.pixels * alpha + np.asarray(color, np.float32) * (1 - alpha)


def resized(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float32 [H, W] or [H, W, C] in another size (H', W'): averaged where it shrinks, otherwise bicubic."""
    if array.shape[:2] == tuple(size):
        return array
    shrinks = size[0] < array.shape[0] or size[1] < array.shape[1]
    return cv2.resize(array, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def read_photo(path: str | os.PathLike) -> Photo:
    """Reads a picture in its own size; of an animation or a multi-page file, the first frame.

    Raises:
      BadImage: as `images.load_image`.
    """
    data = images.read_file(path)
    with images.opened(data) as image:
        kind, notes = 'JPEG' if image.format == 'MPO' else image.format, []
        if image.format != 'MPO' and getattr(image, 'n_frames', 1) > 1:
            notes.append(f'the first of {image.n_frames} frames')
        tags = dict(getattr(image, 'tag_v2', {}))  # loading a TIFF turns it upright and forgets how it was
        info, block = dict(image.info), exif.block(image)
        image.load()
        turn = images.orientation(image)
        values, alpha = _deep(image, data, tags)
        depth = 8 if values is None else 16
        if values is None:
            image, opacity = images.split_alpha(image)
            values, alpha = np.asarray(image), None if opacity is None else np.asarray(opacity)
        info |= image.info
    mode = {1: 'L', 3: 'RGB', 4: 'CMYK'}[1 if values.ndim == 2 else values.shape[2]]
    profile, conversion = info.get('icc_profile') or None, None
    if profile:
        conversion = open_profile(profile, mode)
        if conversion is None:
            notes.append('its colour profile is damaged or for other colours, and left out')
            profile = None
    if conversion is None:
        conversion = Inks() if mode == 'CMYK' else Plain(len(mode))
        if mode == 'CMYK':
            notes.append('CMYK without a profile: written as RGB')
    if kind in _NO_WAY_BACK or kind not in Image.SAVE:
        notes.append(f'{kind} is not written: it becomes a PNG')
        kind = 'PNG'
    pixels = _to_float(_upright(values, turn), conversion)
    if alpha is not None:
        alpha = _scaled(_upright(alpha, turn))
        if alpha.min() < 1:
            _fill_hidden(pixels, alpha)
    dpi = info.get('dpi')
    return Photo(
        pixels,
        alpha,
        kind,
        depth if kind in ('PNG', 'TIFF') else 8,
        gray=mode == 'L',
        cmyk=mode == 'CMYK' and profile is not None,
        profile=profile,
        exif=block,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(0 < float(x) < 1e6 for x in dpi) else None,
        lossless=kind == 'WEBP' and _is_lossless(data),
        notes=tuple(notes),
    )


def write_photo(path: Path, photo: Photo, *, strip_gps: bool = False) -> None:
    """Writes a photo in its format, completely or not at all.

    JPEG has quality 95 and full resolution of colour (4:4:4), WebP quality 95 or no loss as the source, AVIF and HEIC
    quality 90; TIFF is deflated. A photo with transparency whose format has none is put on white.

    Args:
      path: its folder is made; its ending is the caller's matter.
      photo: values outside of [0, 1] are clipped, where its profile cannot hold them.
      strip_gps: leave out where it was taken, and the maker's own block, which may say it too.

    Raises:
      BadImage: the format cannot hold it, such as a WebP of more than 16383 pixels a side.
      OSError: it cannot be written; the error names the file.
    """
    if photo.alpha is not None and photo.format in ('JPEG', 'BMP'):
        photo = photo.replace(pixels=photo.over((1, 1, 1)), alpha=None)
    if photo.gray and photo.alpha is not None and photo.depth == 16:  # OpenCV writes no such PNG, but a coloured one
        photo = photo.replace(gray=False)
    mode, profile = photo.mode, photo.profile
    conversion = open_profile(profile, mode) if profile else None
    if conversion is None:  # none, or of a gray photo that has colours now
        profile, mode = None, 'RGB' if mode == 'CMYK' else mode
        conversion = Plain(len(mode))
    values = _from_float(photo.pixels, conversion, photo.depth)
    if photo.alpha is not None:
        alpha = _quantised(photo.alpha, photo.depth)
        values = np.dstack([values, alpha])
    block = exif.updated(photo.exif, photo.size, strip_gps) if photo.exif else None
    encode(path, values, photo, profile, block)


def _is_lossless(data: bytes) -> bool:
    """Whether the picture of a WebP, one of the chunks of the file, is of the kind without loss."""
    start = 12
    while start + 8 <= len(data) and data[start : start + 4] not in (b'VP8 ', b'VP8L', b'ANMF'):
        size = int.from_bytes(data[start + 4 : start + 8], 'little')
        start += 8 + size + size % 2
    return data[start : start + 4] == b'VP8L'


def _deep(image: Image.Image, data: bytes, tags: dict) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Values of more than 8 bits, and alpha; (None, None) where there are only 8, or no way to more.

    Pillow reads colours of 16 bits as 8. OpenCV reads all of them, but takes damaged files too: they have been through
    Pillow first.

    Returns:
      uint16 or float64 in [0, 1], [H, W] or [H, W, 3], and alpha [H, W] of the same kind; upright where it is a TIFF,
      as Pillow and OpenCV have them.
    """
    if images.is_deep(image):
        values, visible = images.gray_values(image)
        return values, None if visible is None else visible.astype(np.float64)
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, ())
    is_png = image.format == 'PNG' and data[_DEEP_PNG] == 16
    is_tiff = image.format == 'TIFF' and set(bits) == {16} and image.mode in ('L', 'LA', 'RGB', 'RGBA')
    if not (is_png or is_tiff):
        return None, None
    if is_tiff and tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2:
        try:
            values = np.moveaxis(tifffile.imread(io.BytesIO(data), key=0), 0, -1)
            values = _upright(values, tags.get(_ORIENTATION, 1))
        except ValueError:  # a compression that tifffile needs another package for
            return None, None
    else:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if values is None or values.dtype != np.uint16:
            return None, None
        if values.ndim == 3:
            values = cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA if values.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    if values.ndim == 2 or values.shape[2] == 3:
        return values, None
    values, alpha = values[..., :-1], values[..., -1]
    if 1 in tags.get(TiffImagePlugin.EXTRASAMPLES, ()):  # TIFF 6.0: colours multiplied by alpha
        with np.errstate(divide='ignore', invalid='ignore'):
            values = np.nan_to_num(np.clip(values / alpha[..., None], 0, 1))
        alpha = alpha / 65535
    gray = values.shape[2] == 1 or (is_png and data[_DEEP_PNG + 1] == 4)
    return values[..., 0] if gray else values, alpha


def _upright(values: np.ndarray, turn: int) -> np.ndarray:
    """A view of an array [H, W, ...] with the EXIF orientation applied."""
    if turn >= 5:
        values = values.swapaxes(0, 1)
    down, across = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[
        turn
    ]
    return values[::down, ::across]


def _strips(height: int, width: int) -> Iterator[slice]:
    rows = max(1, STRIP // width)
    return (slice(start, start + rows) for start in range(0, height, rows))


def _scaled(values: np.ndarray) -> np.ndarray:
    """uint8, uint16 or floats as float32 in [0, 1]."""
    white = 1 if values.dtype.kind == 'f' else np.iinfo(values.dtype).max
    return np.divide(values, white, dtype=np.float32, casting='unsafe')


def _to_float(values: np.ndarray, conversion: Profile) -> np.ndarray:
    """Values [H, W] or [H, W, C] as sRGB-coded float32 [H, W, 3]."""
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    pixels = np.empty((height, width, 3), np.float32)
    for rows in _strips(height, width):
        strip = _scaled(values[rows]).reshape(-1, channels)
        pixels[rows] = conversion.decode(strip).reshape(-1, width, 3)
    return pixels


def _quantised(values: np.ndarray, depth: int) -> np.ndarray:
    """Floats in [0, 1] as uint8 or uint16; NaN is 0."""
    scaled = np.nan_to_num(values) * (2**depth - 1)
    return np.rint(np.clip(scaled, 0, 2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)


def _from_float(pixels: np.ndarray, conversion: Profile, depth: int) -> np.ndarray:
    """Pixels [H, W, 3] as the file's values, uint8 or uint16, [H, W] or [H, W, C]."""
    height, width = pixels.shape[:2]
    values = None
    for rows in _strips(height, width):
        strip = _quantised(conversion.encode(pixels[rows].reshape(-1, 3)), depth)
        if values is None:
            values = np.empty((height, width, strip.shape[-1]), strip.dtype)
        values[rows] = strip.reshape(-1, width, strip.shape[-1])
    return values[..., 0] if values.shape[-1] == 1 else values


def _fill_hidden(pixels: np.ndarray, alpha: np.ndarray) -> None:
    """Gives pixels of alpha 0 the colour of the nearest pixel that is visible, in place."""
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return
    _, label = cv2.distanceTransformWithLabels(
        hidden.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    visible = ~hidden
    colors = np.empty((label[visible].max() + 1, 3), np.float32)
    colors[label[visible]] = pixels[visible]
    pixels[hidden] = colors[label[hidden]]
