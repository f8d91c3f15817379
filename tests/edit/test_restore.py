"""Restoration of photos and folders: tiles, transparency, depth, masks, estimates, settings."""

import logging

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_restorer import restorer

from productgen.config import UserError
from productgen.data.native import Photo, read_photo
from productgen.edit import restore
from productgen.edit.restore import Networks, Restorer
from productgen.metrics.estimate import estimate
from productgen.model.packed import pack
from productgen.tasks import TASKS, Request

rng = np.random.default_rng(0)
run = TASKS['restore'].run
Settings = TASKS['restore'].section


@pytest.fixture(scope='module')
def networks(tmp_path_factory):
    """A folder of packed networks with small random weights."""
    folder = tmp_path_factory.mktemp('networks')
    for task in ('denoise', 'jpeg', 'deblur', 'sr2', 'inpaint'):
        pack(restorer(task, noise=0.02), folder / f'{task}.safetensors')
    (folder / 'pleasing').mkdir()
    pack(restorer('sr2', noise=0.1), folder / 'pleasing' / 'sr2.safetensors')
    return folder


@pytest.fixture(autouse=True)
def own(networks, monkeypatch):
    monkeypatch.setattr(restore, 'FOLDER', networks)


@pytest.fixture(scope='module')
def enlarger():
    return Restorer(restorer('sr2'))


def photo(height, width):
    return Photo(rng.uniform(size=(height, width, 3)).astype(np.float32))


@pytest.mark.parametrize('size', [(1, 1), (1, 37), (45, 33), (130, 250)])
def test_every_size_works_and_tiles_have_no_seams(enlarger, size):
    before = photo(*size)
    after = enlarger(before)
    assert after.pixels.shape == (2 * size[0], 2 * size[1], 3)
    method, params = enlarger._trained.model.method, enlarger._trained.state.nets['restorer'].ema
    margin = 80
    mirrored = np.pad(before.pixels, [(margin, margin), (margin, margin), (0, 0)], 'symmetric')
    whole = np.asarray(method.net.apply({'params': params}, mirrored[None] * 2 - 1))[0]
    whole = np.clip((whole[2 * margin : -2 * margin, 2 * margin : -2 * margin] + 1) / 2, 0, 1)
    assert np.abs(after.pixels - whole).max() < 1 / 255 / 10


def test_strength_blends_with_the_photo():
    trained = restorer('denoise')
    before = photo(20, 24)
    full, none, half = (Restorer(trained, s)(before).pixels for s in (1.0, 0.0, 0.5))
    assert np.array_equal(none, before.pixels) and np.abs(full - none).max() > 0.01
    np.testing.assert_allclose(half, (full + none) / 2, atol=1e-6)


def test_fidelity_goes_from_one_network_to_the_other():
    before, pair = photo(20, 24), (restorer('sr2', 0.02), restorer('sr2', 0.1))
    made = [Networks('sr2', fidelity=share).restore(before).pixels for share in (1, 0, 0.3)]
    for share, found in zip((1, 0), made, strict=False):  # float16 in the files
        np.testing.assert_allclose(found, Restorer(pair[1 - share])(before).pixels, atol=2e-3)
    nets = [one.state.nets['restorer'].ema for one in (*pair, restore.between(*pair, 0.3))]
    for one, other, found in zip(*map(jax.tree.leaves, nets), strict=True):
        np.testing.assert_allclose(found, 0.3 * one + 0.7 * other, atol=1e-6)
    assert min(np.abs(made[2] - end).max() for end in made[:2]) > 0.01


def test_a_pleasing_network_that_does_not_fit_is_an_error(networks, tmp_path):
    with pytest.raises(UserError, match='no pleasing network for jpeg comes with the project, only for sr2'):
        Networks('jpeg', fidelity=0.5).digests()
    with pytest.raises(UserError, match='restore.pleasing: .* is another network than'):
        Networks('jpeg', fidelity=0.5, pleasing=networks / 'pleasing' / 'sr2.safetensors').digests()
    with pytest.raises(UserError, match='restore.pleasing: there is no file or workdir'):
        Networks('sr2', fidelity=0.5, pleasing=tmp_path / 'none').digests()
    with pytest.raises(UserError, match='is not used with restore.fidelity=1'):
        Settings(task='sr2', pleasing='run')


def test_colours_beyond_srgb_and_transparency_stay(enlarger):
    before = Photo(np.full((8, 9, 3), 1.2, np.float32), alpha=np.linspace(0, 1, 72, dtype=np.float32).reshape(8, 9))
    after = enlarger(before)
    plain = enlarger(Photo(np.ones((8, 9, 3), np.float32)))
    np.testing.assert_allclose(after.pixels, plain.pixels + 0.2, atol=1e-5)
    assert after.alpha.shape == (16, 18) and after.alpha.min() >= 0 and after.alpha.max() <= 1


