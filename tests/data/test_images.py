"""Every kind of file that can be read is decoded correctly, against references computed here."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from productgen.data import images
from productgen.data.images import load_image, parse_color
from productgen.data.source import DataError


def encoded(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(height=24, width=32, seed=0):
    """Smooth and coloured, different in every corner, so that any turn or shift of it shows."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def same(data, expected, tolerance=0, **options):
    """Loads at the expected size and compares."""
    expected = np.broadcast_to(expected, (*expected.shape[:2], 3)).astype(int)
    loaded = load_image(data, expected.shape[:2], **options)
    assert loaded.dtype == np.uint8 and loaded.shape == expected.shape
    assert np.abs(loaded - expected).max() <= tolerance


# ------------------------------------------------------------------------------------------------ kinds of pixels


@pytest.mark.parametrize('kind, tolerance', [('PNG', 0), ('BMP', 0), ('TIFF', 0), ('WEBP', 0), ('JPEG', 12)])
def test_formats(kind, tolerance):
    options = {'WEBP': {'lossless': True}, 'JPEG': {'quality': 98, 'subsampling': 0}}.get(kind, {})
    same(encoded(Image.fromarray(picture()), kind, **options), picture(), tolerance)


def test_path_and_bytes_give_the_same(tmp_path):
    file = tmp_path / 'Ärmel 1.png'
    file.write_bytes(encoded(Image.fromarray(picture())))
    same(file, picture())
    same(str(file), picture())


@pytest.mark.parametrize('mode', ['L', '1'])
def test_gray_and_bilevel(mode):
    gray = Image.fromarray(picture()[..., 0]).convert(mode)
    same(encoded(gray), np.asarray(gray.convert('L'))[..., None])


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_sixteen_bits_are_scaled_not_clipped(kind):
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    same(encoded(Image.fromarray(values), kind), np.rint(values / 257.0)[..., None])


def test_transparent_gray_value_of_sixteen_bits():
    values = np.full((4, 6), 30000, np.uint16)
    values[1:3, 2:4] = 1000
    same(encoded(Image.fromarray(values), transparency=1000), np.where(values == 1000, 255, 117)[..., None])


@pytest.mark.parametrize('white', [1.0, 255.0, 65535.0])
def test_float_tiff(white):
    values = picture()[..., 0] / np.float32(255)
    values[0, 0], values[0, 1] = 0, 1
    data = encoded(Image.fromarray((values * white).astype(np.float32)), 'TIFF')
    same(data, np.rint(values * 255)[..., None])


def test_float_tiff_with_holes():
    values = np.full((4, 6), 0.5, np.float32)
    values[0, 0], values[0, 1] = np.nan, np.inf
    loaded = load_image(encoded(Image.fromarray(values), 'TIFF'), (4, 6))
    assert loaded[0, 0].max() == 0 and loaded[2, 2, 0] == 128


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk(kind):
    """Adobe JPEGs store CMYK inverted."""
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:] = 0, 255, 255, 0
    expected = np.full((16, 32, 3), 255)
    expected[:, 16:] = 255, 0, 0
    data = encoded(Image.frombytes('CMYK', (32, 16), inks.tobytes()), kind)
    assert kind == 'TIFF' or b'Adobe' in data
    same(data, expected, tolerance=2)


def test_first_frame_of_animations_and_pages():
    frames = [Image.fromarray(picture(seed=seed)) for seed in range(3)]
    for kind, options in (('TIFF', {}), ('WEBP', {'lossless': True}), ('PNG', {})):
        same(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options), picture())
    flat = [Image.new('RGB', (8, 6), color) for color in ('red', 'lime', 'blue')]
    data = encoded(flat[0], 'GIF', save_all=True, append_images=flat[1:], duration=10)
    same(data, np.broadcast_to([255, 0, 0], (6, 8, 3)))


# ---------------------------------------------------------------------------------------------------- transparency


def with_alpha(seed=1):
    rgb = picture()
    alpha = picture(seed=seed)[..., :1]
    return np.concatenate([rgb, alpha], axis=-1), alpha / 255


def over(rgb, alpha, color):
    return np.rint(rgb * alpha + np.array(color) * (1 - alpha))


