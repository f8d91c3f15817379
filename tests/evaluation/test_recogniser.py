"""What a method can do decides how it is evaluated: by its features, its predictions, or its pictures."""

import json

import numpy as np
import pytest
from tiny import evaluate, open_run, train
from toy import toy_config
from toy_features import CELLS, FAMILIES, features_config

from productgen.config import UserError
from productgen.evaluation.sets import mixed
from productgen.methods import METHODS
from productgen.model.trained import Trained

pytestmark = pytest.mark.xdist_group('evaluation_recogniser')


@pytest.fixture(scope='module', autouse=True)
def methods(once):
    with pytest.MonkeyPatch.context() as patch:
        for name, family in FAMILIES.items():
            patch.setitem(METHODS, name, family)
        yield


@pytest.fixture(scope='module')
def workdirs(methods, tmp_path_factory):
    """Trained runs by method."""
    folder = tmp_path_factory.mktemp('features')
    for name in ('describer', 'sorter'):
        train(features_config(name), folder / name)
    return {name: folder / name for name in ('describer', 'sorter')}


def report(path):
    return json.loads(path.with_suffix('.json').read_text())


def pictures(name):
    """Images and labels of the training pictures, or of the held-out ones that are measured."""
    run = open_run(features_config('describer'))
    return run.batches().load(mixed(run.held_out)[:60] if name == 'held_out' else run.items)


def described(workdir, images):
    """The features of `Describer`, by NumPy, at unit length."""
    gain = np.asarray(Trained.open(workdir).state.nets['describer'].ema['gain'])
    cells = (images / 127.5 - 1).reshape(-1, CELLS, 4, CELLS, 4, 3).mean((2, 4)).reshape(len(images), -1) * gain
    return cells / np.linalg.norm(cells, axis=1, keepdims=True)


def test_features_without_predictions_have_the_figures_of_their_neighbours(workdirs):
    page = evaluate(features_config('describer'), workdirs['describer'])
    result = report(page)
    figures = result['figures']
    assert list(figures) == ['measured', 'training'] and result['confusion'] is None
    assert set(figures['measured']) == {
        f'nearest/{name}{end}' for name in ('label', 'colour') for end in ('', '_error')
    }
    known, queries = pictures('items'), pictures('held_out')
    assert result['protocol']['counts'] == {'measured': 60, 'searched': len(known['label'])}
    rows = [described(workdirs['describer'], x['image']) for x in (queries, known)]
    nearest = np.argmax(rows[0] @ rows[1].T, 1)
    for column, name in enumerate(('label', 'colour')):
        same = known['label'][nearest, column] == queries['label'][:, column]
        assert figures['measured'][f'nearest/{name}'] == pytest.approx(same.mean(), abs=0.02)
    text = page.read_text()
    assert 'Nearest neighbours' in text and '>held-out pictures</th>' in text and 'Confusion' not in text


def test_a_method_that_classifies_is_measured_by_its_predictions_as_well(workdirs):
    page = evaluate(features_config('sorter'), workdirs['sorter'])
    result = report(page)
    assert {'accuracy/label', 'accuracy/colour', 'nearest/label'} < result['figures']['measured'].keys()
    counts = np.asarray(result['confusion']['counts'])
    accuracy = result['figures']['measured']['accuracy/label']
    assert counts.sum() == result['protocol']['counts']['measured']
    assert np.trace(counts) / counts.sum() == pytest.approx(accuracy)
    assert 'Confusion matrix: label' in page.read_text()


def test_without_labels_there_are_pictures_and_no_figures(tmp_path):
    config = features_config('describer', data={'labels': 'none'})
    train(config, tmp_path / 'run')
    page = evaluate(config, tmp_path / 'run')
    assert report(page)['figures'] == {'measured': {}, 'training': {}}
    assert page.read_text().count('<img src="data:image/png') >= 1


def test_a_method_that_also_generates_is_measured_as_a_generator(workdirs, tmp_path):
    """Its features do not matter then: those of `eval.features` do."""
    config = toy_config(data__catalog_items=400, data__validation=0.2, data__labels='label,colour')
    config['method']['name'] = 'describing_toy'
    config['eval'] |= {'count': 60}
    train(config, tmp_path / 'run')
    config['eval']['features'] = str(workdirs['sorter'])
    result = report(evaluate(config, tmp_path / 'run'))
    assert list(result['figures']) == ['measured', 'real'] and result['features']['run'] == str(workdirs['sorter'])
    names = {'frechet_distance', 'precision', 'accuracy/label', 'sliced_wasserstein'}
    assert names < result['figures']['measured'].keys()
    assert not any(name.startswith('nearest') for name in result['figures']['measured'])


@pytest.mark.parametrize(
    'field, value', [('truncations', '0.5,1'), ('path_pairs', 10), ('recognition', '10steps'), ('lpips', 'alex')]
)
def test_settings_of_generators_are_refused(workdirs, field, value):
    with pytest.raises(UserError, match=rf'eval\.{field}: it applies to generators'):
        evaluate(features_config('sorter', eval={field: value}), workdirs['sorter'])


def test_a_method_that_can_do_none_of_it_is_refused(tmp_path):
    train(features_config('mute'), tmp_path / 'run')
    with pytest.raises(UserError, match="generate, translate or have features are measured; 'mute' is none"):
        evaluate(features_config('mute'), tmp_path / 'run')
