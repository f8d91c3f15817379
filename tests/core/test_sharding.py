"""Shardings of a state, and programs that are compiled for them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from test_devices import EIGHT
from tiny import run_launch

from productgen.core.sharding import (
    bytes_on_each,
    divided,
    from_first,
    jit_sample,
    jit_update,
    layout,
    make_mesh,
    parts,
    put_batch,
    replicated,
    whole,
)
from productgen.core.state import State, create_net
from productgen.core.step import step_net
from productgen.methods.base import weighted

TX = optax.adam(0.1)


def make_state(size=64):
    net = create_net({'w': jnp.ones((size, size)) / size}, TX, {'mean': jnp.zeros(size)}, ema=True)
    frozen = {'features': {'w': jnp.eye(size), 'v': jnp.full((size, size), 2.0)}}
    return State(jnp.int32(5), {'net': net}, {'p': jnp.float32(0.1)}, frozen)


def update(state, batch, key):
    """A step that reads the frozen weights; its metrics are random numbers of its key, and the loss."""
    features = state.frozen['features']

    def loss(params, stats, batch):
        value = jnp.mean((batch['x'] @ params['w'] @ features['w'] @ features['v']) ** 2)
        return value, ({'mean': stats['mean'] + jnp.mean(batch['x'], 0)}, {'loss': value})

    net, metrics = step_net(state.nets['net'], TX, loss, batch)
    metrics |= {'noise': jax.random.normal(key)}
    return state.replace(step=state.step + 1, nets={'net': net}), weighted(metrics)


def batch(mesh, size=64):
    return put_batch(mesh, {'x': np.random.default_rng(0).normal(size=(8, size)).astype(np.float32)})


def pointers(tree):
    return [x.addressable_data(0).unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def test_arrays_are_sharded_along_their_largest_axis_that_devices_divide():
    shapes = {'kernel': (3, 3, 64, 128), 'odd': (3, 64, 77), 'none': (33, 77), 'small': (8, 64), 'scalar': ()}
    shapes = {name: jax.ShapeDtypeStruct(shape, 'float32') for name, shape in shapes.items()}
    state = State(shapes['scalar'], {}, shapes, {'features': {'kernel': shapes['kernel']}})
    places = layout(AbstractMesh((8,), ('data',)), state, True)
    none = dict.fromkeys(('none', 'small', 'scalar'), PartitionSpec())
    specs = {name: place.spec for name, place in places.extra.items()}
    assert specs == {'kernel': PartitionSpec(None, None, None, 'data'), 'odd': PartitionSpec(None, 'data'), **none}
    assert places.frozen['features']['kernel'].spec == places.step.spec == PartitionSpec()


def test_nothing_is_sharded_by_default():
    places = layout(AbstractMesh((8,), ('data',)), jax.eval_shape(make_state), False)
    assert {place.spec for place in jax.tree.leaves(places)} == {PartitionSpec()}


def test_bytes_on_each_device_are_those_of_its_shard():
    mesh = AbstractMesh((8,), ('data',))
    array = lambda place: jax.ShapeDtypeStruct((16, 3), jnp.bfloat16, sharding=place)
    assert bytes_on_each([array(replicated(mesh)), array(divided(mesh))]) == 16 * 3 * 2 + 2 * 3 * 2


def test_an_update_returns_its_state_in_the_same_memory():
    """Frozen weights among it: they are neither copied nor lost."""
    mesh = make_mesh()
    state = jax.jit(make_state, out_shardings=replicated(mesh))()
    before, frozen = pointers(state), jax.device_get(state.frozen)
    program = jit_update(update, mesh)
    for steps in range(1, 3):
        given = state
        state, metrics = program(state, batch(mesh), jax.random.key(1))
        assert pointers(state) == before
        assert given.frozen['features']['w'].is_deleted() and given.nets['net'].opt[0].mu['w'].is_deleted()
        assert jax.tree.all(jax.tree.map(np.array_equal, jax.device_get(state.frozen), frozen))
        assert state.step == 5 + steps and metrics['loss'].weight == 1 and metrics['loss'].value > 0


def test_the_key_of_an_update_is_folded_with_its_step():
    mesh, key = make_mesh(), jax.random.key(7)
    state = jax.jit(make_state, out_shardings=replicated(mesh))()
    program = jit_update(update, mesh)
    for step in (5, 6):
        state, metrics = program(state, batch(mesh), key)
        expected = jax.random.normal(jax.random.fold_in(key, step))
        np.testing.assert_allclose(metrics['noise'].value, expected, rtol=1e-6)


def test_samples_are_of_the_state_the_batch_and_the_key():
    mesh = make_mesh()
    sample = lambda state, batch, key: batch['x'] @ state.nets['net'].ema['w'] + jax.random.normal(key)
    state, key, rows = make_state(), jax.random.key(3), batch(mesh)
    np.testing.assert_allclose(jit_sample(sample, mesh)(state, rows, key), sample(state, rows, key), rtol=1e-5)


SHARDED = """
import jax, numpy as np
from test_sharding import batch, make_state, pointers, update
from productgen.core.sharding import jit_update, layout, make_mesh, to_host

mesh, found = make_mesh(), {}
for shard in (False, True):
    places = layout(mesh, jax.eval_shape(make_state), shard)
    state = jax.jit(make_state, out_shardings=places)()
    program = jit_update(update, mesh, state).lower(state, batch(mesh), jax.random.key(1)).compile()
    before, given = pointers(state), state.frozen
    state, metrics = program(state, batch(mesh), jax.random.key(1))
    assert pointers(state) == before
    assert jax.tree.map(lambda x: x.sharding, state) == places
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves((state.frozen, metrics)))
    assert state.nets['net'].opt[0].mu['w'].addressable_data(0).shape == ((8, 64) if shard else (64, 64))
    # Of the weights only: averages and optimiser state are not gathered, and frozen weights need not be.
    gathered = [line for line in program.as_text().splitlines() if ' all-gather(' in line]
    assert len(gathered) == shard, gathered
    found[shard] = to_host((state, metrics))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found[False], found[True])
"""


def test_frozen_weights_of_a_sharded_state_are_replicated_and_not_gathered():
    env = {**EIGHT, 'PYTHONPATH': f'{EIGHT["PYTHONPATH"]}:{EIGHT["PYTHONPATH"]}/tests:{__file__.rpartition("/")[0]}'}
    done = run_launch([sys.executable, '-c', SHARDED], env=env)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize('count, devices', [(2, 1), (4, 1), (2, 3), (1, 2)])
def test_every_part_has_neighbours_of_every_device(count, devices):
    rows = np.arange(24)
    split = parts({'x': rows}, count, devices)['x']
    assert split.shape == (count, 24 // count)
    expected = [np.concatenate([np.split(own, count)[i] for own in np.split(rows, devices)]) for i in range(count)]
    np.testing.assert_array_equal(split, expected)


def test_without_a_mesh_nothing_is_replicated():
    tree = {'w': jnp.ones(2)}
    assert whole(tree) is tree


def test_one_process_decides_by_its_own_values():
    assert from_first({'loss': 0.1}) == {'loss': 0.1}