@pytest.mark.parametrize('kind, options', [('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True, 'exact': True})])
def test_rgba_is_composed_on_the_background(kind, options):
    rgba, alpha = with_alpha()
    data = encoded(Image.fromarray(rgba), kind, **options)
    same(data, over(rgba[..., :3], alpha, (0x20, 0x80, 0xF0)), 1, background='#2080f0')


def test_animated_rgba_webp():
    rgba, alpha = with_alpha()
    others = [Image.fromarray(with_alpha(seed)[0]) for seed in (2, 3)]
    options = {'lossless': True, 'exact': True, 'save_all': True, 'append_images': others}
    same(encoded(Image.fromarray(rgba), 'WEBP', **options), over(rgba[..., :3], alpha, (255, 255, 255)), 1)


def test_gray_with_alpha():
    gray, alpha = picture()[..., :1], picture(seed=1)[..., :1]
    data = encoded(Image.merge('LA', [Image.fromarray(gray[..., 0]), Image.fromarray(alpha[..., 0])]))
    same(data, over(gray, alpha / 255, (255, 0, 0)), 1, background='red')


@pytest.mark.parametrize('kind', ['PNG', 'GIF'])
def test_transparent_palette_entry(kind):
    image = Image.new('P', (8, 6), 1)
    image.putpalette([0, 0, 0, 200, 10, 30])
    image.paste(0, (0, 0, 4, 6))
    expected = np.zeros((6, 8, 3))
    expected[:, :4], expected[:, 4:] = (255, 255, 0), (200, 10, 30)
    same(encoded(image, kind, transparency=0), expected, background='yellow')


def test_palette_with_alpha_of_every_entry():
    image = Image.new('P', (8, 6), 1)
    image.putpalette([0, 0, 0, 200, 10, 30])
    same(encoded(image, transparency=bytes([0, 51])), np.broadcast_to([244, 206, 210], (6, 8, 3)), 1)


def test_transparent_colour_of_an_rgb_png():
    image = Image.new('RGB', (8, 6), (1, 2, 3))
    same(encoded(image, transparency=(1, 2, 3)), np.full((6, 8, 3), 255))


def test_hidden_colour_leaves_no_fringe():
    """A white product whose transparent surroundings are stored as black stays white when it is made smaller."""
    y, x = np.mgrid[:256, :256] - 127.5
    disc = (x**2 + y**2 < 100**2)[..., None]
    rgba = np.where(disc, [255, 255, 255, 255], [0, 0, 0, 0]).astype(np.uint8)
    assert load_image(encoded(Image.fromarray(rgba)), (50, 50)).min() == 255
    on_red = load_image(encoded(Image.fromarray(rgba)), (50, 50), background='red')
    assert on_red[..., 0].min() == 255  # between white and red there is nothing dark


# ----------------------------------------------------------------------------------------- orientation and colours


def stored(upright, orientation):
    """The pixels in a file, from what the EXIF standard says about its row 0 and column 0."""
    height, width = upright.shape[:2]
    row_axis, row_end, column_end = {
        1: ('y', False, False),  # row 0 at the top, column 0 at the left
        2: ('y', False, True),  # top, right
        3: ('y', True, True),  # bottom, right
        4: ('y', True, False),  # bottom, left
        5: ('x', False, False),  # left, top
        6: ('x', True, False),  # right, top
        7: ('x', True, True),  # right, bottom
        8: ('x', False, True),  # left, bottom
    }[orientation]
    rows, columns = (height, width) if row_axis == 'y' else (width, height)
    result = np.empty((rows, columns, 3), np.uint8)
    for r in range(rows):
        for c in range(columns):
            along, across = rows - 1 - r if row_end else r, columns - 1 - c if column_end else c
            y, x = (along, across) if row_axis == 'y' else (across, along)
            result[r, c] = upright[y, x]
    return result


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF', 'JPEG'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {'WEBP': {'lossless': True}, 'JPEG': {'quality': 98, 'subsampling': 0}}.get(kind, {})
    data = encoded(Image.fromarray(stored(picture(), orientation)), kind, exif=exif, **options)
    same(data, picture(), tolerance=12 if kind == 'JPEG' else 0)


def test_orientation_of_a_jpeg_that_is_shrunk_while_it_decodes():
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture(1200, 400)
    data = encoded(Image.fromarray(stored(upright, 6)), 'JPEG', exif=exif, quality=95)
    same(data, np.asarray(Image.fromarray(upright).resize((20, 60), images.FILTER)), 3)


def test_broken_exif_is_ignored():
    same(encoded(Image.fromarray(picture()), exif=b'Exif\0\0MM\0*\xff\xff'), picture())


# Adobe RGB (1998) to XYZ, and XYZ to linear sRGB, both relative to D50 as in ICC profiles (Lindbloom's tables).
ADOBE_TO_XYZ = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
XYZ_TO_SRGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)


def adobe_profile(gamma):
    """A minimal ICC version 2 display profile."""

    def fixed(values):
        return b'XYZ \0\0\0\0' + b''.join(struct.pack('>i', round(value * 65536)) for value in values)

    curve = b'curv\0\0\0\0' + struct.pack('>IHH', 1, round(gamma * 256), 0)
    tags = {
        b'desc': b'desc\0\0\0\0' + struct.pack('>I', 5) + b'test\0' + bytes(4 + 4 + 2 + 1 + 67 + 3),
        b'cprt': b'text\0\0\0\0none\0\0\0\0',
        b'wtpt': fixed([0.9642, 1, 0.8249]),
        **{name: fixed(ADOBE_TO_XYZ[:, i]) for i, name in enumerate((b'rXYZ', b'gXYZ', b'bXYZ'))},
        **dict.fromkeys((b'rTRC', b'gTRC', b'bTRC'), curve),
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack('>I', len(tags)), b''
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack('>II', start + len(body), len(content))
        body += content
    header = struct.pack('>I4sI4s4s4s', start + len(body), b'lcms', 0x02400000, b'mntr', b'RGB ', b'XYZ ')
    header += struct.pack('>6H', 2020, 1, 1, 0, 0, 0) + b'acsp' + bytes(28) + fixed([0.9642, 1, 0.8249])[8:]
    return header.ljust(128, b'\0') + table + body


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'WEBP', 'JPEG'])
def test_wide_gamut_profile_is_converted(kind):
    gamma = 1.8
    pixels = np.repeat(np.repeat(picture(3, 4, seed=5) // 3 + 80, 16, 0), 16, 1)  # muted: inside of sRGB
    linear = (pixels / 255) ** gamma @ ADOBE_TO_XYZ.T @ XYZ_TO_SRGB.T
    assert linear.min() > 0 and linear.max() < 1
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert np.abs(expected - pixels).max() > 20  # it matters
    options = {'WEBP': {'lossless': True}, 'JPEG': {'quality': 100, 'subsampling': 0}}.get(kind, {})
    data = encoded(Image.fromarray(pixels), kind, icc_profile=adobe_profile(gamma), **options)
    same(data, np.rint(expected), tolerance=4 if kind == 'JPEG' else 1)


def test_profile_of_a_transparent_picture():
    rgba = np.full((6, 8, 4), (120, 160, 90, 255), np.uint8)
    rgba[:, :4, 3] = 0
    data = encoded(Image.fromarray(rgba), icc_profile=adobe_profile(1.8))
    loaded = load_image(data, (6, 8), background='#102030')
    opaque = load_image(encoded(Image.fromarray(rgba[..., :3]), icc_profile=adobe_profile(1.8)), (6, 8))
    assert (loaded[:, :4] == (16, 32, 48)).all()  # the background is sRGB already
    assert (loaded[:, 4:] == opaque[:, 4:]).all()


# Named, since a profile holds the second it was made in and test processes must agree on the names.
@pytest.mark.parametrize(
    'profile', [b'nonsense', adobe_profile(1.8)[:200], srgb_profile()], ids=['nonsense', 'broken', 'srgb']
)
def test_broken_and_srgb_profiles_change_nothing(profile):
    same(encoded(Image.fromarray(picture()), icc_profile=profile), picture())


def test_profile_for_another_kind_of_image_is_ignored():
    gray = picture()[..., :1]
    same(encoded(Image.fromarray(gray[..., 0]), icc_profile=adobe_profile(1.8)), gray)


# ------------------------------------------------------------------------------------------------- size and shape


def lanczos(pixels, height, width, box=None):
    """Separable antialiased Lanczos-3 of the region box = (left, top, right, bottom), in plain NumPy."""
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])

    def weights(inside, out, start, stop):
        scale = (stop - start) / out
        stretch = max(scale, 1.0)
        centre = start + (np.arange(out)[:, None] + 0.5) * scale
        x = (np.arange(inside)[None] + 0.5 - centre) / stretch
        w = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
        return w / w.sum(1, keepdims=True)

    rows = weights(pixels.shape[0], height, top, bottom)
    columns = weights(pixels.shape[1], width, left, right)
    wide = np.clip(np.rint(np.einsum('wx,yxc->ywc', columns, pixels)), 0, 255)  # one pass, then the other, in bytes
    return np.clip(np.einsum('hy,ywc->hwc', rows, wide), 0, 255)


SHAPES = [(48, 64), (64, 48), (50, 50), (9, 7), (1, 30), (97, 13)]


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [(16, 16), (12, 20)])
def test_stretch(shape, size):
    pixels = picture(*shape)
    same(encoded(Image.fromarray(pixels)), np.rint(lanczos(pixels, *size)), 2, fit='stretch')


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [(16, 16), (12, 20)])
def test_pad_shows_everything_between_bars(shape, size):
    pixels = picture(*shape)
    scale = min(size[0] / shape[0], size[1] / shape[1])
    height, width = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    expected = np.broadcast_to([244, 0, 10], (*size, 3)).copy()
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    expected[top : top + height, left : left + width] = np.rint(lanczos(pixels, height, width))
    assert height == size[0] or width == size[1]
    same(encoded(Image.fromarray(pixels)), expected, 2, fit='pad', background='#f4000a')


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('size', [(16, 16), (12, 20)])
def test_crop_fills_the_frame_from_the_centre(shape, size):
    pixels = picture(*shape)
    scale = max(size[0] / shape[0], size[1] / shape[1])
    top, left = (shape[0] - size[0] / scale) / 2, (shape[1] - size[1] / scale) / 2
    expected = lanczos(pixels, *size, box=(left, top, shape[1] - left, shape[0] - top))
    same(encoded(Image.fromarray(pixels)), np.rint(expected), 2, fit='crop')


