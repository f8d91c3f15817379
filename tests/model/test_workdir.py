"""The folder of a run: configs of earlier versions, changes that are reported, what is recorded."""

import dataclasses
import importlib.metadata
import json
import shutil

import pytest
from tiny import sample, train
from toy import toy_config

from productgen.config import UserError
from productgen.data.labels import LabelTable
from productgen.model.config import resolve
from productgen.model.environment import PACKAGES, environment
from productgen.model.workdir import (
    check_workdir,
    config_changes,
    parse_run,
    read_config,
    read_facts,
    read_json,
    write_workdir,
)

pytestmark = pytest.mark.usefixtures('toy')

# Fields that an earlier version did not have, of several sections; toy_config has them at their defaults.
NEWER = ('train.patience', 'train.shard_state', 'data.balance', 'sample.combine', 'eval.lpips', 'optim.painter.freeze')


def without(config, *fields):
    """A copy of nested dicts without some fields."""
    config = json.loads(json.dumps(config))
    for field in fields:
        *path, name = field.split('.')
        section = config
        for part in path:
            section = section[part]
        del section[name]
    return config


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('workdir') / 'run'
    train(toy_config(), workdir)
    return workdir


@pytest.fixture
def old(run, tmp_path):
    """A copy of the run whose config.json lacks the fields `NEWER`, with the last checkpoint gone."""
    copy = shutil.copytree(run, tmp_path / 'old')
    shutil.rmtree(copy / 'checkpoints' / '6')
    config = without(read_json(copy), *NEWER)
    (copy / 'config.json').write_text(json.dumps(config))
    return copy


def test_a_run_from_before_some_fields_is_resumed_and_sampled(old, run, tmp_path):
    assert config_changes(old, resolve(toy_config())) == []
    config = toy_config(sample__seeds='0-3', sample__out=str(tmp_path / 'out'))
    assert sample(config, old)[0].name.endswith('step000003.png')
    assert train(toy_config(), old).step == 6
    assert 'Resuming at step 3' in (old / 'log.txt').read_text()
    checksums = [
        json.loads((folder / 'checkpoints' / '6' / 'notes' / 'metadata').read_text())['checksums']
        for folder in (old, run)
    ]
    assert checksums[0] == checksums[1]
    # Its config now has all fields, and the one before is kept.
    assert read_json(old) == read_json(run)
    assert 'patience' not in json.loads((old / 'config.0.json').read_text())['train']


def test_a_new_field_that_is_set_is_a_change_from_its_default(old):
    changes = lambda **fields: config_changes(old, resolve(toy_config(**fields)))
    assert changes(train__patience=7) == ['train.patience: 5 -> 7']
    assert changes(train__patience=5, train__shard_state=True) == ['train.shard_state: False -> True']
    assert changes(data__balance=0.5, optim__painter__freeze='canvas') == [
        'data.balance: 0.0 -> 0.5',
        "optim.painter.freeze: '' -> 'canvas'",
    ]
    with pytest.raises(UserError, match=r'(?s)train\.patience: 5 -> 7.*--accept_config_change'):
        train(toy_config(train__patience=7), old)
    assert train(toy_config(train__patience=7), old, accept_change=True).step == 6
    assert read_config(old).train.patience == 7


def test_fields_that_only_show_and_measure_may_change(old):
    assert config_changes(old, resolve(toy_config(sample__combine='average', eval__lpips='vgg'))) == []


def test_the_place_of_the_same_pictures_may_change(run, tmp_path):
    copy, facts = shutil.copytree(run, tmp_path / 'run'), read_facts(run)
    config, data = read_json(copy), json.loads((copy / 'data.json').read_text())
    config['data'] |= {'source': 'folder:there'}
    (copy / 'config.json').write_text(json.dumps(config))
    (copy / 'data.json').write_text(json.dumps(data | {'source': 'folder:there', 'digest': 'd1'}))
    here = resolve(toy_config(data__source='folder:here', data__workers=3, data__cache_gb=0.5))
    assert config_changes(copy, here) == ["data.source: 'folder:there' -> 'folder:here'"]
    check_workdir(copy, here, dataclasses.replace(facts, digest='d1'), {}, accept=False)
    with pytest.raises(UserError, match=r'(?s)folder:here.*the pictures of folder:here have changed'):
        check_workdir(copy, here, dataclasses.replace(facts, digest='d2'), {}, accept=False)
    with pytest.raises(UserError, match='data.source'):  # another kind of source numbers its items otherwise
        other = resolve(toy_config(data__source='catalog'))
        check_workdir(copy, other, dataclasses.replace(facts, digest='d1'), {}, accept=False)


