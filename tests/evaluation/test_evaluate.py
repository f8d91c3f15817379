"""Evaluation of a run and of a folder: figures of known sets, and no comparison of different protocols."""

import json
import re
import shutil
import struct

import numpy as np
import pytest
from peers.features import pick, stored, tensors
from peers.features import pictures as peer_pictures
from PIL import Image
from tiny import classifier_config, evaluate, full, open_run, sample, train
from toy import toy_config

from configs import from_workdir
from productgen.config import UserError
from productgen.config.sections import EvalConfig
from productgen.data import spread
from productgen.data.pipeline import Batches
from productgen.evaluation import report as report_page
from productgen.metrics.distribution import Reference
from productgen.model.features import open_features
from productgen.model.rows import ImageMaker
from productgen.model.trained import restore
from productgen.model.workdir import read_config
from productgen.train.validate import Validator

pytestmark = pytest.mark.usefixtures('toy')
PLOT = report_page._plot


@pytest.fixture(scope='module', autouse=True)
def shared(once):
    """Only the report of `measured` has plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, '_plot', lambda figure: '')
        yield


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    """Workdir of a classifier."""
    workdir = tmp_path_factory.mktemp('features') / 'run'
    train(classifier_config(), workdir)
    return workdir


@pytest.fixture(scope='module')
def generator(features, tmp_path_factory):
    """Workdir of a generator of the same pictures, measured by the features while it trained."""
    workdir = tmp_path_factory.mktemp('generator') / 'run'
    train(config_of(features=str(features)), workdir)
    return workdir


def config_of(**fields):
    validation = {'train__validate_every': '3steps', 'train__validate_items': 40}
    labels = {'data__catalog_items': 400, 'data__validation': 0.2, 'data__labels': 'label,colour'}
    config = toy_config(**labels, train__stop_on='kernel_distance', **validation)
    config['eval'] |= {'count': 60, **fields}
    return config


def report(path):
    return json.loads(path.with_suffix('.json').read_text())


@pytest.fixture(scope='module')
def measured(features, generator):
    """Report of the generator, with plots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, '_plot', PLOT)
        return evaluate(config_of(features=str(features)), generator)


def folder_of(path, images):
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f'{i:03d}.png')
    return str(path)


