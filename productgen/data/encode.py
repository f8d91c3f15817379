"""Encodes values as picture files of every format that is written, with profile, EXIF and resolution."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import tifffile
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from productgen.core.files import atomic
from productgen.data.images import BadImage

_LONGEST = {'JPEG': 65500, 'WEBP': 16383, 'AVIF': 65536, 'HEIF': 16384}  # pixels a side
_HEADER = b'Exif\0\0'
_FOLDERS = (0x8769, 0x8825)  # EXIF and GPS
_PHOTOMETRIC = {
    1: ('minisblack', None),
    2: ('minisblack', ['unassalpha']),
    3: ('rgb', None),
    4: ('rgb', ['unassalpha']),
}


class Kind(Protocol):
    """What decides the encoding: see `productgen.data.native.Photo`."""

    format: str
    depth: int
    cmyk: bool
    dpi: tuple[float, float] | None
    lossless: bool


def encode(path: Path, values: np.ndarray, kind: Kind, profile: bytes | None, block: bytes | None) -> None:
    """Writes a file atomically.

    Args:
      path: of the file; its folder is made.
      values: uint8 or uint16 [H, W] or [H, W, C], C = 2 (gray and alpha), 3, or 4 (with alpha, or inks where the mode
        of `kind` is CMYK).
      kind: format and its settings.
      profile: ICC profile of the values.
      block: EXIF.

    Raises:
      BadImage: the format has no pictures of this size or kind.
      OSError: it cannot be written; the error names the file.
    """
    longest = _LONGEST.get(kind.format)
    if longest and max(values.shape[:2]) > longest:
        raise BadImage(f'a {kind.format} has at most {longest} pixels a side, not {max(values.shape[:2])}')
    with atomic(path) as temporary:
        inks = kind.cmyk and profile is not None
        if kind.format == 'TIFF':
            _tiff(temporary, values, kind, inks, profile, block)
            return
        if values.dtype == np.uint16 and values.ndim == 3:
            _png(temporary, values, kind, profile, block)
            return
        image = Image.frombytes('CMYK', values.shape[1::-1], values.tobytes()) if inks else Image.fromarray(values)
        options = {**_options(kind), 'icc_profile': profile or b'', 'exif': block or b''}
        if kind.dpi and kind.format in ('JPEG', 'PNG', 'BMP'):
            options['dpi'] = kind.dpi
        with open(temporary, 'wb') as file:
            image.save(file, kind.format, **{name: value for name, value in options.items() if value != b''})


def _options(kind: Kind) -> dict:
    if kind.format == 'WEBP':
        return {'lossless': True, 'exact': True} if kind.lossless else {'quality': 95, 'alpha_quality': 100}
    return {
        'JPEG': {'quality': 95, 'subsampling': 0},
        'AVIF': {'quality': 90, 'subsampling': '4:4:4'},
        'HEIF': {'quality': 90, 'chroma': 444},
    }.get(kind.format, {})


def _png(path: Path, values: np.ndarray, kind: Kind, profile: bytes | None, block: bytes | None) -> None:
    """Colours of 16 bits, which Pillow does not write; profile and EXIF are chunks put behind the header."""
    code = cv2.COLOR_RGBA2BGRA if values.shape[2] == 4 else cv2.COLOR_RGB2BGR
    done, data = cv2.imencode('.png', cv2.cvtColor(values, code))
    if not done:
        raise BadImage('cannot be encoded as a PNG of 16 bits')
    chunks = []
    if profile:
        chunks.append((b'iCCP', b'icc\0\0' + zlib.compress(profile)))
    if block:
        chunks.append((b'eXIf', block.removeprefix(_HEADER)))
    if kind.dpi:
        chunks.append((b'pHYs', struct.pack('>IIB', *(round(x / 0.0254) for x in kind.dpi), 1)))
    data = memoryview(data)
    header = 8 + 25  # signature and IHDR
    with open(path, 'wb') as file:
        file.write(data[:header])
        for name, content in chunks:
            check = zlib.crc32(name + content)
            file.write(struct.pack('>I', len(content)) + name + content + struct.pack('>I', check))
        file.write(data[header:])


def _tiff(path: Path, values: np.ndarray, kind: Kind, inks: bool, profile: bytes | None, block: bytes | None) -> None:
    """Any TIFF: Pillow writes no colours of 16 bits, and no EXIF into what is compressed.

    tifffile does not write the tags that point to folders of EXIF. Others stand in their places until the folders are
    appended.
    """
    found = Image.Exif()
    found.load(block or b'')
    folders = [number for number in _FOLDERS if block and found.get_ifd(number)]
    texts = {tag: text for tag, text in found.items() if isinstance(text, str)}
    photometric, extra = _PHOTOMETRIC[1 if values.ndim == 2 else values.shape[2]]
    tifffile.imwrite(
        path,
        values,
        photometric='separated' if inks else photometric,
        planarconfig=None if values.ndim == 2 else 'contig',
        extrasamples=None if inks else extra,
        compression='zlib',
        iccprofile=profile,
        metadata=None,
        description=texts.pop(0x010E, None),
        software=texts.pop(0x0131, False),
        datetime=texts.pop(0x0132, None),
        extratags=[
            (0x0112, 'H', 1, 1, True),
            *((number + 1, 'I', 1, 0, True) for number in folders),
            *((tag, 's', 0, text, True) for tag, text in texts.items()),
        ],
        **({'resolution': kind.dpi, 'resolutionunit': 'inch'} if kind.dpi else {}),
    )
    for number in folders:
        with tifffile.TiffFile(path, mode='r+b') as file:
            start = path.stat().st_size + path.stat().st_size % 2
            tag = file.pages[0].tags[number + 1]
            tag.overwrite(start)
            file.filehandle.seek(tag.offset)
            file.filehandle.write(struct.pack(file.byteorder + 'H', number))
            file.filehandle.seek(start)
            file.filehandle.write(_folder(found, number, file.byteorder, start))


def _folder(found: Image.Exif, number: int, order: str, start: int) -> bytes:
    """A folder of tags as it is at an offset of a file."""
    made = ImageFileDirectory_v2((b'II*\0' if order == '<' else b'MM\0*') + bytes(4), group=number)
    for tag, value in found.get_ifd(number).items():
        made[tag] = value
    return made.tobytes(start)
