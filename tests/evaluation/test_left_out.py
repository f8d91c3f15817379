"""What is measured where photos have moved, some cannot be read, none are held out, or there is no feature network."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny import classifier_config, evaluate, open_run, train
from toy import toy_config

from productgen.config import UserError
from productgen.evaluation import report as report_page

pytestmark = pytest.mark.usefixtures('toy')
DISTANCES = {'frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage'}


@pytest.fixture(scope='module', autouse=True)
def shared(once):
    """Reports have no plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, '_plot', lambda figure: '')
        yield


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A folder of two classes, of 60 pictures each."""
    folder, draw = tmp_path_factory.mktemp('photos') / 'shop', np.random.default_rng(0)
    for name in ('mug', 'shoe'):
        (folder / name).mkdir(parents=True)
        for i in range(60):
            image = np.full((16, 16, 3), 245, np.uint8)
            image[4:12, 4:12] = draw.integers(0, 256, 3)
            Image.fromarray(image).save(folder / name / f'{i:02d}.png')
    return folder


def config_of(photos, validation=0.3, **fields):
    config = toy_config(data__source=f'folder:{photos}', data__validation=validation)
    config['eval'] |= {'count': 40, 'features': '', **fields}
    return config


@pytest.fixture(scope='module')
def runs(photos, tmp_path_factory):
    """Workdirs of a generator of all photos, of one of a part of them, and of a classifier."""
    folder = tmp_path_factory.mktemp('runs')
    train(config_of(photos, 0.0), folder / 'all')
    train(config_of(photos), folder / 'part')
    config = classifier_config()
    config['data'] |= {'source': f'folder:{photos}', 'labels': 'auto'}
    config['train'] |= {'duration': '20steps', 'validate_every': '20steps'}
    train(config, folder / 'features')
    return folder


@pytest.fixture
def moved(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / 'moved')


def measured(config, workdir, out):
    """The report, its page, and the figures of each column."""
    config['eval']['out'] = str(out)
    path = evaluate(config, workdir)
    report = json.loads(path.with_suffix('.json').read_text())
    return report, path.read_text(), report['figures']


def test_photos_that_have_moved_are_the_same(runs, photos, moved, tmp_path):
    features = str(runs / 'features')
    _, _, before = measured(config_of(photos, features=features), runs / 'part', tmp_path / 'a')
    config = config_of(moved, features=features)
    config['data'] |= {'cache_gb': 0.0, 'workers': 1}
    report, _, after = measured(config, runs / 'part', tmp_path / 'b')
    assert before == after and report['measured']['data'] == f'folder:{moved}'


def test_other_photos_in_another_folder_are_refused(runs, photos, moved):
    next((moved / 'mug').iterdir()).unlink()
    wanted = rf'data\.source: the pictures of folder:{moved} are not those of folder:{photos} that .* was trained on'
    wanted += r'\n  120 pictures to train on -> 119; give the folder .*--accept_config_change'
    with pytest.raises(UserError, match=wanted):
        evaluate(config_of(moved, 0.0, floor=False), runs / 'all')
    assert evaluate(config_of(moved, 0.0, floor=False), runs / 'all', accept_change=True).exists()
    (moved / 'mug').rename(moved / 'cup')
    with pytest.raises(UserError, match=r'labels: label: .*\n.*; give the folder that holds the earlier ones$'):
        evaluate(config_of(moved, 0.0, floor=False), runs / 'all', accept_change=True)


def test_another_kind_of_source_is_another_config(runs):
    config = config_of('x', 0.0, floor=False)
    config['data']['source'] = 'catalog'
    with pytest.raises(UserError, match=r"data\.source: 'folder:.*' -> 'catalog'\n"):
        evaluate(config, runs / 'all')


def test_without_held_out_pictures_what_needs_them_is_left_out(runs, photos, tmp_path):
    config = config_of(photos, 0.0, floor=False, features=str(runs / 'features'))
    report, page, figures = measured(config, runs / 'all', tmp_path)
    assert figures['measured'].keys() > DISTANCES and list(figures) == ['measured']
    assert report['copies'] is None and report['pairs'] == {} and 'held_out' not in report['near_duplicates']
    (reason,) = report['left_out']
    assert reason.startswith('data.validation=0.0 held out 0 pictures') and reason in page
    assert 'held-out pictures (' not in page


@pytest.mark.parametrize(
    'fields, message',
    [
        ({}, r'eval\.floor: data\.validation=0\.0 held out 0 pictures.*--config\.eval\.floor=False'),
        ({'floor': False, 'reference': 'held_out'}, r'eval\.reference: .* held out 0 pictures.*eval\.reference=train'),
        ({'floor': False, 'recognition': '1kimg', 'features': '{features}'}, r'eval\.recognition: .* held out 0'),
        ({'floor': False, 'lpips': 'alex'}, r'eval\.lpips: none of the figures needs it'),
        ({'floor': False, 'truncations': '0.5'}, r'eval\.truncations: it needs eval\.features, which is empty'),
        ({'floor': False, 'recognition': '1kimg'}, r'eval\.recognition: it needs eval\.features, which is empty'),
        ({'floor': False, 'path_pairs': 9}, r'eval\.path_pairs: it needs eval\.features or eval\.lpips, which is'),
    ],
)
def test_what_needs_them_is_refused_by_name(runs, photos, fields, message):
    fields = {k: v.format(features=runs / 'features') if isinstance(v, str) else v for k, v in fields.items()}
    with pytest.raises(UserError, match=message):
        evaluate(config_of(photos, 0.0, **fields), runs / 'all')


def test_without_features_pixels_are_measured(runs, photos, tmp_path, caplog):
    report, page, figures = measured(config_of(photos), runs / 'part', tmp_path / 'without')
    with_features = measured(config_of(photos, features=str(runs / 'features')), runs / 'part', tmp_path / 'with')[2]
    for column in ('measured', 'real'):
        assert {'sliced_wasserstein', 'product/off_white', 'ms_ssim_of_pairs'} < figures[column].keys()
        assert not DISTANCES & figures[column].keys()
        assert figures[column].items() < with_features[column].items()
    assert figures['measured']['sliced_wasserstein'] > figures['real']['sliced_wasserstein']
    assert 'features' not in report['copies'] and report['copies']['pixels']['p'] > 0 and not report['features']
    reason, labels = report['left_out']
    assert 'Fréchet' in reason and 'default, auto' in reason
    command = f'--config=configs/classifier.py --workdir=runs/features --config.data.source=folder:{photos}'
    assert command in labels and reason in caplog.text and '<h2>Left out</h2>' in page


def test_a_report_with_features_is_not_compared_with_one_without(runs, photos, tmp_path):
    measured(config_of(photos, features=str(runs / 'features')), runs / 'part', tmp_path)
    with pytest.raises(UserError, match=r'eval\.against=.* cannot be compared:\n  features: \{.*\} -> None'):
        evaluate(config_of(photos, against=str(tmp_path / 'report.json')), runs / 'part')


def test_files_that_cannot_be_read_are_counted(runs, photos, tmp_path, caplog):
    run = open_run(config_of(photos))
    for name in ('images', 'originals'):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.fromarray(run.source[i]['image']).save(tmp_path / name / f'{i}.png')
    for i in range(7):
        (tmp_path / 'images' / f'bad{i}.png').write_bytes(b'no picture')
    (tmp_path / 'originals' / 'cut.png').write_bytes((tmp_path / 'originals' / '0.png').read_bytes()[:40])
    folders = {name: str(tmp_path / name) for name in ('images', 'originals')}
    report, page, _ = measured(config_of(photos, **folders), runs / 'part', tmp_path / 'out')
    about = report['measured']
    assert about['unreadable'] == 7 and about['unreadable files'].startswith('bad0.png: ')
    assert about['unreadable files'].endswith('; and 2 more') and 'bad5' not in about['unreadable files']
    assert about['originals: unreadable'] == 1 and 'cut.png' in about['originals: unreadable files']
    assert about['pictures'] == 30 and 'bad4.png' in page
    assert re.search(r'7 files of .*images cannot be read and are left out: bad0\.png: ', caplog.text)
    (tmp_path / 'originals' / '3.png').write_bytes(b'no picture')
    with pytest.raises(UserError, match=r'no original of the same name, such as 3\.png \(cannot be read: 3\.png: '):
        evaluate(config_of(photos, **folders), runs / 'part')