def test_a_missing_field_whose_default_is_another_value_is_a_difference(run, tmp_path):
    """The toy's learning rate is not the default of the optimiser; nor is its batch that of the section."""
    copy = shutil.copytree(run, tmp_path / 'run')
    config = without(read_json(copy), 'optim.painter.learning_rate', 'train.batch_size')
    (copy / 'config.json').write_text(json.dumps(config))
    lines = config_changes(copy, resolve(toy_config()))
    assert [line.split(':')[0] for line in lines] == ['optim.painter.learning_rate', 'train.batch_size']
    assert lines[0].endswith(' -> 0.1') and lines[1] == 'train.batch_size: 32 -> 8'
    with pytest.raises(UserError, match=r'(?s)another config.*train\.batch_size: 32 -> 8'):
        train(toy_config(), copy)


def test_an_unknown_field_in_a_config_is_an_error_with_its_name(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / 'run')
    config = read_json(copy)
    config['train']['patiense'] = 3
    (copy / 'config.json').write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"^train\.patiense: no such field; did you mean 'patience'"):
        read_config(copy)


@pytest.mark.parametrize(
    'text, folder, step',
    [
        ('runs/2026-11-26_18:05', 'runs/2026-11-26_18:05', 0),
        ('runs/2026-11-26_18:05:40', 'runs/2026-11-26_18:05', 40),
        ('runs/2026-11-26_18:06', 'runs/2026-11-26_18', 6),
        ('runs/a:-1', 'runs/a', -1),
        ('runs/a\nb:3', 'runs/a\nb', 3),
        ('~/x:3', 'home/x', 3),
        (':3', None, 3),
        ('', None, 0),
    ],
)
def test_a_folder_that_exists_is_meant_as_a_whole(tmp_path, monkeypatch, text, folder, step):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    (tmp_path / 'runs' / '2026-11-26_18:05').mkdir(parents=True)
    found = parse_run(text, 'train.init_from')
    assert (found[0] and tmp_path / found[0], found[1]) == (folder and tmp_path / folder, step)


def test_facts_are_read_as_they_were_written(run, tmp_path):
    facts = read_facts(run)
    assert facts.columns['image'] == (16, 16, 3) and facts.columns['mask'] == (16, 16, 1) and len(facts.digest) == 32
    about = json.loads((run / 'data.json').read_text())
    assert about['source'] == 'catalog' and about['digest'] == facts.digest and about['frozen'] == {}
    write_workdir(tmp_path / 'copy', read_config(run), facts, {})
    again = read_facts(tmp_path / 'copy')
    assert (again.columns, again.digest) == (facts.columns, facts.digest)
    assert again.labels.to_json() == facts.labels.to_json()


def test_a_run_of_another_data_set_or_other_labels_is_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / 'run')
    facts, config = read_facts(copy), read_config(copy)
    check_workdir(copy, config, facts, {}, accept=False)
    attributes = dict(facts.labels.attributes) | {'label': (*facts.labels.attributes['label'][:-1], 'spoon')}
    table = LabelTable(attributes, facts.labels.rows, facts.labels.counts)
    changed = type(facts)(table, facts.columns, facts.digest)
    other = type(facts)(facts.labels, facts.columns, '0' * 64)
    with pytest.raises(UserError, match='labels: label: .*spoon'):
        check_workdir(copy, config, changed, {}, accept=False)
    with pytest.raises(UserError, match=r'data\.source: the pictures of catalog have changed'):
        check_workdir(copy, config, other, {}, accept=False)
    for facts in (changed, other):
        check_workdir(copy, config, facts, {}, accept=True)
    write_workdir(copy, config, changed, {})
    assert read_facts(copy).labels.attributes == attributes


def test_a_run_without_data_json_takes_the_data_as_they_are(run, tmp_path):
    """As runs of early versions, which have no digests, or one of the catalog's code."""
    copy = shutil.copytree(run, tmp_path / 'run')
    about = json.loads((copy / 'data.json').read_text())
    (copy / 'data.json').write_text(json.dumps(about | {'digest': 64 * 'a'}))
    assert read_facts(copy).digest == ''
    check_workdir(copy, read_config(copy), read_facts(run), {}, accept=False)
    (copy / 'data.json').unlink()
    facts = read_facts(copy)
    assert facts.digest == '' and facts.columns == {}
    check_workdir(copy, read_config(copy), read_facts(run), {'vgg': '00'}, accept=False)


def test_a_package_without_metadata_does_not_keep_a_run_from_starting(monkeypatch, tmp_path):
    version = importlib.metadata.version

    def without_one(name):
        if name == 'tensorflow-datasets':
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, 'version', without_one)
    packages = environment()['packages']
    assert packages['tensorflow-datasets'] == 'not installed' and packages['jax'] == version('jax')
    assert set(packages) == set(PACKAGES)
    assert train(toy_config(train__duration='1steps'), tmp_path / 'run').step == 1
    written = json.loads((tmp_path / 'run' / 'environment.jsonl').read_text())
    assert written['packages'] == packages