def pictures(items):
    """Pictures of the catalog that the runs are trained on."""
    run = open_run(config_of())
    chosen = getattr(run, items)[np.arange(60) * len(getattr(run, items)) // 60]
    return Batches(run.source, run.items, run.labels, 8, 0).load(chosen)['image']


def test_a_classifier_shows_what_its_features_find_and_is_validated(features):
    names = {path.name for path in (features / 'samples').iterdir()}
    assert any(name.startswith('nearest_') for name in names) and not any('fakes' in name for name in names)
    points = [json.loads(line) for line in (features / 'metrics.jsonl').read_text().splitlines()]
    assert {'validation/error', 'validation/loss', 'validation/nearest_error'} <= set(points[-1])
    assert 'validation/swd' not in points[-1]


def test_a_classifier_makes_no_pictures(features):
    with pytest.raises(UserError, match="its method, 'classifier', generates no pictures"):
        sample(classifier_config(), features)


def test_a_run_is_compared_with_real_pictures(measured):
    result = report(measured)
    ours, real = result['figures']['measured'], result['figures']['real']
    # The toy paints a mean colour with noise: far from the data in every way.
    assert ours['frechet_distance'] > 1.2 * real['frechet_distance'] and ours['kernel_distance'] > 0.02
    assert ours['sliced_wasserstein'] > real['sliced_wasserstein'] and ours['coverage'] < real['coverage']
    assert result['protocol']['counts'] == {'measured': 60, 'reference': 60, 'by pixels': 60}
    assert result['measured']['checkpoint'] == 'step000006'
    counts, run = np.asarray(result['confusion']['counts']), open_run(config_of())
    requested = run.facts.labels.draw(np.arange(60))[:, 0]
    assert np.array_equal(counts.sum(1), np.bincount(requested, minlength=14))
    assert np.trace(counts) / 60 == pytest.approx(ours['accuracy/label'])
    assert result['copies']['searched'] == len(run.items)
    assert 1 <= ours['inception_score'] <= 14 and real['inception_score_deviation'] > 0
    # The toy's reconstruction is the mean of a picture and its own.
    assert result['pairs']['what'].startswith('reconstructions') and 0 < result['pairs']['delta_e'] < 50
    assert {'psnr', 'ssim', 'ms_ssim', 'gmsd'} < result['pairs'].keys()


def test_training_measures_itself_by_the_same_features(features, generator):
    points = [json.loads(line) for line in (generator / 'metrics.jsonl').read_text().splitlines()]
    found = [p for p in points if 'validation/frechet_distance' in p]
    assert [p['step'] for p in found] == [3, 6]
    names = ('frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage')
    assert {f'validation/{name}' for name in names} < found[0].keys()
    best = min(found, key=lambda p: p['validation/kernel_distance'])['step']
    assert [path.name for path in (generator / 'best').iterdir() if path.name.isdigit()] == [str(best)]
    # The same samples against the same training pictures, by hand.
    run, net = open_run(config_of()), open_features(str(features), 8)
    batches, state = run.batches(), restore(run, generator, 6)[1]
    label = batches.label(spread(run.held_out, 40))
    made, _ = net(ImageMaker(run, 8, run.method.generate, run.method.knobs)(state, seed=np.arange(40), label=label))
    real, _ = net(batches.load(spread(run.items, 40))['image'])
    expected = Reference(real).figures(made)
    for name in names:
        assert found[1][f'validation/{name}'] == pytest.approx(expected[name], rel=1e-5), name


def test_figures_of_features_need_features():
    with pytest.raises(UserError, match=r"stop_on: no figure is called 'kernel_distance'; it needs eval\.features"):
        run = open_run(config_of())
        Validator(run, run.batches())


def test_features_are_measured_by_their_own_predictions(features):
    result = report(evaluate(classifier_config(), features))
    ours, trained = result['figures']['measured'], result['figures']['training']
    run, net = open_run(classifier_config()), open_features(str(features), 16)
    pictures = run.batches().load(run.held_out)
    rows, predicted = net(pictures['image'])
    codes = {name: np.argmax(x, 1) for name, x in predicted.items()}
    right, colour = (codes[name] == pictures['label'][:, i] for i, name in enumerate(('label', 'colour')))
    assert ours['accuracy/label'] == pytest.approx(right.mean())
    assert ours['accuracy/colour'] == pytest.approx(colour.mean()) and colour.mean() > 0.25
    counts = np.asarray(result['confusion']['counts'])
    assert counts.sum() == len(right) and np.trace(counts) == right.sum()
    known = run.batches().load(run.items)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    found = np.argmax(unit(rows) @ unit(net(known['image'])[0]).T, 1)
    same = known['label'][found, 0] == pictures['label'][:, 0]
    assert ours['nearest/label'] == pytest.approx(np.mean(same), abs=0.03)
    assert trained['nearest/label'] < 1  # the nearest other picture


def test_training_on_generated_pictures_gives_a_lower_accuracy_than_on_real_ones(features, generator):
    fields = {'features': str(features), 'recognition': '150steps', 'count': 320, 'truncations': '1,0.5'}
    result = report(evaluate(config_of(**fields, out=str(generator.parent / 'recognition')), generator))
    ours, real = (result['figures'][name] for name in ('measured', 'real'))
    assert ours['recognition/colour'] < real['recognition/colour'] and real['recognition/colour'] > 0.25
    assert [row['truncation'] for row in result['truncation']] == [0.5, 1]
    for name in ('frechet_distance', 'kernel_distance', 'precision', 'recall'):
        assert result['truncation'][1][name] == pytest.approx(ours[name], rel=1e-5)


def test_a_classifier_is_not_compared_with_a_generator(features, measured):
    config = classifier_config()
    config['eval']['against'] = str(measured.with_suffix('.json'))
    with pytest.raises(UserError, match=r'eval\.against=.* cannot be compared'):
        evaluate(config, features)


def test_predictions_are_in_the_order_of_the_labels(features):
    net = open_features(str(features), 8)
    _, predicted = net(np.zeros((2, 16, 16, 3), np.uint8))
    assert list(predicted) == list(net.attributes) == ['label', 'colour'] and predicted['label'].shape == (2, 14)


def test_a_classifier_needs_pictures_of_two_values(features, generator, tmp_path):
    folder_of(tmp_path / 'one', pictures('held_out')[:30])
    fields = {'features': str(features), 'images': str(tmp_path / 'one'), 'recognition': '10steps'}
    with pytest.raises(UserError, match=r'eval\.recognition: the pictures do not have two values of any label'):
        evaluate(config_of(**fields), generator)


def test_pictures_are_compared_with_their_originals_by_name(features, generator, tmp_path):
    image = pictures('held_out')
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    originals, restored = folder_of(tmp_path / 'originals', image), folder_of(tmp_path / 'restored', noisy)
    fields = {'features': str(features), 'images': restored, 'originals': originals, 'out': str(tmp_path / 'out')}
    pairs = report(evaluate(config_of(**fields), generator))['pairs']
    squares = ((noisy / 255.0 - image / 255.0) ** 2).mean((1, 2, 3))
    assert pairs['psnr'] == pytest.approx(np.mean(-10 * np.log10(squares)), rel=1e-5)
    (tmp_path / 'originals' / '007.png').unlink()
    with pytest.raises(
        UserError, match=r'1 pictures of eval\.images have no original of the same name, such as 007\.png'
    ):
        evaluate(config_of(**fields), generator)


def test_the_page_needs_nothing_from_elsewhere(measured):
    page = measured.read_text()
    assert not re.search(r'(src|href)="(?!data:)', page) and page.count('<img src="data:image/png') >= 6
    assert 'losses' in page or 'Training' in page
    assert 'Nearest training pictures' in page
    with Image.open(measured.parent / 'nearest.png') as sheet:
        assert sheet.width > 2 * 8 * 16 and sheet.height > 12 * 16  # 12 rows of 8 pictures of 16 x 16
    assert '&quot;digest&quot;' in page


def test_the_training_pictures_themselves_are_found_to_be_copies(features, generator, tmp_path):
    folder = folder_of(tmp_path / 'copies', pictures('items'))
    fields = {'features': str(features), 'images': folder, 'out': str(tmp_path / 'out'), 'count': 400}
    result = report(evaluate(config_of(**fields), generator))
    assert result['figures']['measured']['precision'] == 1 > result['figures']['real']['precision']
    for found in (result['copies']['features'], result['copies']['pixels']):
        assert found['share'] == 1 and found['p'] < 1e-6
    assert result['measured']['pictures'] == 60


def test_held_out_pictures_have_the_figures_of_real_ones_and_are_no_copies(features, generator, tmp_path):
    run = open_run(config_of())
    count = len(run.held_out)
    batches = Batches(run.source, run.items, run.labels, 8, 0)
    folder = folder_of(tmp_path / 'fresh', batches.load(run.held_out)['image'])
    fields = {'features': str(features), 'images': folder, 'out': str(tmp_path / 'out'), 'count': 400}
    result = report(evaluate(config_of(**fields), generator))
    # Both columns are of all held-out pictures, in another order.
    assert result['protocol']['counts'] == {'measured': count, 'reference': len(run.items), 'by pixels': count}
    for name in ('frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage'):
        assert result['figures']['measured'][name] == pytest.approx(result['figures']['real'][name], rel=1e-6), name
    assert result['copies']['features']['p'] > 0.3 and result['copies']['pixels']['p'] > 0.3


def test_a_smaller_folder_is_compared_with_as_many_real_pictures(features, generator, tmp_path):
    by_name = tmp_path / 'classes'
    by_name.mkdir()
    for i, label in enumerate(('mug', 'shoe')):
        folder_of(by_name / label, pictures('held_out')[15 * i : 15 * i + 15])
    fields = {'features': str(features), 'images': str(by_name), 'out': str(tmp_path / 'out'), 'reference': 'held_out'}
    result = report(evaluate(config_of(**fields), generator))
    assert result['protocol']['counts'] == {'measured': 30, 'reference': 60, 'by pixels': 30}
    # The names of sub-folders are labels.
    requested, values = np.asarray(result['confusion']['counts']).sum(1), result['confusion']['values']
    assert requested[values.index('mug')] == requested[values.index('shoe')] == 15 and requested.sum() == 30


def test_too_few_pictures_are_refused_before_anything_is_measured(features, generator, tmp_path):
    folder = folder_of(tmp_path / 'few', pictures('held_out')[:10])
    with pytest.raises(UserError, match='10 pictures of .* are too few, at least 21 are needed'):
        evaluate(config_of(features=str(features), images=folder), generator)


def test_a_run_is_not_measured_as_another(features, generator):
    config = config_of(features=str(features))
    config['data']['background'] = 'black'
    with pytest.raises(
        UserError, match=r"another config:\n  data\.background: 'white' -> 'black'\n.*neither --config nor these"
    ):
        evaluate(config, generator)


def test_more_pictures_than_are_held_out_are_measured_without_a_floor(features, generator, tmp_path):
    fields = {'features': str(features), 'out': str(tmp_path / 'out'), 'count': 120}
    with_floor = report(evaluate(config_of(**fields), generator))
    without = report(evaluate(config_of(**fields, floor=False), generator))
    assert with_floor['protocol']['counts']['measured'] == len(open_run(config_of()).held_out) < 120
    assert without['protocol']['counts']['measured'] == 120 and list(without['figures']) == ['measured']


def test_without_labels_and_without_a_run(features, generator, tmp_path):
    """A folder is compared with an unlabelled data set, and there is no run."""
    folder = folder_of(tmp_path / 'pictures', pictures('held_out')[:30])
    config = config_of(features=str(features), images=folder, out=str(tmp_path / 'out'))
    config['data']['labels'] = 'none'
    result = report(evaluate(config, tmp_path))
    found = result['figures']['measured']
    assert not any('accuracy' in name for name in found) and not result['confusion']
    assert not any(result['classes'].values()) and found['precision'] > 0.5


def test_a_run_whose_pictures_changed_is_not_measured(features, generator, tmp_path):
    other = shutil.copytree(generator, tmp_path / 'run')
    about = json.loads((other / 'data.json').read_text())
    (other / 'data.json').write_text(json.dumps(about | {'digest': 'another'}))
    with pytest.raises(UserError, match='have changed since .* was trained; restore .*add --accept_config_change'):
        evaluate(config_of(features=str(features)), other)
    assert evaluate(config_of(features=''), other, accept_change=True).exists()


def test_a_run_from_before_there_was_evaluation_can_be_measured(generator, tmp_path):
    config = json.loads((generator / 'config.json').read_text())
    del config['eval']
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert read_config(tmp_path).eval == EvalConfig()
    assert full(from_workdir.get_config(str(tmp_path)))['eval']['reference'] == 'train'


def test_an_earlier_report_is_kept_and_can_be_shown_in_a_new_one(features, generator, measured, tmp_path):
    shutil.copytree(measured.parent, tmp_path / 'out')
    out, before = {'features': str(features), 'out': str(tmp_path / 'out')}, report(measured)
    second = evaluate(config_of(**out, against=str(tmp_path / 'out' / 'report.json')), generator)
    assert report(second) == before  # the same run, seeds and features
    assert json.loads((tmp_path / 'out' / 'report.0.json').read_text()) == before
    assert f'earlier: {generator} step000006' in second.read_text()


def test_different_protocols_are_not_compared(features, generator, measured):
    fields = {'features': str(features), 'against': str(measured.with_suffix('.json')), 'count': 50}
    with pytest.raises(
        UserError, match=r'cannot be compared:\n  counts\.by pixels: 60 -> 50\n  counts\.measured: 60 -> 50'
    ):
        evaluate(config_of(**fields), generator)


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'features': '/nowhere'}, 'nowhere'),
        ({'features': ':3'}, r'eval\.features=:3: which run'),
        ({'features': '{generator}'}, "'toy', has no features"),
        ({'count': 5}, r'eval\.count: must be at least 21'),
        ({'reference': 'test'}, r'eval\.reference'),
        ({'truncation': 3.0}, r'eval\.truncation'),
        ({'against': '/nowhere.json'}, r'eval\.against=/nowhere\.json: not a report'),
        ({'lpips': 'vgg16'}, r"eval\.lpips: there is no 'vgg16'"),
        ({'truncations': '0.5;1'}, r"eval\.truncations: expected numbers such as '0\.5,0\.7,1'"),
        ({'truncations': '0.5,3'}, r'eval\.truncations: 3\.0 is not from 0 to 2'),
        ({'path_pairs': 10}, r'eval\.path_pairs: the method has no style latents'),
        ({'originals': '/nowhere'}, r'eval\.originals: of which pictures\?'),
        ({'images': '/nowhere', 'truncations': '1'}, r'eval\.truncations: it applies to generators'),
        ({'lpips': 'alex', 'images': '/nowhere'}, r'eval\.lpips: none of the figures needs it'),
        ({'path_pairs': 1}, r'eval\.path_pairs: one pair is too few'),
        ({'recognition': '3 sheep'}, r'eval\.recognition'),
        ({'recognition': '10min'}, r'eval\.recognition: give it in images'),
        ({'out': '{generator}/config.json'}, r'eval\.out=.*config\.json: it cannot be made'),
        ({'images': '/nowhere'}, r'eval\.images=/nowhere: there is no folder'),
        ({'recognition': '1kimg', 'features': 'inception'}, r"eval\.recognition: .*'inception' is not a classifier"),
    ],
)
def test_what_cannot_be_used_is_refused(features, generator, fields, message):
    fields = {'features': str(features)} | fields
    fields = {k: v.format(generator=generator) if isinstance(v, str) else v for k, v in fields.items()}
    with pytest.raises(UserError, match=message):
        evaluate(config_of(**fields), generator)


