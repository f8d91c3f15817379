"""State files of a run that are lost, empty or foreign: told in one line, with a way to resume that works."""

import json
import logging
import shutil

import pytest
from tiny import sample, train
from toy import toy_config

from productgen.config import UserError
from productgen.model.workdir import read_facts, read_json

pytestmark = pytest.mark.usefixtures('toy')

LONGER = {'train__duration': '8steps'}
NAMES = 'config.json', 'data.json', 'labels.json'
CONTENTS = {
    'empty': b'',
    'half': b'{"seed": 0, "da',
    'zeros': bytes(50),
    'a list': b'[1, 2]',
    'no text': b'\xff\xfe{}',
    'foreign': b'{"a": 1, "digest": 3, "columns": {"image": "x"}}',
}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('state') / 'run'
    train(toy_config(), workdir)
    return workdir


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / 'copy')


@pytest.fixture
def warnings(caplog, monkeypatch):
    """The warnings of the log."""
    monkeypatch.setattr(logging.getLogger('productgen'), 'propagate', True)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize('content', CONTENTS)
@pytest.mark.parametrize('name', NAMES)
def test_an_unreadable_file_is_named_and_written_again(copy, run, warnings, name, content):
    path = copy / name
    path.write_bytes(CONTENTS[content])
    with pytest.raises(UserError) as caught:
        train(toy_config(), copy)
    assert f'\n  {path}: not readable (' in str(caught.value) and '--accept_config_change' in caught.value.remedy
    assert path.read_bytes() == CONTENTS[content]
    with pytest.raises(UserError) as caught:
        sample(toy_config(sample__seeds='0', sample__out=str(copy / 'out')), copy)
    assert name in str(caught.value) and '--accept_config_change writes it again' in str(caught.value)
    assert train(toy_config(), copy, accept_change=True).step == 6  # complete, and yet they are written
    (warning,) = warnings()
    assert warning.startswith(f'{path}: not readable (')
    assert all((copy / name).read_bytes() == (run / name).read_bytes() for name in NAMES)
    assert sample(toy_config(sample__seeds='0', sample__out=str(copy / 'out')), copy)


def test_checkpoints_without_their_config_are_resumed_with_another(copy, warnings):
    (copy / 'config.json').unlink()
    with pytest.raises(UserError, match=r'config\.json: missing, and there are checkpoints .*\n.*--accept_config_cha'):
        train(toy_config(**LONGER), copy)
    with pytest.raises(UserError, match=r'config\.json: missing, and there are checkpoints .*; the training comm'):
        read_json(copy)
    assert not (copy / 'config.json').exists()
    assert train(toy_config(**LONGER), copy, accept_change=True).step == 8
    (warning,) = warnings()
    assert warning.endswith('; the checkpoints are resumed with --config.')
    assert 'Resuming at step 6' in (copy / 'log.txt').read_text()
    assert read_json(copy)['train']['duration'] == '8steps'


def test_a_config_that_does_not_fit_is_not_taken_for_the_lost_one(copy):
    (copy / 'config.json').unlink()
    with pytest.raises(UserError, match='of other networks or optimisers'):
        train(toy_config(optim__painter__name='adam'), copy, accept_change=True)
    assert not (copy / 'config.json').exists()


def test_a_config_of_another_version_is_replaced_only_when_that_is_accepted(copy):
    config = read_json(copy)
    config['train']['patiense'] = 3
    (copy / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match=r'\n  train\.patiense: no such field'):
        train(toy_config(), copy)
    assert train(toy_config(), copy, accept_change=True).step == 6
    assert json.loads((copy / 'config.0.json').read_text()) == config


def test_a_foreign_config_is_named_by_its_file(tmp_path):
    (tmp_path / 'config.json').write_text('{"name": "other program"}')
    with pytest.raises(UserError, match=r'config\.json: not readable \(it is no config of a run'):
        read_json(tmp_path)
    with pytest.raises(UserError, match=r'config\.json: not readable'):
        train(toy_config(), tmp_path)


def test_a_table_without_rows_is_no_table(copy):
    (copy / 'labels.json').write_text('{"attributes": {}, "rows": [], "counts": []}')
    with pytest.raises(UserError, match=r'labels\.json: not readable \(no table of labels: it has no rows\)'):
        read_facts(copy)
