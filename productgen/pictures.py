"""Writing pictures people look at: grids, single files, animations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

MARGIN = 2  # pixels between the pictures of a grid


def grid(images: np.ndarray, columns: int, rows: Sequence[str] = ()) -> np.ndarray:
    """Lays pictures out in rows on white.

    Args:
      images: uint8 [N, H, W, 3]; small ones are enlarged by a whole factor to be seen at all.
      columns: pictures a row.
      rows: a name to print beside each row; none without.

    Returns:
      uint8 [H', W', 3].
    """
    zoom = max(1, 64 // max(images.shape[1:3]))
    images = images.repeat(zoom, 1).repeat(zoom, 2)
    count, height, width = images.shape[:3]
    lines = -(-count // columns)
    left = _label_width(rows)
    sheet = np.full((lines * (height + MARGIN) + MARGIN, left + columns * (width + MARGIN) + MARGIN, 3), 255, np.uint8)
    for i, image in enumerate(images):
        y = MARGIN + i // columns * (height + MARGIN)
        x = left + MARGIN + i % columns * (width + MARGIN)
        sheet[y : y + height, x : x + width] = image
    if not rows:
        return sheet
    canvas = Image.fromarray(sheet)
    draw = ImageDraw.Draw(canvas)
    for i, name in enumerate(rows[:lines]):
        middle = MARGIN + i * (height + MARGIN) + height // 2
        draw.text((left - 4, middle), name, fill=(64, 64, 64), anchor='rm', font=ImageFont.load_default(12))
    return np.asarray(canvas)


def _label_width(rows: Sequence[str]) -> int:
    font = ImageFont.load_default(12)
    return max((int(font.getlength(name)) + 10 for name in rows), default=0)


def beside(left: np.ndarray, right: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    """Two sheets of one height side by side, each under its name."""
    font, head = ImageFont.load_default(14), 22
    canvas = Image.new('RGB', (left.shape[1] + right.shape[1] + 12, max(left.shape[0], right.shape[0]) + head), 'white')
    draw = ImageDraw.Draw(canvas)
    for sheet, x, name in ((left, 0, names[0]), (right, left.shape[1] + 12, names[1])):
        canvas.paste(Image.fromarray(sheet), (x, head))
        draw.text((x + sheet.shape[1] // 2, head // 2), name, fill=(32, 32, 32), anchor='mm', font=font)
    return np.asarray(canvas)


def save_png(path: Path, image: np.ndarray) -> None:
    """Writes uint8 [H, W, 3]; a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    Image.fromarray(image).save(temporary, format='PNG')
    os.replace(temporary, path)


def save_animation(path: Path, frames: np.ndarray, fps: int) -> None:
    """Writes uint8 [N, H, W, 3] as a GIF or MP4, by the file's ending; the GIF repeats for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.gif':
        iio.imwrite(path, frames, duration=1000 / fps, loop=0)
        return
    # H.264 in its common form has half-resolution colour: both sides must be even.
    frames = np.pad(frames, [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)], mode='edge')
    iio.imwrite(path, frames, fps=fps, codec='libx264', macro_block_size=2)
