"""The tool that cuts products out: files, depth, alpha, names, masks, grounds, doubts."""

import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from productgen.config import UserError
from productgen.data.native import Photo, read_photo
from productgen.edit.cutout import alpha_of, box, cut_out
from productgen.edit.matte import Estimate, plain
from productgen.tasks import TASKS, Request

run, Settings = TASKS['cutout'].run, TASKS['cutout'].section
SHAPE = 90, 120


def truth(shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.clip((25 - np.hypot(y - 45, x - 50)) / 2 + 0.5, 0, 1).astype(np.float32)


def picture(ground=(1, 1, 1), shape=SHAPE):
    """A disk of two reds on a ground, float32 [H, W, 3]."""
    red = np.where(np.arange(shape[1])[:, None] % 8 < 4, (0.7, 0.1, 0.1), (0.5, 0.05, 0.1))
    alpha = truth(shape)[..., None]
    return (alpha * red + (1 - alpha) * np.array(ground)).astype(np.float32)


def eight(values):
    return np.rint(values * 255).astype(np.uint8)


def save(path, values=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(eight(picture()) if values is None else values).save(path, **options)
    return path


def cut(source, output, **settings):
    run(Request(Settings(**settings), input=source, output=output))


def test_transparent(tmp_path):
    source = save(tmp_path / 'in' / 'a.png')
    cut(source, tmp_path / 'out')
    found = read_photo(tmp_path / 'out' / 'a.png')
    before = read_photo(source)
    assert np.abs(found.alpha - truth()).mean() < 0.004
    whole = found.alpha == 1
    assert whole.mean() > 0.12 and np.array_equal(found.pixels[whole], before.pixels[whole])
    assert (found.alpha == 0).mean() > 0.7
    # On black no light fringe of the white ground is left.
    black = found.over((0, 0, 0))
    soft = (found.alpha > 0.05) & (found.alpha < 0.95)
    assert black[soft][:, 1].max() < 0.3 < before.pixels[soft][:, 1].max()


def test_sixteen_bits_and_orientation(tmp_path):
    values = np.rint(picture() * 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values[..., ::-1])
    cut(tmp_path / 'a.png', tmp_path / 'out')
    found = cv2.imread(str(tmp_path / 'out' / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16 and found.shape == (*SHAPE, 4)
    whole = found[..., 3] == 65535
    assert np.array_equal(found[whole][:, 2::-1], values[whole])

    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, 'Maker'
    save(tmp_path / 'turned.jpg', exif=tags.tobytes(), quality=95)
    cut(tmp_path / 'turned.jpg', tmp_path / 'out')
    with Image.open(tmp_path / 'out' / 'turned.png') as image:
        assert image.size == SHAPE and image.mode == 'RGBA'
        assert image.getexif()[0x010F] == 'Maker' and image.getexif().get(0x0112, 1) == 1


def test_grounds_keep_the_format(tmp_path):
    save(tmp_path / 'in' / 'a.jpg', quality=95)
    save(tmp_path / 'in' / 'b.png', eight(picture((0.3, 0.6, 0.9))))
    cut(tmp_path / 'in', tmp_path / 'out', ground='#00ff00')
    with Image.open(tmp_path / 'out' / 'a.jpg') as image:
        assert image.format == 'JPEG' and image.mode == 'RGB'
    found = np.asarray(Image.open(tmp_path / 'out' / 'b.png'))
    assert found.shape == (*SHAPE, 3) and np.array_equal(found[0, 0], (0, 255, 0))
    soft = (truth() > 0.2) & (truth() < 0.8)
    assert found[soft][:, 2].max() < 80  # no blue of the old ground


def test_gray_photos_get_coloured_grounds():
    gray = Photo(np.repeat(picture()[..., 1:2], 3, -1), gray=True)
    assert cut_out(gray, truth(), (1, 1, 1)).gray and not cut_out(gray, truth(), (0, 1, 0)).gray


def test_own_alpha():
    """A photo that is cut out keeps its alpha; another one's is multiplied."""
    own = np.zeros(SHAPE, np.float32)
    own[30:60, 30:70] = 0.7
    refuse = lambda picture: pytest.fail('is cut out already')
    assert np.array_equal(alpha_of(Photo(picture(), alpha=own), refuse)[0], own)
    half = np.ones(SHAPE, np.float32)
    half[40:50] = 0.5
    whole, _ = alpha_of(Photo(picture()), plain)
    found, doubt = alpha_of(Photo(picture(), alpha=half), plain)
    assert np.array_equal(found, whole * half) and not doubt


def test_crop(tmp_path):
    save(tmp_path / 'a.png')
    cut(tmp_path / 'a.png', tmp_path / 'out', crop=True)
    with Image.open(tmp_path / 'out' / 'a.png') as image:
        assert abs(image.width - 56) <= 3 and abs(image.height - 56) <= 3
    alpha = np.zeros((40, 50))
    assert box(alpha) == (slice(None), slice(None))
    alpha[10:30, 0:5] = 1
    assert box(alpha) == (slice(9, 31), slice(0, 6))


def test_names(tmp_path):
    for name in ('a.jpg', 'a.png', 'b.webp', 'sub/a.jpg', 'c.JPG'):
        save(tmp_path / 'in' / name)
    cut(tmp_path / 'in', tmp_path / 'out')
    names = sorted(p.relative_to(tmp_path / 'out').as_posix() for p in (tmp_path / 'out').rglob('*.png'))
    assert names == ['a.jpg.png', 'a.png', 'b.png', 'c.png', 'sub/a.png']
    for name in names:
        with Image.open(tmp_path / 'out' / name) as image:
            assert image.format == 'PNG' and image.mode == 'RGBA'


def test_masks_of_the_user(tmp_path):
    save(tmp_path / 'in' / 'a.jpg', quality=95)
    save(tmp_path / 'in' / 'b.jpg')
    save(tmp_path / 'in' / 'c.jpg')
    mask = np.zeros(SHAPE, np.uint8)
    mask[10:50, 20:60], mask[50, 20:60] = 255, 102
    save(tmp_path / 'masks' / 'a.png', mask)
    save(tmp_path / 'masks' / 'c.png', mask[:50])
    cut(tmp_path / 'in', tmp_path / 'out', masks=str(tmp_path / 'masks'))
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'out' / 'a.png'))[..., 3], mask)
    text = (tmp_path / 'out' / 'skipped_files.txt').read_text()
    assert 'no mask of this name in cutout.masks' in text and 'its mask has 120x50 pixels' in text


def test_doubts_are_listed_and_stay_listed(tmp_path, caplog):
    save(tmp_path / 'in' / 'good.png')
    save(tmp_path / 'in' / 'empty.png', np.full((50, 60, 3), 250, np.uint8))
    caplog.set_level(logging.INFO, 'productgen')
    for _ in range(2):  # the second run makes nothing, and still says it
        caplog.clear()
        cut(tmp_path / 'in', tmp_path / 'out')
        text = (tmp_path / 'out' / 'uncertain_files.txt').read_text()
        assert text.startswith('empty.png\tcertainty 0.') and text.count('\n') == 1
        assert '1 photo uncertain' in caplog.text and (tmp_path / 'out' / 'empty.png').is_file()
    save(tmp_path / 'in' / 'empty.png')
    cut(tmp_path / 'in', tmp_path / 'out')
    assert not (tmp_path / 'out' / 'uncertain_files.txt').exists()


def test_any_estimator_and_any_size():
    """A function of a small picture takes the place of the classical ones."""
    sizes = []

    def left(small):
        sizes.append(small.shape)
        mask = np.zeros(small.shape[:2], np.float32)
        mask[:, : small.shape[1] // 2] = 1
        return Estimate(mask, 0.2, 'a guess')

    alpha, doubt = alpha_of(Photo(np.full((300, 1000, 3), 0.5, np.float32)), left)
    assert sizes == [(120, 400, 3)] and doubt == 'certainty 0.20: a guess'
    assert alpha[:, :480].min() == 1 and alpha[:, 520:].max() == 0
    for shape in ((1, 1), (1, 60), (60, 1)):
        photo = Photo(np.random.default_rng(0).uniform(size=(*shape, 3)).astype(np.float32))
        assert cut_out(photo, alpha_of(photo, left)[0], crop=True).alpha.ndim == 2


def test_wrong_settings(tmp_path):
    with pytest.raises(UserError, match=r"cutout.method.*did you mean 'grabcut'"):
        Settings(method='grabcutt')
    for ground in ('transparant', '#12', 'none', '#11223344'):
        with pytest.raises(UserError, match=r'cutout.ground: .* is neither transparent nor an opaque colour'):
            Settings(ground=ground)
    with pytest.raises(UserError, match=r'cutout.masks: there is no'):
        cut(tmp_path, tmp_path / 'o', masks=str(tmp_path / 'none'))
