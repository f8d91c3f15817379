"""Reads image files into pictures of a given size, uint8 [H, W, 3] in sRGB, whatever the file's format and mode.

Handles what a shop's archive contains: transparency, palettes, CMYK, 16 bits, camera orientation, wide-gamut profiles;
HEIC where `pillow-heif` is installed.
A file that cannot be read raises `BadImage` with a reason to show to a user; a truncated file is never decoded in part
(Pillow's LOAD_TRUNCATED_IMAGES stays off). All functions are safe to call from many threads.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageColor, PngImagePlugin, TiffImagePlugin

from productgen.data.source import DataError

try:
    import pillow_heif
except ImportError:
    HEIC = frozenset()
else:
    pillow_heif.register_heif_opener()
    HEIC = frozenset(['.heic', '.heif'])

EXTENSIONS = HEIC | {'.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.avif'}
FITS = ('pad', 'crop', 'stretch', 'native')

# Largest width x height that is decoded: more than a 150 megapixel product camera, less than fills a machine's memory.
MAX_PIXELS = 178_956_970

# Lanczos, which Pillow widens by the downsampling ratio (so it is antialiased): of Pillow's filters it keeps fabric,
# print and edges sharpest without aliasing. Another filter would change every FID, so it is no setting.
FILTER = Image.Resampling.LANCZOS

# Pillow warns of pictures of half as many. It must have some limit: frames of GIFs are allocated when a file is opened.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# Editors write their history into PNGs as compressed text, more of it than Pillow accepts. It is not read.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**28

_SRGB = ImageCms.createProfile('sRGB')
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.init()  # Pillow registers its formats on first use, where threads would race
# Only these parsers may run.
FORMATS = tuple({'JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'AVIF', 'HEIF'} & Image.OPEN.keys())


class BadImage(ValueError):
    """A file that is not a usable image; `reason` is one line for the user."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


def load_image(
    source: str | os.PathLike | bytes,
    size: tuple[int, int],
    fit: str = 'pad',
    background: str = 'white',
    half: str = '',
) -> np.ndarray:
    """Reads one picture and brings it to `size`.

    Args:
      source: a path, or the bytes of an image file.
      size: (height, width) of the result.
      fit: `pad` shows the whole picture, centred between bars of the background colour; `crop` fills the frame from
        the picture's centre; `stretch` ignores its shape; `native` returns the picture in its own size, see `cut`.
      background: colour behind transparent pixels and of the bars, see `parse_color`.
      half: `left` or `right`: the picture is that half of the file; of an odd width the last column is left out.

    Returns:
      uint8 [H, W, 3] of `size`, sRGB. Of an animation or a multi-page file, the first frame.

    Raises:
      BadImage: the file is missing, unreadable, empty, truncated, no image, or has more than MAX_PIXELS pixels.
      DataError: `fit` or `background` is not understood.
    """
    check_fit(fit)
    color = parse_color(background)
    data = source if isinstance(source, bytes) else read_file(source)
    if half:
        image = _decode(data, size, 'native', color)  # at full size: a reduced one may not be cut in the middle
        width = image.width // 2
        if not width:
            raise BadImage(f'too narrow to hold two pictures side by side ({image.width} pixels)')
        left = width * (half == 'right')
        image = image.crop((left, 0, left + width, image.height))
    else:
        image = _decode(data, size, fit, color)
    return np.asarray(_fitted(image, size, fit, color))


def upright_size(path: str | os.PathLike) -> tuple[int, int]:
    """(height, width) of a picture as `load_image` shows it, from the head of its file.

    Raises:
      BadImage: the head cannot be read.
    """
    try:
        if not os.path.isfile(path):  # opening a pipe waits for ever
            raise OSError('no file')
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if orientation(image) < 5 else (width, height)
    except Exception as error:  # as in `_decode`
        raise BadImage(f'damaged: {" ".join(str(error).split()) or type(error).__name__}') from error