def test_known_pixels_of_inpainting_stay_to_the_bit(networks, tmp_path):
    Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(tmp_path / 'a.png')
    mask = np.zeros((40, 30), np.uint8)
    mask[5:20, 8:12] = 255
    (tmp_path / 'masks').mkdir()
    Image.fromarray(mask).save(tmp_path / 'masks' / 'a.png')
    settings = Settings(task='inpaint', masks=str(tmp_path / 'masks'))
    run(Request(settings, input=tmp_path / 'a.png', output=tmp_path / 'out'))
    one, two = (np.asarray(Image.open(p)).astype(int) for p in (tmp_path / 'a.png', tmp_path / 'out' / 'a.png'))
    assert np.array_equal(one[mask == 0], two[mask == 0]) and (one != two)[mask > 0].mean() > 0.9


def test_a_folder_with_masks_that_do_not_fit(tmp_path, caplog):
    for folder, name, size in (('in', 'a', (9, 9)), ('in', 'b', (9, 9)), ('in', 'c', (9, 9)), ('masks', 'a', (9, 9))):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new('RGB', size).save(tmp_path / folder / f'{name}.png')
    Image.new('L', (5, 9)).save(tmp_path / 'masks' / 'c.png')
    settings = Settings(task='inpaint', masks=str(tmp_path / 'masks'))
    run(Request(settings, input=tmp_path / 'in', output=tmp_path / 'out'))
    text = (tmp_path / 'out' / 'skipped_files.txt').read_text()
    assert 'b.png' in text and 'no mask of this name' in text and 'its mask has 5x9 pixels, the photo 9x9' in text
    assert (tmp_path / 'out' / 'a.png').is_file()


def test_sixteen_bits_come_back(networks, tmp_path):
    import cv2

    values = rng.integers(0, 65536, (12, 10, 3), np.uint16)
    cv2.imwrite(str(tmp_path / 'a.png'), values)
    run(Request(Settings(task='denoise', strength=0.0), input=tmp_path / 'a.png', output=tmp_path / 'out'))
    found = cv2.imread(str(tmp_path / 'out' / 'a.png'), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16 and np.abs(found.astype(int) - values).max() <= 1


def smooth(height=160, width=160):
    """A picture with little texture."""
    rows, columns = np.mgrid[:height, :width] / height
    x = 0.5 + 0.3 * np.stack([np.sin(3 * rows), np.cos(2 * columns), np.sin(rows + columns)], -1)
    x[41:90, 51:118] = (0.8, 0.2, 0.3)
    x[101:139, 20:60:5] = 0.1
    return x.astype(np.float32)


def test_estimates():
    import io

    clean = smooth()
    assert estimate(clean).tasks == ()
    for sigma in (8, 25):
        found = estimate(clean + rng.normal(0, sigma / 255, clean.shape).astype(np.float32))
        assert found.tasks == ('denoise',) and abs(found.sigma / sigma - 1) < 0.25
    file = io.BytesIO()
    Image.fromarray(np.rint(clean * 255).astype(np.uint8)).save(file, 'JPEG', quality=10)
    assert 'jpeg' in estimate(np.asarray(Image.open(file), np.float32) / 255).tasks
    from scipy import ndimage

    assert estimate(ndimage.gaussian_filter(clean, (3, 3, 0))).tasks == ('deblur',)
    for size in ((1, 1), (1, 50), (15, 15)):
        assert estimate(np.zeros((*size, 3), np.float32)).tasks == ()


def test_auto_says_what_it_did(tmp_path, caplog):
    caplog.set_level(logging.INFO, 'productgen')
    (tmp_path / 'in').mkdir()
    for name, sigma in (('clean', 0), ('noisy', 20)):
        values = np.clip(smooth() * 255 + rng.normal(0, sigma, (160, 160, 3)), 0, 255)
        Image.fromarray(np.rint(values).astype(np.uint8)).save(tmp_path / 'in' / f'{name}.png')
    run(Request(Settings(), input=tmp_path / 'in', output=tmp_path / 'out'))
    assert 'nothing to restore' in caplog.text and 'denoise' in caplog.text
    read = lambda folder, name: read_photo(tmp_path / folder / f'{name}.png').pixels
    assert np.array_equal(read('in', 'clean'), read('out', 'clean'))
    assert not np.array_equal(read('in', 'noisy'), read('out', 'noisy'))


def test_wrong_settings(tmp_path):
    with pytest.raises(UserError, match=r"restore.task.*did you mean 'denoise'"):
        Networks('denoize')
    with pytest.raises(UserError, match='restore.strength'):
        Settings(strength=2.0)
    with pytest.raises(UserError, match=r'restore.masks.*what is missing'):
        Settings(task='inpaint')
    with pytest.raises(UserError, match=r'restore.masks.*there is no'):
        run(Request(Settings(task='inpaint', masks=str(tmp_path / 'none')), input=tmp_path, output=tmp_path / 'o'))
    with pytest.raises(UserError, match='--workdir'):
        Networks('auto', tmp_path)
