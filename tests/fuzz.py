"""Fuzzes the reader of pictures or of metadata tables, guided by the coverage of Pillow's and our own Python code.

  pip install atheris==3.0.0
  python tests/fuzz.py pictures CORPUS -max_total_time=3600

CORPUS is a folder of inputs, which is made and filled with small files of every kind. Anything that a reader raises but
its own error is a finding: the run stops with the traceback and writes the input to `crash-*`. Further arguments are
those of libFuzzer.
"""

import io
import itertools
import sys
from pathlib import Path

import atheris
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=['PIL', 'productgen']):
    from PIL import Image, PngImagePlugin

    from productgen.data import images


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
        images._FORMATS, ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'CMYK', 'I;16', 'F')
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


TARGETS = {'pictures': (read_picture, pictures)}


def main() -> None:
    target, corpus, *rest = sys.argv[1:]
    read, seeds = TARGETS[target]
    folder = Path(corpus)
    folder.mkdir(parents=True, exist_ok=True)
    for i, data in enumerate(seeds()):
        (folder / f'seed{i:03d}').write_bytes(data)
    images.MAX_PIXELS = 2**18  # larger ones only take longer
    atheris.Setup([sys.argv[0], str(folder), '-rss_limit_mb=4096', '-timeout=30', *rest], read)
    atheris.Fuzz()


if __name__ == '__main__':
    main()
