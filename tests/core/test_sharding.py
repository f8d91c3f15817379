"""Shardings of a state, and programs that are compiled for them."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec
from tiny import EIGHT, run_launch

from productgen.core.rng import normal, sample_keys
from productgen.core.sharding import (
    bytes_on_each,
    divided,
    from_first,
    jit_sample,
    jit_update,
    layout,
    make_mesh,
    put_batch,
    replicate,
    replicated,
    split_rows,
)
from productgen.core.state import State, create_net
from productgen.core.step import average, step_net
from productgen.methods.base import weighted

TX = optax.adam(0.1)


SIZE, NOISE = 64, 48


def make_state():
    square = lambda value: value * jnp.eye(SIZE) + 0.01
    net = create_net({'w': square(1.0)}, TX, {'mean': square(0.5)}, ema=True)
    frozen = {'features': {'w': square(0.9), 'v': square(1.1)}}
    return State(jnp.int32(5), {'net': net}, {'path': square(0.8)}, frozen)


def update(state, batch, key):
    """Two steps of a network, which read all parts of the state but averages; some metrics are random numbers."""
    features, path = state.frozen['features'], state.extra['path']

    def loss(params, stats, batch):
        x = batch['x'] @ params['w'] @ stats['mean'] @ path @ features['w'] @ features['v']
        value = jnp.mean(x**2)
        return value, ({'mean': 0.9 * stats['mean'] + 0.1 * jnp.mean(x)}, {'loss': value})

    def penalty(params, stats, batch):
        return jnp.mean((batch['x'] @ params['w'] @ path) ** 2), (stats, {})

    before = jnp.mean(batch['x'] @ state.nets['net'].params['w'])
    net, metrics = step_net(state.nets['net'], TX, loss, batch)
    net, _ = step_net(net, TX, penalty, batch)
    own = normal(sample_keys(key, jnp.arange(8)), (NOISE,))
    metrics |= {'before': before, 'noise': jax.random.normal(key), 'own': jnp.mean(own**2)}
    return state.replace(step=state.step + 1, nets={'net': average(net, 0.9)}), weighted(metrics)


def batch(mesh):
    return put_batch(mesh, {'x': np.random.default_rng(0).normal(size=(8, SIZE)).astype(np.float32)})


def pointers(tree):
    return [x.addressable_data(0).unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


def test_arrays_are_sharded_along_their_largest_axis_that_devices_divide():
    shapes = {'kernel': (3, 3, 64, 128), 'odd': (3, 64, 77), 'edge': (8, 128)}
    shapes |= {'none': (33, 77), 'small': (8, 127), 'scalar': ()}
    shapes = {name: jax.ShapeDtypeStruct(shape, 'float32') for name, shape in shapes.items()}
    state = State(shapes['scalar'], {}, shapes, {'features': {'kernel': shapes['kernel']}})
    places = layout(AbstractMesh((8,), ('data',)), state, True)
    none = dict.fromkeys(('none', 'small', 'scalar'), PartitionSpec())
    specs = {name: place.spec for name, place in places.extra.items()}
    second = dict.fromkeys(('odd', 'edge'), PartitionSpec(None, 'data'))
    assert specs == {'kernel': PartitionSpec(None, None, None, 'data'), **second, **none}
    assert places.frozen['features']['kernel'].spec == places.step.spec == PartitionSpec()


def test_nothing_is_sharded_by_default():
    places = layout(AbstractMesh((8,), ('data',)), jax.eval_shape(make_state), False)
    assert {place.spec for place in jax.tree.leaves(places)} == {PartitionSpec()}


def test_bytes_on_each_device_are_those_of_its_shard():
    mesh = AbstractMesh((8,), ('data',))
    array = lambda place: jax.ShapeDtypeStruct((16, 3), jnp.bfloat16, sharding=place)
    assert bytes_on_each([array(replicated(mesh)), array(divided(mesh))]) == 16 * 3 * 2 + 2 * 3 * 2


def test_an_update_returns_its_state_in_the_same_memory():
    """Its frozen weights too: they are neither copied nor lost."""
    mesh = make_mesh()
    program = jit_update(update, mesh)
    state = jax.jit(make_state, out_shardings=replicated(mesh))()
    frozen = jax.device_get(state.frozen)
    state, _ = program(state, batch(mesh), jax.random.key(1))  # XLA may own the memory of constants of `make_state`
    before = pointers(state)
    for steps in range(2, 4):
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
    found, expected = jit_sample(sample, mesh)(state, rows, key), sample(state, rows, key)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


SHARDED = """
from collections import Counter
import jax, jax.numpy as jnp, numpy as np
from benchmarks.communication import collectives
from test_sharding import NOISE, batch, make_state, pointers, update
from productgen.core.rng import sample_keys
from productgen.core.sharding import jit_sample, jit_update, layout, make_mesh, to_host

