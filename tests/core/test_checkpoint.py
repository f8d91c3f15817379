"""Checkpoints restore every kind of array, those of older versions too, and errors say which checkpoint is meant."""

import functools
import json
import shutil
import socket
import subprocess
import sys
from collections import namedtuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from tiny import ROOT

from productgen.core.checkpoint import CheckpointError, Checkpoints, has_checkpoint
from productgen.core.paths import leaf_path
from productgen.core.state import State, create_net
from productgen.nets.vq import create_codebook

Usage = namedtuple('Usage', 'total used free')
A, B = jnp.arange(6.0).reshape(2, 3), jnp.ones(3, ml_dtypes.bfloat16)


@functools.cache
def make_state(step=1):
    params = {'a': A, 'b': B}
    net = create_net(params, optax.adam(0.1), {'mean': jnp.zeros(2)}, ema=True)
    bare = create_net({'c': jnp.ones(1)}, optax.sgd(0.1))
    extra = {'p': jnp.float32(0.25), 'key': jax.random.key(3)}
    return State(jnp.int32(step), {'net': net, 'bare': bare}, extra, {'vgg': {'w': jnp.ones(1000)}})


def plain(tree):
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def assert_equal(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(plain(state)), jax.tree.leaves(plain(other)), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def edit_notes(workdir, change, step=1):
    """Changes the notes of a checkpoint on disk."""
    path = workdir / 'checkpoints' / str(step) / 'notes' / 'metadata'
    notes = json.loads(path.read_text())
    change(notes)
    path.write_text(json.dumps(notes))


def to_format_1(workdir, state, step=1):
    """Makes the notes of a checkpoint those that versions before `format` wrote."""

    def change(notes):
        assert notes.pop('format') == 2
        leaves = jax.tree_util.tree_leaves_with_path(state.replace(frozen={}))
        old = {leaf_path(path): jax.tree_util.keystr(path) for path, _ in leaves}
        for name in ('checksums', 'shapes'):
            notes[name] = {old[path]: value for path, value in notes[name].items()}

    edit_notes(workdir, change, step)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = make_state()
    Checkpoints(tmp_path).save(state, {'seconds': 12.5})
    restored, notes = Checkpoints(tmp_path).restore(state)
    assert notes == {'seconds': 12.5}
    assert_equal(restored, state)


def test_notes_name_arrays_by_their_path(tmp_path):
    Checkpoints(tmp_path).save(make_state(), {})
    notes = json.loads((tmp_path / 'checkpoints' / '1' / 'notes' / 'metadata').read_text())
    assert notes['checksums'].keys() == notes['shapes'].keys()
    assert {'step', 'nets/net/params/a', 'nets/net/opt/0/mu/a', 'extra/key'} <= notes['shapes'].keys()
    assert notes['shapes']['nets/net/params/a'] == 'float32[2, 3]'


@pytest.mark.parametrize('old', [False, True])
def test_checkpoints_of_both_formats_are_restored_and_verified(tmp_path, old):
    state = make_state()
    Checkpoints(tmp_path).save(state, {'seconds': 12.5})
    if old:
        to_format_1(tmp_path, state)
    restored, notes = Checkpoints(tmp_path).restore(state)
    assert notes == {'seconds': 12.5}
    assert_equal(restored, state)
    _, weights = Checkpoints(tmp_path, writing=False).read_weights()
    assert weights['net']['params'].keys() == weights['net']['ema'].keys() == {'a', 'b'}
    assert np.array_equal(weights['net']['params']['a'], state.nets['net'].params['a'])
    place = ".nets['net'].ema['a']" if old else 'nets/net/ema/a'
    edit_notes(tmp_path, lambda notes: notes['checksums'].update({place: notes['checksums'][place] + 1}))
    for to_sample in (False, True):
        with pytest.raises(CheckpointError, match='step 1: its checksums do not match'):
            Checkpoints(tmp_path).restore(state, to_sample=to_sample)
    with pytest.raises(CheckpointError, match='step 1: its checksums do not match'):
        Checkpoints(tmp_path, writing=False).read_weights()


@pytest.mark.parametrize('old', [False, True])
def test_damaged_files_are_found(tmp_path, old):
    """Bytes of the arrays, where the file system returns others than were written."""
    state = make_state().replace(extra={'noise': jax.random.normal(jax.random.key(0), (64, 64))})
    Checkpoints(tmp_path).save(state, {})
    if old:
        to_format_1(tmp_path, state)
    path = max((tmp_path / 'checkpoints' / '1' / 'state').rglob('*'), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='no checkpoint in it can be read: step 1'):
        Checkpoints(tmp_path).restore(state)


def test_a_newer_format_is_refused(tmp_path):
    state = make_state()
    Checkpoints(tmp_path).save(state, {})
    edit_notes(tmp_path, lambda notes: notes.update(format=3))
    with pytest.raises(CheckpointError, match='step 1 is of format 3, and this version reads up to 2') as caught:
        Checkpoints(tmp_path).restore(state)
    assert caught.value.field == str(tmp_path / 'checkpoints') and 'version' in caught.value.remedy


@pytest.mark.parametrize('extra', [{}, {'p': jnp.float32(0.25), 'key': jax.random.key(3)}])
@pytest.mark.parametrize('to_sample', [False, True])
def test_arrays_that_the_template_lacks_are_not_read(tmp_path, to_sample, extra):
    """As of older versions, which kept the last metrics in the state."""
    state = make_state().replace(extra=extra)
    more = {'penalty': jnp.float32(2), 'metrics': {'loss': jnp.ones(3)}}
    Checkpoints(tmp_path).save(state.replace(extra=state.extra | more), {})
    restored, _ = Checkpoints(tmp_path).restore(state, to_sample=to_sample)
    assert_equal(restored.extra, state.extra)
    assert_equal(restored.nets['net'].ema, state.nets['net'].ema)
    if not to_sample:
        assert_equal(restored, state)


def without_average(state):
    return state.replace(nets={name: net.replace(ema=None) for name, net in state.nets.items()})


def test_an_average_that_the_template_lacks_is_not_read(tmp_path):
    Checkpoints(tmp_path).save(make_state(), {})
    assert_equal(Checkpoints(tmp_path).restore(without_average(make_state()))[0], without_average(make_state()))


def other_params(**params):
    net = create_net(params, optax.adam(0.1), {'mean': jnp.zeros(2)}, ema=True)
    return make_state().replace(nets=make_state().nets | {'net': net})


@pytest.mark.parametrize(
    'template, message',
    [
        (other_params(a=A, b=B, c=jnp.ones(2)), r'nets/net/params/c is absent, not float32\[2\]'),
        (other_params(a=A.T, b=B), r'nets/net/params/a is float32\[2, 3\], not float32\[3, 2\]'),
        (other_params(a=A, b=jnp.ones(3)), r'nets/net/params/b is bfloat16\[3\], not float32\[3\]'),
        (other_params(a=A), r'nets/net/params/b is bfloat16\[3\], not absent'),
        (make_state().replace(extra={'q': A}), r'extra/q is absent, not float32\[2, 3\]'),
    ],
)
def test_other_arrays_than_those_of_the_template_are_refused_by_name(tmp_path, template, message):
    Checkpoints(tmp_path).save(make_state(), {})
    pattern = f'^{tmp_path}/checkpoints: the checkpoint of step 1 is of other networks or optimisers: {message}; set m'
    with pytest.raises(CheckpointError, match=pattern):
        Checkpoints(tmp_path).restore(template)
    with pytest.raises(CheckpointError, match=message.replace('params', 'ema')):
        Checkpoints(tmp_path).restore(template, to_sample=True)


def test_another_optimiser_is_refused_by_name(tmp_path):
    Checkpoints(tmp_path).save(make_state(), {})
    nets = {name: create_net(net.params, optax.sgd(0.1, 0.9)) for name, net in make_state().nets.items()}
    with pytest.raises(CheckpointError, match='nets/bare/opt/0/trace/c is absent'):
        Checkpoints(tmp_path).restore(make_state().replace(nets=nets))


DIVIDED = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
jax.distributed.initialize('127.0.0.1:' + sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from productgen.core.checkpoint import Checkpoints
from productgen.core.sharding import any_process, from_first, layout, make_mesh, to_host
from productgen.core.state import Net, State

def state(shard, scale):
    make = lambda: State(jnp.int32(3), {'a': Net({'w': scale * jnp.arange(4096.0).reshape(2, 2048)}, {}, {})}, {}, {})
    return jax.jit(make, out_shardings=layout(make_mesh(), jax.eval_shape(make), shard))()

checkpoints = Checkpoints(Path(sys.argv[3]))
checkpoints.save(state(True, 1.0), {})
for shard in (False, True):
    w = checkpoints.restore(state(shard, 0.0))[0].nets['a'].params['w']
    assert w.addressable_data(0).shape == ((2, 1024) if shard else (2, 2048)), w.sharding
    assert np.array_equal(to_host(w), np.arange(4096.0).reshape(2, 2048))
process = jax.process_index()
assert any_process(process == 1) and not any_process(False)
assert from_first({'loss': 0.5 + process, 'other': 2.0 * process}) == {'loss': 0.5, 'other': 0.0}
"""


def test_a_state_sharded_over_processes_comes_back_sharded_or_replicated(tmp_path):
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = str(s.getsockname()[1])
    commands = [[sys.executable, '-c', DIVIDED, port, str(i), str(tmp_path)] for i in range(2)]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    texts = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    (step, weights) = Checkpoints(tmp_path, writing=False).read_weights()
    assert step == 3 and np.array_equal(weights['a']['params']['w'], np.arange(4096.0).reshape(2, 2048))


def test_frozen_weights_are_not_written(tmp_path):
    state = make_state()
    large = state.replace(frozen={'vgg': {'w': jnp.ones(100_000)}})
    Checkpoints(tmp_path).save(large, {})
    assert sum(path.stat().st_size for path in tmp_path.rglob('*') if path.is_file()) < 100_000
    assert Checkpoints(tmp_path).restore(large)[0].frozen['vgg']['w'].size == 100_000  # the template's own


def test_only_what_makes_pictures_is_read_to_sample(tmp_path):
    state = make_state()
    Checkpoints(tmp_path).save(state, {})
    restored, _ = Checkpoints(tmp_path, writing=False).restore(state, to_sample=True)
    for name, net in restored.nets.items():
        assert net.params is None and net.opt is None
        assert jax.tree.all(
            jax.tree.map(np.array_equal, (net.ema, net.stats), (state.nets[name].ema, state.nets[name].stats))
        )
    assert jax.tree.all(jax.tree.map(np.array_equal, plain(restored.extra), plain(state.extra)))


@pytest.mark.parametrize('keep, kept', [(1, [3, 4]), (2, [3, 4]), (3, [2, 3, 4])])
def test_only_the_newest_are_kept(tmp_path, keep, kept):
    """At least two of them."""
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in (1, 2, 3, 4):
        checkpoints.save(make_state(step), {'written': step})
    assert checkpoints.steps() == kept
    state, notes = checkpoints.restore(make_state())
    assert state.step == notes['written'] == 4
    assert checkpoints.restore(make_state(), kept[0])[0].step == kept[0]


def test_a_reader_changes_nothing_on_disk(tmp_path):
    Checkpoints(tmp_path).save(make_state(), {})
    incomplete = tmp_path / 'checkpoints' / '2.orbax-checkpoint-tmp'
    incomplete.mkdir()
    assert Checkpoints(tmp_path, writing=False).steps() == [1] and incomplete.exists()
    writer = Checkpoints(tmp_path)
    writer.save(make_state(3), {})  # what is incomplete is removed before, in the background
    assert writer.steps() == [1, 3] and not incomplete.exists()
    assert Checkpoints(tmp_path / 'empty', writing=False).steps() == [] and not (tmp_path / 'empty').exists()


def test_checkpoints_after_a_step_are_set_aside(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=None)
    for _ in range(2):  # the second time there is one of that step already
        for step in (1, 2, 3, 4):
            checkpoints.save(make_state(step), {})
        checkpoints.set_aside_after(2)
        assert checkpoints.steps() == [1, 2]
        assert {path.name for path in (tmp_path / 'damaged').iterdir()} == {'3', '4'}
        assert (tmp_path / 'damaged' / '3' / 'state').is_dir()


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore(make_state()) is None


def test_a_step_that_is_not_there_is_named(tmp_path):
    Checkpoints(tmp_path).save(make_state(4), {})
    with pytest.raises(CheckpointError, match=r'no checkpoint of step 5 in it; choose one of \[4\]') as caught:
        Checkpoints(tmp_path).restore(make_state(), 5)
    assert caught.value.field == str(tmp_path / 'checkpoints')


def test_too_little_space_is_found_before_writing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), {})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(1, 1, 10))
    with pytest.raises(
        CheckpointError,
        match='step 2 cannot be .*: it needs .* has 10 bytes free; the last good one is of step 1',
    ):
        checkpoints.save(make_state(2), {})
    assert checkpoints.steps() == [1]
    needed = 1.1 * sum(leaf.nbytes for leaf in jax.tree.leaves(make_state().replace(frozen={}))) + 2**20
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(1, 1, needed - 1))
    with pytest.raises(CheckpointError, match='cannot be written: it needs about'):
        checkpoints.save(make_state(2), {})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(1, 1, needed))
    checkpoints.save(make_state(2), {})
    assert checkpoints.steps() == [1, 2]


def test_weights_are_read_without_knowing_the_networks(tmp_path):
    state = make_state(4)
    Checkpoints(tmp_path).save(state, {})
    step, weights = Checkpoints(tmp_path, writing=False).read_weights()
    net = state.nets['net']
    assert step == 4 and set(weights['bare']) == {'params'}
    for part, tree in {'params': net.params, 'ema': net.ema, 'stats': net.stats}.items():
        assert weights['net'][part].keys() == tree.keys()
        for name, array in weights['net'][part].items():
            assert isinstance(array, np.ndarray) and array.dtype == tree[name].dtype
            assert np.array_equal(array, tree[name])


def test_weights_that_are_no_plain_dicts_are_read_by_their_fields(tmp_path):
    codebook = create_codebook(jax.random.key(0), 4, 3)
    net = create_net({'layer': {'bias': jnp.ones(2)}}, optax.sgd(0.1), {'codebook': codebook})
    Checkpoints(tmp_path).save(State(jnp.int32(1), {'decoder': net}, {}, {}), {})
    decoder = Checkpoints(tmp_path, writing=False).read_weights()[1]['decoder']
    assert decoder['params'].keys() == {'layer/bias'}
    assert decoder['stats'].keys() == {'codebook/usage', 'codebook/total'}
    for name in ('usage', 'total'):
        assert np.array_equal(decoder['stats'][f'codebook/{name}'], getattr(codebook, name))


def test_damaged_weights_are_skipped(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(make_state(step), {})
    edit_notes(tmp_path, lambda notes: notes['checksums'].update({'nets/net/params/a': 1}), 2)
    assert Checkpoints(tmp_path, writing=False).read_weights()[0] == 1
    with pytest.raises(CheckpointError, match='checksums do not match'):
        Checkpoints(tmp_path, writing=False).read_weights(2)
    with pytest.raises(CheckpointError, match='no checkpoint in'):
        Checkpoints(tmp_path / 'empty').read_weights()


def test_steps_can_be_dropped_and_the_folder_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=None, folder='best')
    for step in (1, 2, 3, 5):
        checkpoints.save(make_state(step), {})
    checkpoints.keep_only(lambda step: step in (1, 3))
    assert checkpoints.steps() == [1, 3] and not has_checkpoint(tmp_path)
    checkpoints.save(make_state(4), {})  # smaller than one that is gone
    assert Checkpoints(tmp_path, folder='best', writing=False).steps() == [1, 3, 4]
    Checkpoints(tmp_path).save(make_state(1), {})
    assert has_checkpoint(tmp_path)
