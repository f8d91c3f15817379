"""Checkpoints round-trip every kind of array and say plainly when they cannot be written."""

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
from productgen.core.state import State, create_net
from productgen.nets.vq import create_codebook

Usage = namedtuple('Usage', 'total used free')


def make_state(step=1):
    params = {'a': jnp.arange(6.0).reshape(2, 3), 'b': jnp.ones(3, ml_dtypes.bfloat16)}
    net = create_net(params, optax.adam(0.1), {'mean': jnp.zeros(2)}, ema=True)
    bare = create_net({'c': jnp.ones(1)}, optax.sgd(0.1))
    extra = {'p': jnp.float32(0.25), 'key': jax.random.key(3)}
    return State(jnp.int32(step), {'net': net, 'bare': bare}, extra, {'vgg': {'w': jnp.ones(1000)}})


def plain(tree):
    is_key = lambda x: jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if is_key(x) else x), tree)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = make_state()
    Checkpoints(tmp_path).save(state, {'seconds': 12.5})
    restored, notes = Checkpoints(tmp_path).restore(state)
    assert notes == {'seconds': 12.5}
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(plain(restored)), jax.tree.leaves(plain(state)), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


DIVIDED = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
jax.distributed.initialize('127.0.0.1:' + sys.argv[1], num_processes=2, process_id=int(sys.argv[2]))
from productgen.core.checkpoint import Checkpoints
from productgen.core.sharding import layout, make_mesh, to_host
from productgen.state import Net, State

def state(shard, scale):
    make = lambda: State(jnp.int32(3), {'a': Net({'w': scale * jnp.arange(4096.0).reshape(2, 2048)}, {}, {})}, {}, {})
    return jax.jit(make, out_shardings=layout(make_mesh(), jax.eval_shape(make), shard))()

checkpoints = Checkpoints(Path(sys.argv[3]))
checkpoints.save(state(True, 1.0), {})
for shard in (False, True):
    w = checkpoints.restore(state(shard, 0.0))[0].nets['a'].params['w']
    assert w.addressable_data(0).shape == ((2, 1024) if shard else (2, 2048)), w.sharding
    assert np.array_equal(to_host(w), np.arange(4096.0).reshape(2, 2048))
"""


def test_a_state_divided_over_processes_comes_back_divided_or_whole(tmp_path):
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


def test_only_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(make_state(step), {})
    assert checkpoints.steps() == [2, 3]


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore(make_state()) is None


def test_a_step_that_is_not_there_is_named(tmp_path):
    Checkpoints(tmp_path).save(make_state(4), {})
    with pytest.raises(CheckpointError, match=r'no checkpoint of step 5 .* there are \[4\]'):
        Checkpoints(tmp_path).restore(make_state(), 5)


def test_too_little_space_is_found_before_writing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), {})
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: Usage(1, 1, 10))
    with pytest.raises(CheckpointError, match='step 2 does not fit.*last good one is of step 1.*Free some space'):
        checkpoints.save(make_state(2), {})
    assert checkpoints.steps() == [1]


def test_a_disk_that_fills_up_while_writing_is_told(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(checkpoints._manager, 'save', full)
    with pytest.raises(CheckpointError, match='filled up while it was written; there is no earlier one'):
        checkpoints.save(make_state(1), {})


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


def test_damaged_weights_are_passed_over(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(make_state(step), {})
    notes = tmp_path / 'checkpoints' / '2' / 'notes' / 'metadata'
    place = ".nets['net'].params['a']"
    content = json.loads(notes.read_text())
    content['checksums'][place] += 1
    notes.write_text(json.dumps(content))
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
