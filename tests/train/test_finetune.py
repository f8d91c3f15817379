"""A run that starts from another one takes the arrays that fit, by name, and needs that run only at its start."""

import functools
import importlib
import json
import re
import shutil

import jax
import numpy as np
import pytest
from tiny import describe, full, open_run, train
from toy import Toy, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError, Checkpoints
from productgen.data.labels import LabelTable
from productgen.model.workdir import read_facts, write_workdir
from productgen.train.finetune import inherit

pytestmark = pytest.mark.usefixtures('toy')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Workdir of a run of six steps with checkpoints at 3 and 6."""
    workdir = tmp_path_factory.mktemp('source') / 'run'
    train(toy_config(), workdir)
    return workdir


def started(source, **fields):
    """The state at step 0 of a run that starts from another one, that of one that does not, and what was inherited."""
    config = toy_config(train__init_from=str(source), seed=1, **fields)
    run = open_run(config)
    inherited = inherit(run)
    return inherited.give(run.initial_state()), run.initial_state(), inherited


def saved(source, step=6):
    return Checkpoints(source, writing=False).read_weights(step)[1]


def same(tree, arrays):
    """Whether a part of a network has exactly these arrays."""
    flat = {'/'.join(k.key for k in path): x for path, x in jax.tree_util.tree_leaves_with_path(tree)}
    return flat.keys() == arrays.keys() and all(np.array_equal(flat[name], arrays[name]) for name in flat)


def test_where_all_arrays_fit_all_are_taken_and_optimisers_are_new(source):
    state, fresh, inherited = started(source)
    for name, parts in saved(source).items():
        net = state.nets[name]
        assert same(net.params, parts['params'])
        assert not same(net.params, dict.fromkeys(parts['params'], 0))
        assert jax.tree.all(jax.tree.map(np.array_equal, net.opt, fresh.nets[name].opt))
    assert same(state.nets['painter'].ema, saved(source)['painter']['ema'])
    assert int(state.nets['painter'].stats['seen']) == 6 and int(state.step) == 0
    assert not inherited.rows and not inherited.fresh


def test_a_step_can_be_chosen(source):
    state, _, inherited = started(f'{source}:3')
    assert same(state.nets['painter'].params, saved(source, 3)['painter']['params'])
    assert inherited.origin == f'{source}, step 3'


def test_only_the_networks_of_init_nets(source):
    state, fresh, _ = started(source, train__init_nets='painter')
    assert same(state.nets['painter'].params, saved(source)['painter']['params'])
    assert jax.tree.all(jax.tree.map(np.array_equal, state.nets['judge'].params, fresh.nets['judge'].params))


def test_arrays_that_do_not_fit_are_new_and_are_named(source):
    state, fresh, inherited = started(source, model__width=4, data__resolution='16x32')
    places = (('painter', 'canvas'), ('judge', 'dense/kernel'))
    assert set(inherited.fresh) == {(net, part, path) for net, path in places for part in ('params', 'ema')}
    assert inherited.fresh['judge', 'ema', 'dense/kernel'] == 4 * 3
    for name, path in (('painter', 'canvas'), ('judge', 'dense')):
        a, b = (np.asarray(jax.tree.leaves(s.nets[name].params[path])[-1]) for s in (state, fresh))
        assert a.shape == b.shape and np.array_equal(a, b)
    assert np.array_equal(state.nets['judge'].params['dense']['bias'], saved(source)['judge']['params']['dense/bias'])


def relabelled(source, tmp_path, attributes):
    """A copy of a run whose label table has other attributes, of as many values."""
    copy = shutil.copytree(source, tmp_path / 'copy')
    table = read_facts(copy).labels
    (copy / 'labels.json').write_text(json.dumps(LabelTable(attributes, table.rows, table.counts).to_json()))
    return copy


@pytest.mark.parametrize('labels', ['label', 'label,colour', 'colour,label'])
def test_label_values_are_copied_by_name(source, tmp_path, labels):
    """The old run had the same values in reverse, and other ones in place of the first three."""
    values = read_facts(source).labels.attributes['label'][::-1]
    copy = relabelled(source, tmp_path, {'label': ('x', 'y', 'z', *values[3:])})
    state, fresh, inherited = started(copy, data__labels=labels)
    new = [(name, value) for name in labels.split(',') for value in label_values(name)]
    for part in ('params', 'ema'):
        given = saved(source)['painter'][part]['embed']
        got = np.asarray(getattr(state.nets['painter'], part)['embed'])
        expected = np.array(getattr(fresh.nets['painter'], part)['embed'])
        for place, (name, value) in enumerate(new):
            if name == 'label' and value in values[3:]:
                expected[place] = given[values.index(value)]
        assert len(got) == len(new) and np.array_equal(got, expected)
        assert (got != getattr(fresh.nets['painter'], part)['embed']).any(1).sum() == len(values) - 3
    assert set(inherited.rows) == {('painter', 'params', 'embed'), ('painter', 'ema', 'embed')}


def test_the_same_attributes_in_another_order_are_other_labels(tmp_path):
    train(toy_config(data__labels='label,colour', train__duration='3steps'), tmp_path / 'run')
    state, _, inherited = started(tmp_path / 'run', data__labels='colour,label')
    given = saved(tmp_path / 'run', 3)['painter']['params']['embed']
    got, labels = np.asarray(state.nets['painter'].params['embed']), len(label_values('label'))
    assert np.array_equal(got, np.concatenate([given[labels:], given[:labels]]))
    assert ('painter', 'params', 'embed') in inherited.rows


def test_a_network_that_is_never_trained_has_to_come_completely(source, monkeypatch):
    monkeypatch.setattr(Toy, 'untrained', ('judge',), raising=False)
    started(source)
    for fields in ({'model__width': 4}, {'train__init_nets': 'painter'}):
        with pytest.raises(UserError, match=r"init_from.*'judge' is never trained here"):
            started(source, **fields)


def test_a_network_that_is_never_trained_has_no_more_weights_in_the_other_run(source, tmp_path, monkeypatch):
    """An autoencoder that was conditional there and is not here would be such a case."""
    copy = shutil.copytree(source, tmp_path / 'copy')
    state = open_run(toy_config()).initial_state()
    painter = state.nets['painter'].replace(params=state.nets['painter'].params | {'more': np.zeros(2)})
    Checkpoints(copy).save(state.replace(nets=state.nets | {'painter': painter}, step=np.int32(9)), {})
    started(copy)
    monkeypatch.setattr(Toy, 'untrained', ('painter',), raising=False)
    with pytest.raises(UserError, match=r"init_from.*'painter' is never trained here"):
        started(copy)


def quick(name, **fields):
    """A quick config of so few and so small pictures that a step takes no time; `fields` of its sections."""
    config = full(importlib.import_module(f'configs.{name}').get_config('map' if name == 'vae' else 'quick'))
    config['data'] |= {'resolution': '16', 'catalog_items': 64}
    config['train'] |= {'batch_size': 4, 'duration': '1steps', 'grid_columns': 1, 'grid_rows': 1}
    for section, values in fields.items():
        config[section] |= values
    return config


@pytest.fixture(scope='module')
def autoencoders(tmp_path_factory):
    """`name -> a workdir` with the initial weights of a run of `vae` or `vqvae` as its checkpoint."""

    @functools.cache
    def workdir(name):
        folder, run = tmp_path_factory.mktemp(name), open_run(quick(name))
        write_workdir(folder, run.config, run.facts, {})
        Checkpoints(folder).save(run.initial_state(), {})
        return folder

    return workdir


@pytest.mark.parametrize(
    'name, origin, net, settings',
    [
        pytest.param('vqvae', 'vqvae', 'decoder', {}, marks=pytest.mark.slow),
        ('latent_diffusion', 'vae', 'vae', {'autoencoder_share': -1.0}),  # the recipe in that config
    ],
)
def test_real_autoencoders_are_taken_completely(autoencoders, name, origin, net, settings):
    init = {'init_from': str(autoencoders(origin)), 'init_nets': net}
    config = quick(name, train=init, method=settings) | {'seed': 1}
    run = open_run(config)
    inherited = inherit(run)
    state = inherited.give(run.initial_state())
    given = Checkpoints(autoencoders(origin), writing=False).read_weights()[1][net]
    for part in ('params', 'ema', 'stats'):
        leaves = jax.tree_util.tree_leaves_with_path(getattr(state.nets[net], part))
        found = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in leaves}
        expected = given.get(part, {})
        assert found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found)
    assert not inherited.fresh and (origin == 'vae' or 'codebook/usage' in given['stats'])


def test_an_autoencoder_of_another_likelihood_is_refused(autoencoders):
    init = {'init_from': str(autoencoders('vae')), 'init_nets': 'vae'}
    config = quick('latent_diffusion', train=init, method={'autoencoder_share': -1.0})
    config['method']['vae']['likelihood'] = 'discretized_logistic'
    with pytest.raises(UserError, match=r"^method\.vae\.likelihood: 'disc.*was trained for 'gaussian' in .*vae"):
        inherit(open_run(config))


def label_values(name):
    return open_run(toy_config(data__labels=name)).facts.labels.attributes[name]


def test_the_weights_of_a_network_without_an_average_become_the_average(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / 'copy')
    run = open_run(toy_config())
    state = run.initial_state()
    bare = state.replace(nets={name: net.replace(ema=None) for name, net in state.nets.items()}, step=np.int32(9))
    Checkpoints(copy).save(bare, {})
    started_state, _, _ = started(copy)
    assert same(started_state.nets['painter'].ema, saved(copy, 9)['painter']['params'])


def test_after_an_interruption_the_other_run_is_not_needed(source, tmp_path):
    copy, workdir = shutil.copytree(source, tmp_path / 'copy'), tmp_path / 'run'
    config = toy_config(train__init_from=str(copy), model__width=4, train__keep=3)
    train(config, workdir)
    log = (workdir / 'log.txt').read_text()
    assert re.search(
        r'From .*copy, step 6: 9 arrays \([\d,]+ numbers\) taken, 0 .* adapted .* 2 .* \(24 numbers\) fresh: judge', log
    )
    weights = Checkpoints(workdir, writing=False).read_weights()
    shutil.rmtree(copy)
    for step in '36':  # as if killed before the first checkpoint of its own
        shutil.rmtree(workdir / 'checkpoints' / step)
    train(config, workdir)
    assert (workdir / 'log.txt').read_text().count('Starting at step 0') == 2
    again = Checkpoints(workdir, writing=False).read_weights()
    assert jax.tree.all(jax.tree.map(np.array_equal, weights, again))


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'train__init_from': 'nowhere'}, r'train\.init_from=nowhere: there is no run in it'),
        ({'train__init_from': ':3'}, r'train\.init_from=:3: which run'),
        ({'train__init_from': 'runs/a:-5'}, r'train\.init_from=runs/a:-5: -5 is no step'),
        ({'train__init_nets': 'judge,paynter'}, r"train\.init_nets: .*'paynter'; did you mean 'painter'"),
    ],
)
def test_a_run_that_cannot_be_used_is_refused_before_anything_is_written(source, tmp_path, fields, message):
    config = toy_config(**{'train__init_from': str(source), **fields})
    for refuse in (lambda: train(config, tmp_path / 'run'), lambda: describe(config)):
        with pytest.raises(UserError, match=message):
            refuse()
    assert not [path for path in (tmp_path / 'run').iterdir() if path.name != '.lock']


def test_a_run_where_nothing_fits_or_without_a_checkpoint_is_refused(source, tmp_path):
    with pytest.raises(UserError, match=r'train\.init_from.*: no array of .judge. fits.*judge, painter'):
        copy = shutil.copytree(source, tmp_path / 'copy')
        weights = open_run(toy_config()).initial_state()
        kernel = {'other': {'kernel': np.zeros(3)}}
        other = weights.nets['judge'].replace(params=kernel, ema=kernel, opt=())
        Checkpoints(copy).save(weights.replace(nets=weights.nets | {'judge': other}, step=np.int32(9)), {})
        started(copy, train__init_nets='judge')
    shutil.rmtree(copy / 'checkpoints')
    with pytest.raises(CheckpointError, match='there is no checkpoint in it yet'):
        started(copy)
