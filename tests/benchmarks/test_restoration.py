"""The benchmark of restoration, on pictures and filters whose results are known."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import restoration
from productgen.config import UserError
from productgen.evaluation.classical import CLASSICAL, Classical


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Three soft pictures and one that cannot be read."""
    top = tmp_path_factory.mktemp('photos')
    y, x = np.mgrid[:70, :51] / 9
    for i in range(3):
        image = np.stack([np.sin(x + i + c) * np.cos(y + c) for c in range(3)], -1)
        Image.fromarray(np.rint(127 + 100 * image).astype(np.uint8)).save(top / f'{i}.png')
    (top / 'bad.png').write_bytes(b'nothing')
    return top


def test_photos_come_in_one_random_order(folder):
    found = dict(restoration.photos(folder, 0))
    assert len(found) == 3 and all(image.shape == (70, 51, 3) for image in found.values())
    assert list(dict(restoration.photos(folder, 2))) == list(found)[:2]
    with pytest.raises(UserError, match='no photos'):
        next(restoration.photos(folder / 'none', 0))


@pytest.mark.parametrize('setting', restoration.SETTINGS)
def test_degradations_depend_on_their_seed_only(folder, setting):
    task, degrade = restoration.SETTINGS[setting]
    image = restoration.whole(dict(restoration.photos(folder, 1)).popitem()[1], restoration.SCALES[task])
    (one, mask), (other, _), (another, _) = (degrade(image, np.random.default_rng(i)) for i in (3, 3, 4))
    assert one.dtype == np.uint8 and np.array_equal(one, other)
    assert np.multiply(one.shape[:2], restoration.SCALES[task]).tolist() == list(image.shape[:2])
    assert np.array_equal(one, another) == (task in ('sr2', 'sr4', 'jpeg') or setting == 'blur 1.5')
    if task == 'inpaint':
        assert 0.2 <= mask.mean() < 0.35 and np.array_equal(one[~mask], image[~mask])
    else:
        assert mask is None
    if setting.startswith('noise') and 'JPEG' not in setting:
        assert np.std(one.astype(float) - image) == pytest.approx(float(setting.split()[1]), rel=0.1)


def test_tuning_finds_the_best_setting():
    image = np.full((8, 8, 3), 100, np.uint8)
    lighter = Classical(lambda x, by: x + np.uint8(by), {'by': 1}, {'by': (1, 5, 9)})
    found = restoration.tuned({'lighter': lighter}, [(image, None, image + np.uint8(6))])
    assert found['lighter'].settings == {'by': 5}


def test_pixels_outside_of_a_mask_do_not_count():
    image, mask = np.zeros((4, 4, 3), np.uint8), np.eye(4, dtype=bool)
    target = np.where(mask[..., None], 51, 255).astype(np.uint8)
    assert restoration.decibels(image, target, mask) == pytest.approx(20 * np.log10(5))
    assert restoration.decibels(image, image) == 100


def test_measure_and_speed_with_a_network(folder, tmp_path, monkeypatch, capsys):
    """The network is nearest-neighbour enlarging, so its PSNR is known."""

    class Nearest:
        def translate(self, images):
            return images.repeat(2, 1).repeat(2, 2)

        def pixels(self, pixels, mask=None):
            return pixels.repeat(2, 0).repeat(2, 1)

    monkeypatch.setattr(restoration, 'networks', lambda text: {'sr2': Nearest()})
    monkeypatch.setattr(restoration, 'Restorer', lambda network: network)
    monkeypatch.setattr(restoration, 'peer', lambda: None)
    monkeypatch.setattr(restoration, 'SIDES', (8,))
    out = tmp_path / 'out.json'
    restoration.main(['measure', f'--photos={folder}', f'--tuned-on={folder}', f'--out={out}'])
    rows = json.loads(out.read_text())
    assert [row['by'] for row in rows][:2] == ['network', 'input'] and all(row['count'] == 3 for row in rows)
    assert '| x2 bicubic | network | 3 |' in capsys.readouterr().out
    wanted = []
    for _, photo in restoration.photos(folder, 0):
        image = photo[:70, :50]
        small = np.asarray(Image.fromarray(image).resize((25, 35), Image.Resampling.BICUBIC))
        wanted.append(restoration.decibels(small.repeat(2, 0).repeat(2, 1), image))
    assert rows[0]['psnr_mean'] == pytest.approx(np.mean(wanted), abs=1e-6)
    assert rows[0]['psnr_median'] == pytest.approx(np.median(wanted), abs=1e-6)
    restoration.main(['speed', f'--photos={folder}', '--repeats=2'])
    text = capsys.readouterr().out
    assert 'productgen, 8x8 to 16x16' in text and 'network alone, 8x8' in text and 'PSNR of 3 photos' in text


def test_the_table_has_the_holes_alone(folder):
    one = {'telea': CLASSICAL['inpaint']['telea']}
    scores = restoration.setting_scores('holes 20 %', folder, 2, None, one)
    assert scores['telea'].figures()['psnr_mean'] > scores['input'].figures()['psnr_mean'] + 5
