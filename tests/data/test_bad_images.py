"""Files that are no usable pictures raise BadImage with a reason of one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from productgen.data.images import BadImage, load_image


def encoded(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name, content):
    return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))


def bomb():
    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    chunks = png_chunk(b'IHDR', header) + png_chunk(b'IDAT', pixels) + png_chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + chunks


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    'data, reason',
    [
        (b'', 'empty'),
        (b'this is a letter, not a picture', 'not an image'),
        (b'\xff\xd8\xff', 'not an image'),
        (bomb(), 'more than 178,956,970 pixels'),
        *[(encoded(NOISE, kind)[:2000], 'damaged') for kind in ('JPEG', 'PNG', 'TIFF', 'BMP')],
        (encoded(NOISE, 'WEBP', lossless=True)[:2000], None),
        (encoded(NOISE, 'GIF')[:1500], None),
        (encoded(NOISE, 'PPM'), 'not an image'),  # a format that is not supported
    ],
)
def test_bad_bytes(data, reason):
    with pytest.raises(BadImage, match=reason) as error:
        load_image(data, (16, 16))
    assert error.value.reason and '\n' not in error.value.reason


def test_truncated_jpeg_that_is_shrunk_while_it_decodes():
    data = encoded(NOISE.resize((1000, 800)), 'JPEG')
    for length in (len(data) // 10, len(data) // 2, len(data) - 1000):
        with pytest.raises(BadImage, match='truncated'):
            load_image(data[:length], (16, 16))


def test_bad_paths(tmp_path):
    link = tmp_path / 'link.png'
    link.symlink_to(tmp_path / 'gone.png')
    for path, reason in [
        (link, 'dangling link'),
        (tmp_path / 'gone.png', 'no such file'),
        (tmp_path, 'not a file, but a folder'),
    ]:
        with pytest.raises(BadImage, match=reason):
            load_image(path, (16, 16))


def test_truncated_files_stay_errors():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.filterwarnings('ignore')  # Pillow comments on damaged headers
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF'])
def test_random_damage_is_survived(kind):
    rng = np.random.default_rng(0)
    whole = np.frombuffer(encoded(NOISE, kind), np.uint8)
    for _ in range(60):
        data = whole.copy()
        data[rng.integers(0, 200, 3)] = rng.integers(0, 256, 3)  # the headers, where damage does most
        try:
            assert load_image(data.tobytes(), (8, 8)).shape == (8, 8, 3)
        except BadImage as error:
            assert error.reason
