"""Photos come back as they were: every kind of file, read by another library and compared with what it sees."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import IFDRational
from profiles import SPACES, SRGB, cmyk_icc, icc, to_xyz

from productgen.data.images import BadImage, upright_size
from productgen.data.native import read_photo, write_photo


def picture(height=24, width=32, channels=3, seed=0):
    """Smooth, different in every corner, with values from 0 to 255."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)


def deep(channels=3, seed=0, shape=(24, 32)):
    return np.random.default_rng(seed).integers(0, 65536, (*shape, channels), dtype=np.uint16)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def again(path, out=None, **options):
    """What a file looks like after being read and written: (path, photo)."""
    out = out or path.with_name('out' + path.suffix)
    before, photo = path.read_bytes(), read_photo(path)
    write_photo(out, photo, **options)
    assert path.read_bytes() == before and [p.name for p in out.parent.glob('.*')] == []
    return out, photo


# ------------------------------------------------------------------------------------------------ kinds of files


@pytest.mark.parametrize('ending', ['png', 'bmp', 'tif', 'webp'])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'LA', 'P', '1'])
def test_what_has_no_loss_comes_back_exactly(tmp_path, ending, mode):
    if ending == 'bmp' and mode in ('RGBA', 'LA') or ending == 'webp' and mode in ('P', '1', 'L', 'LA'):
        pytest.skip('the format has no such pictures')
    pixels = picture(channels=4)
    pixels[..., 3] = np.maximum(pixels[..., 3], 1)
    image = Image.fromarray(pixels)
    image = image.convert('LA') if mode == 'LA' else image if mode == 'RGBA' else image.convert('RGB').convert(mode)
    path = saved(tmp_path / f'a.{ending}', image, **({'lossless': True} if ending == 'webp' else {}))
    out, photo = again(path)
    assert photo.depth == 8 and photo.pixels.dtype == np.float32 and photo.size == (24, 32) == upright_size(path)
    one, other = Image.open(path), Image.open(out)
    assert one.format == other.format
    kind = 'RGBA' if 'A' in mode else 'RGB'
    np.testing.assert_array_equal(np.asarray(one.convert(kind)), np.asarray(other.convert(kind)))
    if mode in ('L', 'LA', 'RGB', 'RGBA'):
        assert other.mode == mode


@pytest.mark.parametrize('shape', [(1, 1), (1, 300), (300, 1), (7, 3)])
@pytest.mark.parametrize('ending', ['png', 'jpg', 'webp', 'tif', 'avif'])
def test_any_size(tmp_path, shape, ending):
    path = saved(tmp_path / f'a.{ending}', Image.new('RGB', shape[::-1], (200, 40, 90)))
    out, photo = again(path)
    assert photo.size == shape and Image.open(out).size == shape[::-1]
    assert np.abs(np.asarray(Image.open(out).convert('RGB')).astype(int) - (200, 40, 90)).max() <= 6


def test_jpeg_has_high_quality_and_full_colour(tmp_path):
    path = saved(tmp_path / 'a.jpg', Image.fromarray(picture(200, 300)), quality=98, subsampling=0, dpi=(300, 300))
    out, _ = again(path)
    one, other = (np.asarray(Image.open(p)).astype(int) for p in (path, out))
    assert np.abs(one - other).max() <= 8 and Image.open(out).info['dpi'] == (300, 300)
    sampling = [layer[1:3] for layer in Image.open(out).layer]
    assert sampling == [(1, 1)] * 3
    saved(tmp_path / 'b.jpg', Image.fromarray(picture()), quality=95)
    assert Image.open(out).quantization == Image.open(tmp_path / 'b.jpg').quantization


def test_animations_give_their_first_frame_and_gif_becomes_png(tmp_path):
    frames = [Image.new('RGB', (9, 5), color) for color in ('red', 'blue')]
    path = saved(tmp_path / 'a.gif', frames[0], save_all=True, append_images=frames[1:])
    out, photo = again(path, tmp_path / 'out.png')
    assert photo.notes == ('the first of 2 frames', 'GIF is not written: it becomes a PNG')
    assert Image.open(out).format == 'PNG' and Image.open(out).convert('RGB').getpixel((3, 3)) == (255, 0, 0)


