"""Evaluation with nothing prepared: `eval.features=auto`, where no published network is installed and where one is."""

import json

import numpy as np
import pytest
from tiny import evaluate, train
from toy import toy_config

from productgen.config import UserError
from productgen.config.sections import EvalConfig
from productgen.evaluation import report as report_page
from productgen.published import weights

pytestmark = pytest.mark.usefixtures('toy')
DISTANCES = {'frechet_distance', 'kernel_distance', 'precision', 'recall', 'density', 'coverage'}


@pytest.fixture(scope='module', autouse=True)
def shared(once):
    """Only the small network is there, nothing may be downloaded, and reports have no plots."""

    def refuse(*args):
        raise AssertionError('a download')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_page, '_plot', lambda figure: '')
        patch.setattr(weights, 'is_there', lambda name: name == 'small')
        patch.setattr(weights, '_download', refuse)
        yield


def config_of(**fields):
    labels = {'data__catalog_items': 400, 'data__validation': 0.2, 'data__labels': 'label,colour'}
    config = toy_config(**labels)
    config['eval'] |= {'count': 40, 'features': EvalConfig().features, **fields}
    return config


@pytest.fixture(scope='module')
def generator(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('generator') / 'run'
    train(config_of(), workdir)
    return workdir


@pytest.fixture(scope='module')
def page(generator):
    return evaluate(config_of(truncations='0.5'), generator)


def test_the_default_report_has_distances_and_says_by_what(page):
    report = json.loads(page.with_suffix('.json').read_text())
    for column in ('measured', 'real'):
        assert report['figures'][column].keys() > DISTANCES
        assert not any(name.startswith(('accuracy', 'inception_score')) for name in report['figures'][column])
    # The toy paints a mean colour with noise.
    ours, real = report['figures']['measured'], report['figures']['real']
    assert ours['frechet_distance'] > 2 * real['frechet_distance']
    name = 'small (the small network of the project, deviations of the maps of levels 1 to 3, means of the last map)'
    assert report['measured']['features'] == f'{name}, by eval.features=auto' and name in page.read_text()
    assert report['protocol']['features']['weights'] == weights.FILES['small'].sha256[:16]
    assert report['features']['protocol'].startswith('resized to 64x64')
    assert [row['truncation'] for row in report['truncation']] == [0.5, 1.0]
    labels, larger = report['left_out']
    assert 'configs/classifier.py' in labels and weights.INSTALL in larger
    assert 'features' in report['copies'] and np.isfinite(report['copies']['features']['p'])


def test_reports_by_two_networks_are_not_compared(generator, page, tmp_path):
    earlier = json.loads(page.with_suffix('.json').read_text())
    earlier['protocol']['features'] |= {'network': 'VGG-16 of HED', 'weights': '4502'}
    (tmp_path / 'report.json').write_text(json.dumps(earlier))
    wanted = r"cannot be compared:\n  features\.network: 'VGG-16 of HED' -> 'the small network .*\n  features\.weights"
    with pytest.raises(UserError, match=wanted):
        evaluate(config_of(against=str(tmp_path / 'report.json'), out=str(tmp_path)), generator)


@pytest.mark.parametrize('digest', ['', '0'])
def test_an_early_report_is_compared_by_the_digest_alone(generator, page, tmp_path, digest):
    earlier = json.loads(page.with_suffix('.json').read_text())
    del earlier['protocol']['features']['network']
    earlier['protocol']['features']['weights'] += digest
    (tmp_path / 'earlier.json').write_text(json.dumps(earlier))
    config = config_of(against=str(tmp_path / 'earlier.json'), out=str(tmp_path / 'out'))
    if not digest:
        assert 'earlier: ' in evaluate(config, generator).read_text()
        return
    with pytest.raises(UserError, match=r"cannot be compared:\n  features\.weights: '\w+0' -> '\w+'$"):
        evaluate(config, generator)


@pytest.mark.parametrize('features', ['auto', 'small', 'vgg'])
def test_a_classifier_for_recognition_is_asked_for(generator, features):
    with pytest.raises(UserError, match=rf"'{features}' is not a classifier; .*: eval\.features=WORKDIR"):
        evaluate(config_of(features=features, recognition='1kimg'), generator)