mesh, found = make_mesh(), {}
for shard in (False, True):
    places = layout(mesh, jax.eval_shape(make_state), shard)
    state = jax.jit(make_state, out_shardings=places)()
    program = jit_update(update, mesh, state).lower(state, batch(mesh), jax.random.key(1)).compile()
    state, _ = program(state, batch(mesh), jax.random.key(1))
    before = pointers(state)
    state, metrics = program(state, batch(mesh), jax.random.key(1))
    assert pointers(state) == before
    assert jax.tree.map(lambda x: x.sharding, state) == places
    assert all(x.sharding.is_fully_replicated for x in jax.tree.leaves((state.frozen, metrics)))
    assert state.nets['net'].opt[0].mu['w'].addressable_data(0).shape == ((8, 64) if shard else (64, 64))
    # Weights of both steps, statistics and `extra`; no averages, optimiser state, frozen weights or activations.
    gathered = Counter(one.arrays for one in collectives(program) if one.kind != 'all-reduce')
    assert gathered == ({('f32[64,64]',): 4} if shard else {}), gathered
    assert f'f32[8,{NOISE}]' not in program.as_text()  # each device draws its own samples' numbers
    sample = jit_sample(lambda state, batch, key: batch['x'] @ state.nets['net'].ema['w'], mesh)
    gathered = Counter(one.arrays for one in collectives(sample.lower(state, batch(mesh), 0).compile()))
    assert gathered == Counter({('f32[64,64]',): int(shard), ('f32[8,64]',): 1}), gathered  # weights and pictures
    found[shard] = to_host((state, metrics))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found[False], found[True])
with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    keys = jax.jit(lambda key: sample_keys(key, jnp.arange(6)))(jax.random.key(0))  # 8 devices do not divide them
expected = [jax.random.fold_in(jax.random.key(0), i) for i in range(6)]
np.testing.assert_array_equal(jax.random.key_data(keys), [jax.random.key_data(key) for key in expected])
"""


def test_of_a_sharded_state_only_what_an_update_computes_with_is_gathered():
    env = {**EIGHT, 'PYTHONPATH': f'{EIGHT["PYTHONPATH"]}:{EIGHT["PYTHONPATH"]}/tests:{__file__.rpartition("/")[0]}'}
    done = run_launch([sys.executable, '-c', SHARDED], env=env)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize('count, devices', [(2, 1), (4, 1), (2, 3), (1, 2)])
def test_every_part_has_neighbours_of_every_device(count, devices):
    rows = np.arange(24)
    split = split_rows({'x': rows}, count, devices)['x']
    assert split.shape == (count, 24 // count)
    expected = [np.concatenate([np.split(own, count)[i] for own in np.split(rows, devices)]) for i in range(count)]
    np.testing.assert_array_equal(split, expected)


def test_without_a_mesh_nothing_is_replicated():
    tree = {'w': jnp.ones(2)}
    assert replicate(tree) is tree


def test_one_process_decides_by_its_own_values():
    assert from_first({'loss': 0.1}) == {'loss': 0.1}