@pytest.mark.parametrize('fit', images.FITS)
def test_shrinking_while_decoding_costs_no_quality(fit):
    rng = np.random.default_rng(0)
    fine = np.asarray(Image.fromarray(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)).resize((800, 1200)))
    data = encoded(Image.fromarray(fine), 'JPEG', quality=95)
    whole = load_image(encoded(Image.open(io.BytesIO(data))), (64, 64), fit)
    with Image.open(io.BytesIO(data)) as image:
        image.draft('RGB', images._draft_size(image.size, 1, (64, 64), fit))
        assert image.size != (800, 1200)
        assert min(image.width, image.height) >= 2 * 64 or fit == 'pad' and image.height >= 2 * 64
    assert np.abs(load_image(data, (64, 64), fit).astype(int) - whole).mean() < 1.5


def test_a_checkerboard_becomes_gray():
    """Without antialiasing it would become black, white, or moiré."""
    board = np.indices((256, 256)).sum(0) % 2 * 255
    loaded = load_image(encoded(Image.fromarray(board.astype(np.uint8))), (32, 32))
    assert np.abs(loaded.astype(int) - 127)[4:-4, 4:-4].max() <= 2


# ------------------------------------------------------------------------------------------------------- options


def test_colors():
    assert parse_color('white') == (255, 255, 255)
    assert parse_color('#f4f4f4') == (244, 244, 244)
    assert parse_color('#abc') == (170, 187, 204)
    for text in ('whit', '', '#12', '#ffffff80', 'f4f4f4'):
        with pytest.raises(DataError, match='data.background'):
            parse_color(text)


def test_unknown_fit():
    with pytest.raises(DataError, match='data.fit.*squeeze.*pad, crop, stretch'):
        load_image(encoded(Image.fromarray(picture())), (8, 8), fit='squeeze')


def test_threads_load_the_same_pictures():
    rgba, _ = with_alpha()
    kinds = [
        encoded(Image.fromarray(rgba)),
        encoded(Image.fromarray(picture()), 'JPEG', icc_profile=adobe_profile(2.2)),
        encoded(Image.fromarray(rgba), 'WEBP'),
        encoded(Image.fromarray(picture()), 'GIF'),
    ]
    expected = [load_image(data, (20, 20)) for data in kinds]
    with ThreadPoolExecutor(8) as pool:
        for i, loaded in enumerate(pool.map(lambda data: load_image(data, (20, 20)), kinds * 50)):
            np.testing.assert_array_equal(loaded, expected[i % len(kinds)])