def test_without_a_run_or_pictures_there_is_nothing_to_measure(features, tmp_path):
    with pytest.raises(UserError, match='no run in it to measure'):
        evaluate(config_of(features=str(features)), tmp_path)


def test_pictures_of_another_size_are_resized_and_the_protocol_says_so(features):
    net = open_features(str(features), 8)
    image = np.random.default_rng(0).integers(0, 256, (3, 32, 24, 3), np.uint8)
    found, predicted = net(image)
    small = np.stack([np.asarray(Image.fromarray(x).resize((16, 16), Image.Resampling.BICUBIC)) for x in image])
    again, _ = net(small)
    assert np.array_equal(found, again) and found.shape == (3, 16) and predicted['label'].shape == (3, 14)
    np.testing.assert_allclose(predicted['label'].sum(1), 1, rtol=1e-5)
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
    found, predicted = net(peer_pictures(0)[:4])
    assert found.shape == (4, 2048) and predicted['imagenet'].shape == (4, 1008)
    assert net.resize_of((32, 32)) == 'by the network'
    expected = stored('torch-fidelity')['2048']  # of the first picture
    np.testing.assert_allclose(pick(found[0]), expected, 1e-4, 1e-5 * abs(expected).max())


def test_inception_without_its_weights_names_the_file_and_where_it_is(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr('urllib.request.urlopen', offline)
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path))
    with pytest.raises(UserError, match=r'pt_inception-2015-12-05-6726825d\.pth .*https://'):
        open_features('inception', 4)
