"""Evaluation of a method that translates pictures, on held-out pairs."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from tiny import evaluate, open_run, train
from toy_features import FAMILIES, features_config
from toy_pairs import FAMILY, Lines, lines_config

from productgen.config import UserError
from productgen.evaluation.pairs import translated
from productgen.methods import METHODS
from productgen.model.trained import Trained

pytestmark = pytest.mark.xdist_group('evaluation_pairs')


@pytest.fixture(scope='module', autouse=True)
def methods(once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, 'lines', FAMILY)
        patch.setitem(METHODS, 'sorter', FAMILIES['sorter'])
        yield


@pytest.fixture(scope='module')
def workdir(methods, tmp_path_factory):
    """A trained run."""
    folder = tmp_path_factory.mktemp('pairs') / 'run'
    train(lines_config(), folder)
    return folder


@pytest.fixture(scope='module')
def page(workdir):
    return evaluate(lines_config(), workdir)


@pytest.fixture(scope='module')
def held_out(methods):
    """Held-out masks and pictures, float64."""
    run = open_run(lines_config())
    batch = run.batches().load(run.held_out)
    return {name: batch[name].astype(np.float64) for name in ('input', 'target')}


def report(path):
    return json.loads(path.with_suffix('.json').read_text())


def psnr(a, b):
    """The mean over pairs of uint8 values [N, H, W, C]."""
    return np.mean(10 * np.log10(255**2 / np.mean((a - b) ** 2, (1, 2, 3))))


def test_translations_are_compared_with_targets(page, workdir, held_out):
    net = Trained.open(workdir).state.nets['lines'].ema
    made = np.asarray(net['slope']) * (held_out['input'] / 127.5 - 1) + np.asarray(net['height'])
    made = np.round((np.clip(made, -1, 1) + 1) * 127.5)
    figures = report(page)['figures']
    assert list(figures) == ['measured', 'input']
    assert figures['measured']['psnr'] == pytest.approx(psnr(made, held_out['target']), rel=1e-4)
    same = np.broadcast_to(held_out['input'], held_out['target'].shape)
    assert figures['input']['psnr'] == pytest.approx(psnr(same, held_out['target']), rel=1e-4)
    # White is where the mask is black, so any line is better than the mask itself.
    assert figures['measured']['psnr'] > figures['input']['psnr'] + 3
    assert {'ssim', 'ms_ssim', 'delta_e', 'gmsd'} < figures['measured'].keys() == figures['input'].keys()


def test_the_protocol_names_the_pairs(page, held_out):
    result = report(page)
    protocol = result['protocol']
    assert protocol['pairs'] == {'input': 'mask', 'target': 'image', 'count': len(held_out['input'])}
    assert protocol['size'] == '24x24' and protocol['knobs'] == {'truncation': 1.0}
    assert result['measured']['checkpoint'] == 'step000020' and not result['features']


def test_the_page_shows_the_pairs(page):
    text = page.read_text()
    assert 'input, translation and target' in text and text.count('<img src="data:image/png') >= 2
    for word in (
        '>translations</th>',
        '>inputs</th>',
        '>psnr</th>',
        'peak signal-to-noise ratio',
        '&quot;target&quot;: &quot;image&quot;',
    ):
        assert word in text, word


def test_the_knobs_are_those_of_the_sample_section(workdir, page, tmp_path):
    config = lines_config(sample={'truncation': 0.0}, eval={'out': str(tmp_path)})
    flat = report(evaluate(config, workdir))
    assert flat['protocol']['knobs'] == {'truncation': 0.0}
    assert flat['figures']['input'] == report(page)['figures']['input']
    assert flat['figures']['measured']['psnr'] < report(page)['figures']['measured']['psnr']
    config['eval']['against'] = str(page.with_suffix('.json'))
    with pytest.raises(UserError, match=r'cannot be compared:\n  knobs\.truncation: 1\.0 -> 0\.0'):
        evaluate(config, workdir)


def test_fewer_pairs_can_be_measured_and_compared(workdir, page, tmp_path):
    first = evaluate(lines_config(eval={'out': str(tmp_path), 'count': 5}), workdir)
    assert report(first)['protocol']['pairs']['count'] == 5
    config = lines_config(eval={'out': str(tmp_path), 'count': 5, 'against': str(first.with_suffix('.json'))})
    assert f'earlier: {workdir} step000020' in evaluate(config, workdir).read_text()


@pytest.mark.parametrize('field, value', [('truncations', '0.5,1'), ('path_pairs', 10), ('recognition', '10steps')])
def test_settings_of_generators_are_refused(workdir, field, value):
    with pytest.raises(UserError, match=rf'eval\.{field}: it applies to generators'):
        evaluate(lines_config(eval={field: value}), workdir)


def test_without_held_out_pictures_or_targets_nothing_is_compared(workdir):
    run = open_run(lines_config(data={'validation': 0.0}))
    with pytest.raises(UserError, match=r'data\.validation: 0\.0 held no picture out to measure; train again'):
        translated(run, workdir, None, lambda protocol: None)

    class Alone(Lines):
        def inputs(self):
            return {'input': self.problem.shape('input')}

    method = Alone(run.method.problem, run.method.start, run.method.tx)
    run = dataclasses.replace(open_run(lines_config()), method=method)
    with pytest.raises(UserError, match='its method is trained without targets'):
        translated(run, workdir, None, lambda protocol: None)


def test_a_folder_is_compared_with_the_pictures_of_the_same_data_set(workdir, tmp_path):
    """With `eval.images` the method of the run does not matter; the data set has an image for every pair."""
    size = {'resolution': '24', 'labels': 'label'}
    train(features_config('sorter', data=size), tmp_path / 'features')
    run = open_run(lines_config())
    (tmp_path / 'pictures').mkdir()
    for i, image in enumerate(run.batches().load(run.held_out[:30], ['image'])['image']):
        Image.fromarray(image).save(tmp_path / 'pictures' / f'{i:03d}.png')
    names = {'images': str(tmp_path / 'pictures'), 'features': str(tmp_path / 'features'), 'out': str(tmp_path / 'out')}
    found = report(evaluate(lines_config(eval=names), workdir))['figures']
    assert found['measured']['frechet_distance'] > 0 and found.keys() == {'measured', 'real'}


def test_outputs_depend_on_their_own_input_only(workdir, held_out):
    trained, images = Trained.open(workdir, batch_size=4), held_out['input'].astype(np.uint8)
    made = trained.translate(images[:6])
    assert np.array_equal(made[2:3], trained.translate(images[2:3]))
