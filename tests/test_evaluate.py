"""Evaluation of a run and of a folder: known sets come to known figures, and unlike protocols are not compared."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
from peers.features import pick, stored, tensors
from peers.features import pictures as peer_pictures
from PIL import Image
from toy import make, toy_config

from configs import classifier, from_workdir
from productgen.config import ConfigError, to_dict
from productgen.data.pipeline import Batches
from productgen.evaluate import Measured, by_class, evaluate
from productgen.evaluation_report import write_report
from productgen.features import open_features
from productgen.labels import LabelTable
from productgen.methods import METHODS
from productgen.sample import sample
from productgen.setup import prepare
from productgen.train import train


@pytest.fixture(scope='module', autouse=True)
def toy():
    METHODS['toy'] = make
    yield
    del METHODS['toy']


def classifier_config(**fields):
    config = to_dict(classifier.get_config('quick'))
    config['data'] |= {'resolution': '16', 'catalog_items': 400, 'labels': 'label', 'validation': 0.2}
    config['model'] |= {'width': 8, 'blocks': '1,1'}
    config['train'] |= {'batch_size': 16, 'duration': '40steps', 'validate_every': '40steps', 'validate_items': 40}
    config['method']['augment'] |= {'name': 'none', 'transforms': ''}
    config['optim']['classifier']['learning_rate'] = 5e-3
    config['train'] |= fields
    return config


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    """Workdir of a classifier."""
    workdir = tmp_path_factory.mktemp('features') / 'run'
    train(classifier_config(), workdir)
    return workdir


@pytest.fixture(scope='module')
def generator(tmp_path_factory):
    """Workdir of a generator of the same pictures."""
    workdir = tmp_path_factory.mktemp('generator') / 'run'
    train(config_of(), workdir)
    return workdir


def config_of(**fields):
    config = toy_config(data__catalog_items=400, data__validation=0.2)
    config['eval'] |= {'count': 60, **fields}
    return config


def report(path):
    return json.loads(path.with_suffix('.json').read_text())


@pytest.fixture(scope='module')
def measured(features, generator):
    """Report of the generator."""
    return evaluate(config_of(features=str(features)), generator)


def folder_of(path, images):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f'{i:03d}.png')
    return str(path)


def pictures(items):
    """Pictures of the catalog that the runs are trained on."""
    run = prepare(config_of())
    chosen = getattr(run, items)[np.arange(60) * len(getattr(run, items)) // 60]
    return Batches(run.source, run.items, run.labels, 8, 0).load(chosen)['image']


def test_a_classifier_shows_what_its_features_find_and_is_validated(features):
    names = {path.name for path in (features / 'samples').iterdir()}
    assert any(name.startswith('nearest_') for name in names) and not any('fakes' in name for name in names)
    points = [json.loads(line) for line in (features / 'metrics.jsonl').read_text().splitlines()]
    assert {'validation/error', 'validation/loss', 'validation/nearest_error'} <= set(points[-1])
    assert 'validation/swd' not in points[-1]


def test_a_classifier_makes_no_pictures(features):
    with pytest.raises(ConfigError, match='makes no pictures'):
        sample(classifier_config(), features)


def test_a_run_is_measured_beside_real_pictures(measured):
    result = report(measured)
    ours, real = result['figures']['measured'], result['figures']['real']
    # The toy paints a mean colour with noise: far from the data in every way.
    assert ours['frechet_distance'] > 2 * real['frechet_distance'] and ours['kernel_distance'] > real['kernel_distance']
    assert ours['sliced_wasserstein'] > real['sliced_wasserstein'] and ours['coverage'] < real['coverage']
    assert result['protocol']['counts'] == {'measured': 60, 'reference': 60}
    assert result['measured']['checkpoint'] == 'step000006'
    counts, run = np.asarray(result['confusion']['counts']), prepare(config_of())
    asked = run.table.draw(np.arange(60))[:, 0]
    assert np.array_equal(counts.sum(1), np.bincount(asked, minlength=14))
    assert np.trace(counts) / 60 == pytest.approx(ours['accuracy/label'])
    assert result['memorisation']['searched'] == len(run.items)


def test_the_page_needs_nothing_from_elsewhere(measured):
    page = measured.read_text()
    assert not re.search(r'(src|href)="(?!data:)', page) and page.count('<img src="data:image/png') >= 4
    assert 'losses' in page or 'Training' in page
    assert '&quot;digest&quot;' in page


def test_the_training_pictures_themselves_are_told_to_be_copies(features, generator, tmp_path):
    folder = folder_of(tmp_path / 'copies', pictures('items'))
    fields = {'features': str(features), 'images': folder, 'out': str(tmp_path / 'out'), 'count': 400}
    result = report(evaluate(config_of(**fields), generator))
    assert result['figures']['measured']['precision'] == 1 > result['figures']['real']['precision']
    assert result['memorisation']['share'] == 1 and result['memorisation']['p'] < 1e-6
    assert result['measured']['pictures'] == 60


def test_held_out_pictures_come_to_the_floor_and_are_no_copies(features, generator, tmp_path):
    run = prepare(config_of())
    count = len(run.held_out)
    batches = Batches(run.source, run.items, run.labels, 8, 0)
    folder = folder_of(tmp_path / 'fresh', batches.load(run.held_out)['image'])
    fields = {'features': str(features), 'images': folder, 'out': str(tmp_path / 'out'), 'count': 400}
    result = report(evaluate(config_of(**fields), generator))
    # Both columns are of all held-out pictures, in another order.
    assert result['protocol']['counts'] == {'measured': count, 'reference': len(run.items)}
    for name in ('frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage'):
        assert result['figures']['measured'][name] == pytest.approx(result['figures']['real'][name], rel=1e-6), name
    assert result['memorisation']['p'] > 0.3


def test_a_folder_of_fewer_pictures_is_measured_in_its_own_number(features, generator, tmp_path):
    by_name = tmp_path / 'classes'
    by_name.mkdir()
    for i, label in enumerate(('mug', 'shoe')):
        folder_of(by_name / label, pictures('held_out')[15 * i : 15 * i + 15])
    fields = {'features': str(features), 'images': str(by_name), 'out': str(tmp_path / 'out'), 'reference': 'held_out'}
    result = report(evaluate(config_of(**fields), generator))
    assert result['protocol']['counts'] == {'measured': 30, 'reference': 60}
    # Sub-folders say what the pictures are meant to be.
    asked, values = np.asarray(result['confusion']['counts']).sum(1), result['confusion']['values']
    assert asked[values.index('mug')] == asked[values.index('shoe')] == 15 and asked.sum() == 30


def test_too_few_pictures_are_refused_before_anything_is_measured(features, generator, tmp_path):
    folder = folder_of(tmp_path / 'few', pictures('held_out')[:10])
    with pytest.raises(ConfigError, match='10 pictures of .* are too few; 21 are needed'):
        evaluate(config_of(features=str(features), images=folder), generator)


def test_a_run_whose_pictures_changed_is_not_measured(features, generator, tmp_path):
    other = shutil.copytree(generator, tmp_path / 'run')
    about = json.loads((other / 'data.json').read_text())
    (other / 'data.json').write_text(json.dumps(about | {'digest': 'another'}))
    with pytest.raises(ConfigError, match='are not what they were'):
        evaluate(config_of(features=str(features)), other)


def test_classes_are_told_apart_where_there_are_enough_of_each():
    draw = np.random.default_rng(0)
    label = np.repeat([0, 1, 2], [30, 30, 5])[:, None].astype(np.int32)
    shift = np.array([0, 3, 0])[label]
    set_of = lambda features: Measured(features, label, {}, np.zeros((0, 4, 4, 3), np.uint8))
    table = LabelTable({'kind': ('a', 'b', 'c')}, np.zeros((1, 1), np.int32), np.asarray([1]))
    found = by_class(set_of(draw.normal(size=(65, 4))), set_of(draw.normal(size=(65, 4)) + shift), table)
    assert found.keys() == {'a', 'b'} and found['a']['pictures'] == 30
    assert abs(found['a']['kernel_distance']) < 4 * found['a']['kernel_distance_error']
    assert found['b']['kernel_distance'] > 4 * found['b']['kernel_distance_error']


def test_a_run_from_before_there_was_evaluation_can_be_measured(generator, tmp_path):
    config = json.loads((generator / 'config.json').read_text())
    del config['eval']
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert from_workdir.get_config(str(tmp_path)).eval.reference == 'train'


def test_names_and_broken_lines_do_not_break_the_page(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"kimg": 1, "loss/a": 2.0}\n{"kimg": 2, "loss/a": 1.0}\n{"kimg": 3, "lo')
    result = {
        'measured': {'run': '<script>'},
        'protocol': {},
        'figures': {'measured': {'x': 1.0}, 'real': {'x': 2.0, 'accuracy/y': 0.5}},
        'classes': {'<b>': {'pictures': 3, 'kernel_distance': 0.0, 'kernel_distance_error': 1.0}},
        'confusion': {'attribute': 'a<b', 'values': ['$5_$ mug', '<i>'], 'counts': [[1, 0], [2, 3]]},
        'memorisation': {'share': 0.1, 'expected_share': 0.05, 'c_t': 0.0, 'p': 0.5, 'searched': 10, 'held_out': 5},
    }
    sheets = dict.fromkeys(('measured', 'real', 'pairs'), np.zeros((8, 8, 8, 3), np.uint8))
    for _ in range(3):
        path = write_report(tmp_path / 'out', result, sheets, None, tmp_path / 'metrics.jsonl')
    page = path.read_text(encoding='utf-8')
    assert '<script>' not in page and '<b>' not in page and 'a<b' not in page and 'accuracy/y' in page
    assert {p.name for p in path.parent.iterdir()} == {
        f'report{n}.{ending}' for n in ('', '.0', '.1') for ending in ('json', 'html')
    }


def test_an_earlier_report_is_kept_and_may_stand_beside_a_new_one(features, generator, tmp_path):
    out = {'features': str(features), 'out': str(tmp_path / 'out')}
    first = evaluate(config_of(**out), generator)
    before = report(first)
    second = evaluate(config_of(**out, against=str(tmp_path / 'out' / 'report.json')), generator)
    assert report(second) == before  # the same run, seeds and features
    assert json.loads((tmp_path / 'out' / 'report.0.json').read_text()) == before
    assert 'earlier: step000006' in second.read_text()


def test_unlike_protocols_are_not_compared(features, generator, measured):
    fields = {'features': str(features), 'against': str(measured.with_suffix('.json')), 'count': 50}
    with pytest.raises(ConfigError, match=r'cannot be compared:\n  counts\.measured: 60 -> 50'):
        evaluate(config_of(**fields), generator)


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'features': ''}, r'eval\.features: which features\?'),
        ({'features': '/nowhere'}, 'nowhere'),
        ({'features': ':3'}, r'eval\.features=:3: which run'),
        ({'features': '{generator}'}, "'toy', has no features"),
        ({'count': 5}, r'eval\.count: must be at least'),
        ({'reference': 'test'}, r'eval\.reference'),
        ({'truncation': 3.0}, r'eval\.truncation'),
        ({'against': '/nowhere.json'}, r'eval\.against=/nowhere\.json: not a report'),
    ],
)
def test_what_cannot_be_used_is_refused(features, generator, fields, message):
    fields = {'features': str(features)} | fields
    fields['features'] = fields['features'].format(generator=generator)
    with pytest.raises(ConfigError, match=message):
        evaluate(config_of(**fields), generator)


def test_without_a_run_or_pictures_there_is_nothing_to_measure(features, tmp_path):
    with pytest.raises(ConfigError, match='no run in it to measure'):
        evaluate(config_of(features=str(features)), tmp_path)


def test_pictures_of_another_size_are_resized_and_the_protocol_says_so(features):
    net = open_features(str(features), 8)
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), np.uint8)
    found, told = net(image)
    small = np.stack([np.asarray(Image.fromarray(x).resize((16, 16), Image.Resampling.BICUBIC)) for x in image])
    again, _ = net(small)
    assert np.array_equal(found, again) and found.shape == (3, 16) and told['label'].shape == (3,)
    assert net.resize_of((32, 24)) == '24x32 to 16x16, bicubic (Pillow)' and net.resize_of((16, 16)) == 'none'


@pytest.mark.slow
def test_inception_from_a_file_gives_the_features_of_fid(tmp_path):
    values, header, data = tensors('inception'), {}, b''
    for name, x in values.items():
        x = np.ascontiguousarray(x, np.float32)
        header[name] = {'dtype': 'F32', 'shape': list(x.shape), 'data_offsets': [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / 'own.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + data)
    net = open_features(f'inception:{tmp_path / "own.safetensors"}', 3)
    found, told = net(peer_pictures(0)[:4])
    assert found.shape == (4, 2048) and not told and net.resize_of((32, 32)) == 'by the network'
    expected = stored('torch-fidelity')['2048']  # of the first picture
    np.testing.assert_allclose(pick(found[0]), expected, 1e-4, 1e-5 * abs(expected).max())


def test_inception_without_its_weights_names_the_file_and_where_it_is(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr('urllib.request.urlopen', offline)
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path))
    with pytest.raises(ConfigError, match=r'pt_inception-2015-12-05-6726825d\.pth .*https://'):
        open_features('inception', 4)
