"""Fuzzes the reader of pictures or of metadata tables, guided by the coverage of Pillow's and our own Python code.

  pip install atheris==3.0.0
  python tests/fuzz.py pictures CORPUS -max_total_time=3600
  python tests/fuzz.py tables CORPUS -max_total_time=3600

CORPUS is a folder of inputs, which is made and filled with small files of every kind. Anything that a reader raises but
its own error is a finding: the run stops with the traceback and writes the input to `crash-*`. Further arguments are
those of libFuzzer.
"""

import io
import itertools
import json
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=['PIL', 'productgen']):
    from PIL import Image, PngImagePlugin

    from productgen.data import images
    from productgen.data.folder import _attributes
    from productgen.data.metadata import read_metadata
    from productgen.data.source import DataError
    from productgen.data.tables import NAMES


def read_picture(data: bytes) -> None:
    """A picture of the size asked for, or BadImage with a reason of one line."""
    try:
        assert images.load_image(data, (16, 12), images.FITS[len(data) % 3]).shape == (16, 12, 3)
    except images.BadImage as error:
        assert error.reason and '\n' not in error.reason, error


def pictures() -> list[bytes]:
    """Small files of every format and mode that Pillow can write, with what they may carry."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text('a', 'b' * 99, zip=True)
    extras = {'exif': exif.tobytes(), 'icc_profile': images.ImageCms.ImageCmsProfile(images._SRGB).tobytes()}
    files = []
    for kind, mode in itertools.product(
        images.FORMATS, ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'I;16', 'F')
    ):
        for options in (
            {},
            extras,
            {'pnginfo': text, 'transparency': 3},
            {'compression': 'tiff_lzw', 'save_all': True},
        ):
            buffer = io.BytesIO()
            try:
                Image.fromarray(pixels).convert('RGB').convert(mode).save(buffer, kind, **options)
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # no such combination
            files.append(buffer.getvalue())
    return files


_FOLDER = Path(tempfile.mkdtemp(dir='/dev/shm' if Path('/dev/shm').is_dir() else None))
_PICTURES = ('a.png', 'b.png', 'd/e.png')


def read_tables(data: bytes) -> None:
    """Attributes of the pictures, or DataError with a reason; the first byte chooses the format and the folder."""
    kind = data[0] if data else 0
    name = ('' if kind & 4 else 'd/') + NAMES[kind % 4]
    (_FOLDER / name).parent.mkdir(exist_ok=True)
    (_FOLDER / name).write_bytes(data[1:])
    try:
        found = read_metadata(_FOLDER, [name], _PICTURES)
        rows = [(found.rows or {}).get(picture, {}) for picture in _PICTURES]
        attributes, codes = _attributes(rows)
        assert all(codes[n].min() >= -1 and codes[n].max() < len(values) for n, values in attributes.items())
        assert all(isinstance(line, str) and '\n' not in line for line in found.remarks)
        json.dumps([rows, attributes])  # goes into the digest and into labels.json
    except DataError as error:
        assert str(error) and error.field, error


def tables() -> list[bytes]:
    """Tables of every format, alike and not."""
    rows = [('a.png', 'mug', '3'), ('b.png', 'shirt', '4'), ('d/e.png', 'mug', 'NaN')]
    lines = ['file_name,label,size', *(','.join(row) for row in rows)]
    texts = ['\n'.join(lines), 'sep=;\r\n' + '\r\n'.join(lines).replace(',', ';'), ',' + '\n,'.join(lines)]
    texts += ['\n'.join(line.replace(',', '\t') for line in lines), 'Image, Label\n"a.png" ,"a, ""b"""\n\n,,\n']
    files = [text.encode(code) for text in texts for code in ('utf-8-sig', 'utf-16')]
    objects = [{'file_name': a, 'label': b, 'size': float(c), 'new': True, 'text': '\u2028'} for a, b, c in rows]
    files.append('\n'.join(map(json.dumps, objects)).encode())
    for labels in (['mug', 'hat', None], [1, 2.0, 1], [[0, 1], [1, 0], [0, 1]], [[1, 1], [0, 1], [0, 0]]):
        files.append(json.dumps({'labels': [[row[0], x] for row, x in zip(rows, labels, strict=True)]}).encode())
    return [bytes([kind]) + data for data in files for kind in range(8)]


TARGETS = {'pictures': (read_picture, pictures), 'tables': (read_tables, tables)}


def main() -> None:
    target, corpus, *rest = sys.argv[1:]
    read, seeds = TARGETS[target]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds()):
        (folder / f'seed{i:03d}').write_bytes(data)
    images.MAX_PIXELS = Image.MAX_IMAGE_PIXELS = 2**18  # larger ones only take longer
    atheris.Setup([sys.argv[0], str(folder), '-rss_limit_mb=4096', '-timeout=30', *rest], read)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
