"""Pictures that other readers refuse or get wrong: HEIC, scans whose zero is white, PNGs full of text, large photos."""

import io
import os
import resource
import socket
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from productgen.data.images import BadImage, load_image, read_file

pillow_heif = pytest.importorskip('pillow_heif')


def scan():
    """Gray of 8 bits: a dark frame around a light square."""
    gray = np.full((32, 32), 60, np.uint8)
    gray[8:24, 8:24] = 200
    return gray


def tiff(data, bits, photometric, sample_format=1, size=32):
    """A little-endian TIFF of one gray channel, written by hand: Pillow writes no zero that is white."""
    fields = {256: size, 257: size, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: size, 279: len(data)}
    fields |= {339: sample_format}
    entries = [struct.pack('<HHII', tag, 4, 1, value) for tag, value in sorted(fields.items())]
    directory = struct.pack('<H', len(entries)) + b''.join(entries) + struct.pack('<I', 0)
    return b'II*\0' + struct.pack('<I', 8 + len(data)) + data + directory


def twelve_bits(values):
    """Pairs of values of 12 bits in three bytes each."""
    first, second = values.astype(int).ravel()[::2], values.astype(int).ravel()[1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1)
    return packed.astype(np.uint8).tobytes()


@pytest.mark.parametrize('photometric', [0, 1], ids=['white_is_zero', 'black_is_zero'])
@pytest.mark.parametrize(
    'bits, sample_format, white, pack',
    [
        (8, 1, 255, lambda x: x.astype(np.uint8).tobytes()),
        (12, 1, 4095, twelve_bits),
        (16, 1, 65535, lambda x: x.astype('<u2').tobytes()),
        (32, 3, 1.0, lambda x: x.astype('<f4').tobytes()),
    ],
)
def test_gray_tiffs_are_no_negatives(bits, sample_format, white, pack, photometric):
    if bits == 12 and not photometric:
        pytest.skip('Pillow does not read it')
    values = scan() / 255 * white
    values = values if sample_format == 3 else np.rint(values)
    data = tiff(pack(white - values if photometric == 0 else values), bits, photometric, sample_format)
    loaded = load_image(data, (32, 32))
    assert np.abs(loaded.astype(int) - scan()[..., None]).max() <= 1


@pytest.mark.parametrize('orientation', [1, 6, 8])
def test_heic(orientation):
    """As a telephone writes it: the pixels lie on their side, and a tag says how to turn them."""
    upright = np.full((60, 40, 3), 255, np.uint8)
    upright[:30] = 200, 20, 20
    upright[:, :20] //= 2
    turns = {1: 0, 6: 1, 8: 3}[orientation]  # 6: turn the stored picture clockwise
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright, turns)))
    stored.save(buffer, 'HEIF', quality=95, exif=exif.tobytes())
    loaded = load_image(buffer.getvalue(), (60, 40)).astype(int)
    inner = (slice(4, 26), slice(34, 56)), (slice(4, 16), slice(24, 36))
    for rows in inner[0]:
        for columns in inner[1]:  # of each quarter
            assert np.abs(loaded[rows, columns] - upright[rows, columns]).max() <= 12


def test_megabytes_of_text_in_a_png():
    """The editing history that Photoshop leaves."""
    info = PngImagePlugin.PngInfo()
    info.add_text('history', 'x' * 2**23, zip=True)
    info.add_itxt('XML:com.adobe.xmp', 'y' * 2**26, zip=True)
    buffer = io.BytesIO()
    Image.fromarray(scan()).save(buffer, 'PNG', pnginfo=info)
    assert (load_image(buffer.getvalue(), (32, 32)) == scan()[..., None]).all()


@pytest.mark.filterwarnings('error')
def test_photos_as_large_as_the_limit_cause_no_warning():
    buffer = io.BytesIO()
    Image.new('1', (13000, 13000), 1).save(buffer, 'PNG')
    assert load_image(buffer.getvalue(), (4, 4)).min() == 255


def test_a_gif_with_a_frame_beyond_its_canvas():
    """Pillow allocates the frame when it opens the file: 73 bytes would take four gigabytes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    screen = b'GIF89a' + struct.pack('<HHBBB', 7, 9, 0, 0, 0)
    frame = b',' + struct.pack('<HHHHB', 0, 0, 65535, 65535, 0) + b'\x02\x02\x44\x01\x00;'
    with warnings.catch_warnings(), pytest.raises(BadImage, match='more than 178,956,970 pixels'):
        warnings.simplefilter('ignore')
        load_image(screen + frame, (4, 4))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20


def test_what_is_no_file_is_not_opened(tmp_path):
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'zero.png').symlink_to('/dev/zero')
    (tmp_path / 'folder.png').mkdir()
    server = socket.socket(socket.AF_UNIX)
    here = os.open('.', os.O_RDONLY)
    try:
        os.chdir(tmp_path)  # the path of a socket is short
        server.bind('socket.png')
    finally:
        os.fchdir(here)
        os.close(here)
        server.close()
    for name, kind in [('pipe', 'a pipe'), ('zero', 'a device'), ('folder', 'a folder'), ('socket', 'a socket')]:
        with pytest.raises(BadImage, match=f'not a file, but {kind}'):
            read_file(tmp_path / f'{name}.png')