def cut(picture: np.ndarray, size: tuple[int, int], draw: int | None = None) -> np.ndarray:
    """A crop of a picture, of which every pixel is one of the picture's.

    Args:
      picture: [H, W, C]; smaller ones are mirrored at their borders until they are large enough.
      size: (height, width) of the crop.
      draw: 0 to 2^32 - 1, which decides where the crop is; None takes the centre.

    Returns:
      [height, width, C].
    """
    missing = [max(0, side - length) for side, length in zip(size, picture.shape[:2], strict=True)]
    if any(missing):
        picture = np.pad(picture, [(n // 2, n - n // 2) for n in missing] + [(0, 0)], 'symmetric')
    room = [length - side for side, length in zip(size, picture.shape[:2], strict=True)]
    if draw is None:
        top, left = (n // 2 for n in room)
    else:
        top, left = ((part * (n + 1)) >> 16 for part, n in zip((draw >> 16, draw & 0xFFFF), room, strict=True))
    return picture[top : top + size[0], left : left + size[1]]


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a file.

    Raises:
      BadImage: it cannot be read.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe waits for ever, a device may have no end
            raise BadImage('not a file, but a ' + _kind(path.stat().st_mode))
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage('dangling link' if path.is_symlink() else 'no such file') from None
    except OSError as error:
        raise BadImage(f'unreadable: {error.strerror or error}') from error


def _kind(mode: int) -> str:
    """What is at a path that is no regular file."""
    kinds = {stat.S_IFDIR: 'folder', stat.S_IFIFO: 'pipe', stat.S_IFSOCK: 'socket'}
    return kinds.get(stat.S_IFMT(mode), 'device')


@functools.lru_cache(maxsize=64)
def parse_color(text: str) -> tuple[int, int, int]:
    """(red, green, blue), each 0..255, of a colour name or `#rrggbb`.

    Raises:
      DataError: `data.background` is no colour, or a transparent one.
    """
    try:
        color = ImageColor.getrgb(text)
    except (ValueError, AttributeError, TypeError):
        color = ()
    if len(color) != 3:
        raise DataError('data.background', f'{text!r} is not an opaque colour', 'use a name (white) or hex (#f4f4f4)')
    return color


def check_fit(fit: str) -> None:
    """Raises DataError unless `fit` is one of FITS."""
    if fit not in FITS:
        raise DataError('data.fit', f'{fit!r} is not one of {", ".join(FITS)}')


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """An image file that is not decoded yet; only parsers of formats that are supported run.

    Raises:
      BadImage: it is empty, no image, too large, or whatever fails inside the block.
    """
    if not data:
        raise BadImage('empty file (0 bytes)')
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f'more than {MAX_PIXELS:,} pixels') from None
    except Image.UnidentifiedImageError:
        raise BadImage('not an image, or of a kind that is not supported') from None
    except MemoryError:
        raise BadImage('too large for the memory of this machine') from None
    except Exception as error:  # decoders report damage as OSError, SyntaxError, ValueError, struct.error, ...
        reason = ' '.join(str(error).split()) or type(error).__name__  # in one line
        raise BadImage(f'damaged: {reason}') from error


def _decode(data: bytes, size: tuple[int, int], fit: str, color: tuple[int, int, int]) -> Image.Image:
    """An upright, opaque RGB image in sRGB, not yet fitted; JPEGs may be decoded at a fraction of their size."""
    with opened(data) as image:
        if image.format in ('JPEG', 'MPO') and fit != 'native':  # MPO is a JPEG with more pictures behind it
            image.draft(image.mode, _draft_size(image.size, orientation(image), size, fit))
        image.load()
        turn = orientation(image)  # again: loading rotates a TIFF, and a PNG may have its tag at the end
        image = _opaque(image, color)
    return image if turn == 1 else image.transpose(_TURNS[turn])


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8."""
    try:
        turn = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # broken EXIF leaves the picture usable
        return 1
    return turn if turn in _TURNS else 1


def _draft_size(shape: tuple[int, int], turn: int, size: tuple[int, int], fit: str) -> tuple[int, int]:
    """(width, height) that a JPEG may be decoded at: twice what is needed, so that Lanczos still antialiases."""
    height, width = size if turn < 5 else size[::-1]
    across, down = width / shape[0], height / shape[1]
    if fit != 'stretch':
        across = down = min(across, down) if fit == 'pad' else max(across, down)
    return max(1, int(np.ceil(2 * across * shape[0]))), max(1, int(np.ceil(2 * down * shape[1])))


def _opaque(image: Image.Image, color: tuple[int, int, int]) -> Image.Image:
    """RGB in sRGB, with transparent pixels composited on the background.

    Compositing comes before resizing: on a constant background that equals resizing premultiplied alpha, so the hidden
    colour of transparent pixels, often black, does not bleed into the edge of a product.
    """
    profile = image.info.get('icc_profile')
    if is_deep(image):
        image = _eight_bit(image)
    image, alpha = split_alpha(image)
    transform = profile and _to_srgb(profile, image.mode)
    image = transform.apply(image) if transform else image.convert('RGB')
    if alpha is None:
        return image
    canvas = Image.new('RGB', image.size, color)
    canvas.paste(image, mask=alpha)
    return canvas


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow holds it as gray values of more than 8 bits."""
    return image.mode in ('I', 'F') or image.mode.startswith('I;16')


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """An image of 8 bits as one of mode L, RGB or CMYK, and its alpha of mode L; None where it is opaque."""
    alpha = None
    if image.has_transparency_data:
        gray = image.mode in ('1', 'L', 'LA', 'La')
        image = image.convert('LA' if gray else 'RGBA')
        alpha = image.getchannel('A')
        image = image.convert('L' if gray else 'RGB')
    elif image.mode == '1':
        image = image.convert('L')
    elif image.mode not in ('L', 'CMYK'):
        image = image.convert('RGB')
    return image, alpha


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scales deep gray images to 0..255; Pillow's own conversion clips them."""
    pixels, visible = gray_values(image)
    result = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
    if visible is not None:
        result.putalpha(Image.fromarray(np.where(visible, 255, 0).astype(np.uint8)))
    return result


def gray_values(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of 12-bit, 16-bit, 32-bit and float gray images.

    Files of more than 16 bits do not say which value is white. It is taken to be 65535 for integers up to that, else
    2^31 - 1; for floats the first of 1, 255, 65535 of which the brightest pixel is at most twice (65535 if none).
    Pillow inverts TIFFs whose zero is white (TIFF 6.0, PhotometricInterpretation 0) up to 8 bits only.

    Returns:
      float64 [H, W] in [0, 1], and bool [H, W], where it is not transparent; None where it is opaque.
    """
    pixels = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0, neginf=0)
    peak = pixels.max()
    tags = getattr(image, 'tag_v2', {})
    if image.mode == 'F':
        white = 1 if peak <= 2 else 255 if peak <= 510 else 65535
    elif tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        white = 4095
    else:
        white = 65535 if peak <= 65535 else 2**31 - 1
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        pixels = white - pixels
    key = image.info.get('transparency')  # PNG: the gray value that is transparent
    return np.clip(pixels / white, 0, 1), pixels != key if isinstance(key, int) else None


@functools.lru_cache(maxsize=64)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The conversion from an embedded profile to sRGB; None where it changes nothing or the profile is broken."""
    try:
        transform = ImageCms.buildTransform(
            io.BytesIO(profile),
            _SRGB,
            mode,
            'RGB',
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None  # damaged, or for another mode: taken as sRGB, as browsers do
    if mode == 'RGB':
        # Most profiles are variants of sRGB. Converting a grid of colours finds those; skipping them saves time and
        # rounding.
        grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).astype(np.uint8)] * 3), axis=-1).reshape(27, 27, 3)
        if np.abs(np.asarray(transform.apply(Image.fromarray(grid))) - grid.astype(int)).max() <= 1:
            return None
    return transform


def _fitted(image: Image.Image, size: tuple[int, int], fit: str, color: tuple[int, int, int]) -> Image.Image:
    height, width = size
    if fit == 'native':
        return image
    if fit == 'stretch':
        return image.resize((width, height), FILTER)
    if fit == 'crop':
        scale = max(width / image.width, height / image.height)
        left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
        left, top = max(0.0, left), max(0.0, top)  # rounding may leave -1e-14
        return image.resize((width, height), FILTER, box=(left, top, image.width - left, image.height - top))
    scale = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = Image.new('RGB', (width, height), color)
    canvas.paste(image.resize(inner, FILTER), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas
