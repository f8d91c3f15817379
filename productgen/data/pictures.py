"""Grids of pictures, and writing pictures and animations to files."""

from __future__ import annotations

import bisect
import contextlib
import functools
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from productgen.config.text import one_line
from productgen.core.files import atomic

MARGIN = 2  # pixels between the pictures of a grid
_SIZE = 12  # of the letters of names, in pixels
_LINE = 14  # height of a line of them
_WIDEST = 160  # pixels of a line of a name, where the pictures are not wider
_CJK = 'NotoSansCJK-Regular.ttc', 'DroidSansFallbackFull.ttf', 'wqy-microhei.ttc', 'msyh.ttc', 'Arial Unicode.ttf'


def grid(images: np.ndarray, columns: int, rows: Sequence[str] = ()) -> np.ndarray:
    """Arranges pictures in rows on white.

    Args:
      images: uint8 [N, H, W, 3]; small ones are enlarged by an integer factor.
      columns: pictures in a row.
      rows: a name to print to the left of each row; may be empty. Long ones take several lines and are cut at the
        height of a picture.

    Returns:
      uint8 [H', W', 3].
    """
    images = _enlarge(images)
    count, height, width = images.shape[:3]
    lines = -(-count // columns)
    most = max((height + MARGIN) // _LINE, 1)
    names = [_wrapped(name, max(_WIDEST, width), most) for name in rows[:lines]]
    fonts = [_font(name) for name in names]
    extent = lambda name, font: int(max(map(font.getlength, name.split('\n'))))
    left = max((extent(*pair) + 10 for pair in zip(names, fonts, strict=True)), default=0)
    sheet = np.full((lines * (height + MARGIN) + MARGIN, left + columns * (width + MARGIN) + MARGIN, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y = MARGIN + i // columns * (height + MARGIN)
        x = left + MARGIN + i % columns * (width + MARGIN)
        sheet[y : y + height, x : x + width] = image
    if not rows:
        return sheet
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    for i, (name, font) in enumerate(zip(names, fonts, strict=True)):
        middle = MARGIN + i * (height + MARGIN) + height // 2
        draw.text((left - 4, middle), name, (64, 64, 64), font, 'rm', spacing=_LINE - _SIZE, align='right')
    return np.asarray(canvas)


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Enlarges small pictures [N, H, W, 3] by an integer factor, to a longer side of at most 64."""
    zoom = max(1, 64 // max(images.shape[1:3]))
    return images.repeat(zoom, 1).repeat(zoom, 2)


def _wrapped(name: str, width: int, lines: int) -> str:
    """A name in at most `lines` lines of `width` pixels, the last ending in an ellipsis where the name is longer."""
    font, found = _font(name), []
    length = lambda text: font.getlength(text)
    left = one_line(name)[:2000]
    while left and len(found) < lines:
        end = bisect.bisect_right(range(1, len(left) + 1), width, key=lambda n: length(left[:n]))
        space = left.rfind(' ', 0, end + 1) if end < len(left) else -1
        end = space if space > 0 else max(end, 1)
        found.append(left[:end].rstrip())
        left = left[end:].lstrip()
    while left and found[-1] and length(f'{found[-1]}…') > width:
        found[-1] = found[-1][:-1].rstrip()
    return '\n'.join(found) + ('…' if left else '')


def _font(text: str) -> ImageFont.FreeTypeFont:
    """Of the fonts that there are, the first that lacks the fewest characters of a text; Pillow's own is for ASCII."""
    own = ImageFont.load_default(_SIZE)
    if text.isascii():
        return own
    return min([own, *_other_fonts()], key=lambda font: sum(not _has(font, char) for char in set(one_line(text))))


@functools.cache
def _other_fonts() -> list[ImageFont.FreeTypeFont]:
    """Matplotlib's, with many alphabets, and the usual ones for Chinese, Japanese and Korean that are installed."""
    import matplotlib

    found = []
    for name in (f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf', *_CJK):
        with contextlib.suppress(OSError):
            found.append(ImageFont.truetype(name, _SIZE))
    return found


def _has(font: ImageFont.FreeTypeFont, char: str) -> bool:
    """Whether a font can draw a character: the picture is not that of a character that no font has."""
    return bytes(font.getmask(char)) != bytes(font.getmask('\uffff'))


def side_by_side(sheets: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Puts sheets uint8 [H, W, 3] side by side, each under its name."""
    font, head, gap = ImageFont.load_default(14), 22, 12
    width = sum(sheet.shape[1] for sheet in sheets) + gap * (len(sheets) - 1)
    canvas = Image.new('RGB', (width, max(sheet.shape[0] for sheet in sheets) + head), 'white')
    draw = ImageDraw.Draw(canvas)
    x = 0
    for sheet, name in zip(sheets, names, strict=True):
        canvas.paste(Image.fromarray(sheet), (x, head))
        draw.text((x + sheet.shape[1] // 2, head // 2), name, fill=(32, 32, 32), anchor='mm', font=font)
        x += sheet.shape[1] + gap
    return np.asarray(canvas)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] atomically."""
    with atomic(path) as temporary:
        Image.fromarray(image).save(temporary, format='PNG')


def save_animation(path: Path, frames: Iterable[np.ndarray], fps: int) -> None:
    """Writes frames as a GIF that repeats forever, or as H.264 MP4, atomically.

    Args:
      path: ends in `.gif` or `.mp4`.
      frames: uint8 [H, W, 3] each, at least one; small ones are enlarged as in `grid`. Consecutive equal frames become
        one longer frame of a GIF.
      fps: frames per second; of a GIF rounded to a whole number of hundredths of a second per frame, at least 2.

    Raises:
      OSError: the file could not be written.
    """
    enlarged = (_enlarge(frame[None])[0] for frame in frames)
    with atomic(path) as temporary:
        (_save_gif if path.suffix == '.gif' else _save_mp4)(temporary, enlarged, fps)


def _save_gif(path: Path, frames: Iterator[np.ndarray], fps: int) -> None:
    # Each frame has its own palette, without dithering, which would flicker on a plain background.
    reduced = (Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE) for frame in frames)
    milliseconds = 10 * max(2, round(100 / fps))
    next(reduced).save(path, save_all=True, append_images=reduced, duration=milliseconds, loop=0)


def _save_mp4(path: Path, frames: Iterator[np.ndarray], fps: int) -> None:
    first = next(frames)
    # yuv420p, which every player supports, has colour at half the resolution: both sides must be even.
    odd = [(0, side % 2) for side in first.shape[:2]]
    height, width = (side + side % 2 for side in first.shape[:2])
    # fmt: off
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), '-y', '-loglevel', 'error',
        '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}', '-r', str(fps), '-i', '-',
        '-c:v', 'libx264', '-pix_fmt', 'yuv420p', '-crf', '16', '-movflags', '+faststart', str(path),
    ]
    # fmt: on
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with contextlib.suppress(BrokenPipeError):  # ffmpeg's own message says more
            for frame in chain([first], frames):
                process.stdin.write(np.pad(frame, [*odd, (0, 0)], mode='edge').tobytes())
        message = process.communicate()[1].decode(errors='replace').strip()
    if process.returncode:
        raise OSError(f'{path.name} could not be written: {message}')