def test_a_damaged_file_is_refused(tmp_path):
    ok = cv2.imencode('.png', deep(shape=(90, 90)))[1].tobytes()
    (tmp_path / 'a.png').write_bytes(ok[: len(ok) // 2])  # OpenCV would take it
    (tmp_path / 'b.png').write_bytes(b'')
    for name in ('a.png', 'b.png', 'none.png'):
        with pytest.raises(BadImage):
            read_photo(tmp_path / name)


# ---------------------------------------------------------------------------------------------------- orientation


@pytest.mark.parametrize('turn', range(1, 9))
@pytest.mark.parametrize('kind', ['jpg', 'png', 'tif', 'deep.png', 'deep.tif'])
def test_orientation_is_applied_and_reset(tmp_path, turn, kind):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = turn, 'Maker'
    path = tmp_path / f'a.{kind}'
    plain = picture()
    if kind == 'deep.tif':
        tifffile.imwrite(path, plain.astype(np.uint16) * 257, photometric='rgb', extratags=[(274, 'H', 1, turn, True)])
    elif kind == 'deep.png':
        data = cv2.imencode('.png', plain[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
        block = tags.tobytes()[6:]
        chunk = struct.pack('>I', len(block)) + b'eXIf' + block + struct.pack('>I', zlib.crc32(b'eXIf' + block))
        path.write_bytes(data[:33] + chunk + data[33:])
    else:
        saved(path, Image.fromarray(plain), exif=tags, **({'quality': 98, 'subsampling': 0} if kind == 'jpg' else {}))
    expected = Image.fromarray(plain)
    expected.getexif()[0x0112] = turn
    expected = np.asarray(ImageOps.exif_transpose(expected)).astype(int)
    out, photo = again(path)
    assert np.abs(photo.pixels * 255 - expected).max() <= 12 * (kind == 'jpg') + 0.01
    with Image.open(out) as image:
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 16 * (kind == 'jpg')
        assert image.getexif().get(0x0112) == 1 or kind == 'tif'  # Pillow forgets that of a TIFF once it is loaded


# ------------------------------------------------------------------------------------------------------- metadata


def camera_tags(turn=1):
    tags = Image.Exif()
    tags[0x0112], tags[0x010F], tags[0x8298], tags[0x0132] = turn, 'Maker', 'A. Shop', '2024:05:06 07:08:09'
    tags.get_ifd(0x8769).update(
        {0x9003: '2020:01:01 00:00:00', 0xA002: 32, 0xA003: 24, 0x829A: IFDRational(1, 250), 0x927C: b'x'}
    )
    tags.get_ifd(0x8825).update({1: 'N', 2: (48.0, 8.0, 0.5), 3: 'E', 4: (11.0, 34.0, 0.25)})
    return tags


@pytest.mark.parametrize('strip', [False, True])
@pytest.mark.parametrize('kind', ['a.jpg', 'a.png', 'a.webp', 'a.tif', 'a.avif', 'deep.png', 'deep.tif'])
def test_exif_is_carried_over_without_the_place_on_request(tmp_path, kind, strip):
    path = saved(
        tmp_path / ('a.png' if 'deep' in kind else kind), Image.fromarray(picture()), exif=camera_tags(3).tobytes()
    )
    photo = read_photo(path)
    if 'deep' in kind:
        photo = photo.replace(depth=16, format='TIFF' if kind.endswith('tif') else 'PNG')
    out = tmp_path / f'out-{kind}'
    enlarged = photo.mapped(lambda x: x.repeat(2, 0).repeat(2, 1))
    write_photo(out, enlarged, strip_gps=strip)
    found = Image.open(out).getexif()
    assert found.get(0x0112, 1) == 1 and (found[0x010F], found[0x8298]) == ('Maker', 'A. Shop')
    camera, place = found.get_ifd(0x8769), found.get_ifd(0x8825)
    assert camera[0x9003] == '2020:01:01 00:00:00' and (camera[0xA002], camera[0xA003]) == (64, 48)
    assert camera[0x829A] == pytest.approx(1 / 250) and (0x927C in camera) != strip
    assert (dict(place) == {}) if strip else (place[2] == (48.0, 8.0, 0.5) and place[1] == 'N')
    assert not strip or b'GPS' not in out.read_bytes()
    if kind == 'deep.tif':
        with tifffile.TiffFile(out) as file:
            assert file.pages[0].dtype == np.uint16 and file.pages[0].tags['ExifTag'].value['DateTimeOriginal']


def test_damaged_exif_does_not_matter(tmp_path):
    path = saved(tmp_path / 'a.jpg', Image.fromarray(picture()), exif=b'Exif\0\0II*\0\xff\xff\xff\x7f' + bytes(9))
    out, photo = again(path)
    assert photo.exif is None and Image.open(out).size == (32, 24)


# ------------------------------------------------------------------------------------------------------ 16 bits


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_sixteen_bits_come_back_exactly(tmp_path, channels, ending):
    values = deep(channels)
    if channels == 4:
        values[..., 3] = np.maximum(values[..., 3], 1)
    flat = values[..., 0] if channels == 1 else values
    path = tmp_path / f'a.{ending}'
    if ending == 'tif':
        kinds = {1: ('minisblack', None), 3: ('rgb', None), 4: ('rgb', ['unassalpha'])}
        tifffile.imwrite(path, flat, photometric=kinds[channels][0], extrasamples=kinds[channels][1])
    else:
        code = {1: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[channels]
        cv2.imwrite(str(path), flat if code is None else cv2.cvtColor(flat, code))
    out, photo = again(path)
    assert photo.depth == 16
    np.testing.assert_allclose(photo.pixels[..., 0], values[..., 0] / 65535, atol=1e-6)
    found = cv2.imread(str(out), cv2.IMREAD_UNCHANGED) if ending == 'png' else tifffile.imread(out)
    if ending == 'png' and channels > 1:
        found = found[..., [2, 1, 0, 3][:channels]]
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, flat)


@pytest.mark.parametrize('layout', ['separate', 'deflate', 'associated', 'predictor'])
def test_layouts_of_deep_tiffs(tmp_path, layout):
    values, path = deep(4 if layout == 'associated' else 3), tmp_path / 'a.tif'
    options, stored, expected = {}, values, values[..., :3] / 65535
    if layout == 'separate':
        options, stored = {'planarconfig': 'separate'}, np.moveaxis(values, -1, 0)
    elif layout == 'associated':
        values[..., 3] = np.maximum(values[..., 3], 20000)
        stored = values.copy()
        stored[..., :3] = np.rint(values[..., :3] * (values[..., 3:] / 65535))
        options = {'extrasamples': ['assocalpha']}
    else:
        options = {'compression': 'zlib', 'predictor': layout == 'predictor'}
    tifffile.imwrite(path, stored, photometric='rgb', **options)
    photo = read_photo(path)
    assert photo.depth == 16
    np.testing.assert_allclose(photo.pixels, expected, atol=1e-4 if layout == 'associated' else 1e-6)


# ------------------------------------------------------------------------------------------------------- colours


def srgb_to_linear(values):
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def reference(values, space):
    """sRGB-coded colours of values in [0, 1] of a space, from its chromaticities alone."""
    primaries, gamma = SPACES[space]
    light = values**gamma if gamma else srgb_to_linear(values)
    light = light @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T
    size = np.abs(light)
    return np.sign(light) * np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('ending', ['png', 'jpg', 'tif', 'webp'])
def test_wide_gamut_is_converted_and_comes_back(tmp_path, space, ending):
    grid = np.stack(np.meshgrid(*[np.linspace(0, 255, 9).astype(np.uint8)] * 3), -1).reshape(27, 27, 3)
    options = {'jpg': {'quality': 100, 'subsampling': 0}, 'webp': {'lossless': True}}.get(ending, {})
    path = saved(tmp_path / f'a.{ending}', Image.fromarray(grid), icc_profile=icc(*SPACES[space]), **options)
    stored = np.asarray(Image.open(path))
    photo = read_photo(path)
    assert photo.pixels.min() < -0.05 and photo.pixels.max() > 1.02  # colours that sRGB does not have
    np.testing.assert_allclose(photo.pixels, reference(stored / 255, space), atol=0.004)
    seen = []
    photo = photo.mapped(lambda x: seen.append((x.min(), x.max())) or x)
    assert seen == [(0, 1)]
    write_photo(tmp_path / f'out.{ending}', photo)
    with Image.open(tmp_path / f'out.{ending}') as image:
        assert image.info['icc_profile'] == icc(*SPACES[space])
        difference = np.abs(np.asarray(image).astype(int) - stored)
    if ending == 'jpg':  # neighbours of the grid have nothing in common, the worst there is for JPEG
        assert difference.mean() < 4
    else:
        assert difference.max() <= 1


def test_the_matrix_agrees_with_littlecms_inside_of_srgb(tmp_path):
    values = (64 + picture() / 2).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(icc(*SPACES['p3'])))
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile('sRGB'), 'RGB', 'RGB')
    expected = np.asarray(transform.apply(Image.fromarray(values))).astype(float)
    photo = read_photo(saved(tmp_path / 'a.png', Image.fromarray(values), icc_profile=profile.tobytes()))
    inside = (expected > 0).all(-1) & (expected < 255).all(-1)
    assert inside.mean() > 0.5 and np.abs(photo.pixels * 255 - expected)[inside].max() < 1.1


def test_sixteen_bits_of_a_wide_gamut_come_back(tmp_path):
    values = deep()
    data = cv2.imencode('.png', values[..., ::-1])[1].tobytes()
    content = b'p\0\0' + zlib.compress(icc(*SPACES['p3']))
    chunk = struct.pack('>I', len(content)) + b'iCCP' + content + struct.pack('>I', zlib.crc32(b'iCCP' + content))
    (tmp_path / 'a.png').write_bytes(data[:33] + chunk + data[33:])
    for ending in ('png', 'tif'):
        photo = read_photo(tmp_path / 'a.png').replace(format='TIFF' if ending == 'tif' else 'PNG')
        write_photo(tmp_path / f'out.{ending}', photo)
        found = cv2.imread(str(tmp_path / f'out.{ending}'), cv2.IMREAD_UNCHANGED)[..., ::-1]
        assert np.abs(found.astype(int) - values).max() <= 8
        assert Image.open(tmp_path / f'out.{ending}').info['icc_profile'] == icc(*SPACES['p3'])


def test_srgb_profiles_are_kept_and_change_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    out, photo = again(saved(tmp_path / 'a.png', Image.fromarray(picture()), icc_profile=profile))
    assert Image.open(out).info['icc_profile'] == profile
    np.testing.assert_allclose(photo.pixels, picture() / 255, atol=1e-6)


def test_a_damaged_profile_is_left_out_and_said(tmp_path):
    out, photo = again(saved(tmp_path / 'a.png', Image.fromarray(picture()), icc_profile=b'junk' * 50))
    assert 'profile' in photo.notes[0] and 'icc_profile' not in Image.open(out).info
    np.testing.assert_array_equal(np.asarray(Image.open(out)), picture())


@pytest.mark.parametrize('ending', ['jpg', 'tif'])
def test_cmyk_without_a_profile_becomes_rgb_and_says_so(tmp_path, ending):
    image = Image.fromarray(picture()).convert('CMYK')
    out, photo = again(saved(tmp_path / f'a.{ending}', image, **({'quality': 98} if ending == 'jpg' else {})))
    assert photo.notes == ('CMYK without a profile: written as RGB',) and Image.open(out).mode == 'RGB'
    assert np.abs(np.asarray(Image.open(out)).astype(int) - picture()).mean() < 3


def test_cmyk_with_a_profile_goes_back_to_it(tmp_path):
    cmyk_profile = cmyk_icc()
    inks = np.full((16, 16, 4), (30, 120, 200, 10), np.uint8)
    image = Image.frombytes('CMYK', (16, 16), inks.tobytes())
    for ending, options in (('jpg', {'quality': 98}), ('tif', {})):
        out, photo = again(saved(tmp_path / f'a.{ending}', image, icc_profile=cmyk_profile, **options))
        assert photo.cmyk and not photo.notes
        with Image.open(out) as found:
            assert found.mode == 'CMYK' and found.info['icc_profile'] == cmyk_profile
            to_rgb = ImageCms.buildTransform(io.BytesIO(cmyk_profile), ImageCms.createProfile('sRGB'), 'CMYK', 'RGB')
            one, other = (np.asarray(to_rgb.apply(x)).astype(int) for x in (image, found))
        assert np.abs(one - other).max() <= 6


# -------------------------------------------------------------------------------------------------- transparency


@pytest.mark.parametrize('depth', [8, 16])
def test_hidden_black_does_not_bleed(tmp_path, depth):
    """A pink disc whose surroundings are transparent black: enlarged and put on white, nothing is darker than pink."""
    y, x = np.mgrid[:40, :40]
    disc = np.hypot(y - 20, x - 20) < 12
    top = 2**depth - 1
    rgba = np.zeros((40, 40, 4), np.uint8 if depth == 8 else np.uint16)
    rgba[disc] = top, top // 2, top // 2, top
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), rgba[..., [2, 1, 0, 3]])
    enlarge = lambda pixels: cv2.resize(pixels, None, fx=3, fy=3, interpolation=cv2.INTER_LANCZOS4)
    photo = read_photo(path).mapped(enlarge)
    write_photo(tmp_path / 'out.png', photo)
    found = cv2.imread(str(tmp_path / 'out.png'), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]] / top
    assert found.shape == (120, 120, 4) and 0 < (found[..., 3] > 0.5).sum() < 120 * 120
    white = found[..., :3] * found[..., 3:] + 1 - found[..., 3:]
    assert white.min() > 0.49 and white[..., 0].min() > 0.99
    assert np.asarray(photo.over((1, 1, 1))).min() > 0.49


def test_wholly_transparent_pictures(tmp_path):
    out, photo = again(saved(tmp_path / 'a.png', Image.new('RGBA', (5, 4), (9, 8, 7, 0))))
    assert photo.alpha.max() == 0 and Image.open(out).getpixel((0, 0)) == (9, 8, 7, 0)
