"""Paths of arrays, as text."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import struct

from productgen.core.paths import from_keystr, leaf_path, named_leaves, split_path


class Pair(NamedTuple):
    first: float
    second: float


@struct.dataclass
class Record:
    field: float
    items: tuple


@jax.tree_util.register_pytree_node_class
class Plain:
    """A node whose keys JAX does not know."""

    def __init__(self, value):
        self.value = value

    def tree_flatten(self):
        return (self.value,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


TREES = [
    ({'generator': {'conv0_1': {'kernel': 1.0}}}, ['generator/conv0_1/kernel']),
    (Record(1.0, (2.0, [3.0])), ['field', 'items/0', 'items/1/0']),
    ({'a': Pair(1.0, 2.0)}, ['a/first', 'a/second']),
    ({'a': Plain(1.0)}, ['a/0']),
    ({7: 1.0, 10: 2.0}, ['7', '10']),
    ({'a/b': {'~': 1.0, "it's": 2.0, '"': 3.0, ']': 4.0, '\\n': 5.0}}, None),
    ({'a': {'b/c': 1.0, 'b': {'c': 2.0}}}, ['a/b/c', 'a/b~1c']),
]


@pytest.mark.parametrize('tree, expected', TREES)
def test_components_are_joined_by_slashes(tree, expected):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    paths = [leaf_path(path) for path, _ in leaves]
    assert expected is None or paths == expected
    assert named_leaves(tree) == dict(zip(paths, jax.tree.leaves(tree), strict=True))


@pytest.mark.parametrize('tree, expected', TREES)
def test_components_without_escapes_are_keys(tree, expected):
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        assert split_path(leaf_path(path)) == [jax.tree_util.keystr((key,), simple=True) for key in path]


def test_slashes_and_tildes_within_a_component_are_escaped():
    assert list(named_leaves({'a/b': {'~1': 1}})) == ['a~1b/~01']
    assert split_path('a~1b/~01') == ['a/b', '~1']


@pytest.mark.parametrize('tree', [tree for tree, _ in TREES])
def test_the_text_of_keystr_gives_the_same_path(tree):
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        assert from_keystr(jax.tree_util.keystr(path)) == leaf_path(path)


def test_paths_of_optimisers_can_be_read_from_the_text_of_keystr():
    adam = optax.inject_hyperparams(optax.scale_by_adam)(b1=optax.linear_schedule(0.0, 1.0, 9))
    labels = {'x': 'free', 'y': 'frozen'}
    tx = optax.multi_transform({'free': optax.chain(optax.clip(1.0), adam), 'frozen': optax.set_to_zero()}, labels)
    leaves = jax.tree_util.tree_leaves_with_path(tx.init({'x': jnp.ones(2), 'y': jnp.ones(2)}))
    found = [from_keystr(jax.tree_util.keystr(path)) for path, _ in leaves]
    assert found == [leaf_path(path) for path, _ in leaves]
    assert 'inner_states/free/inner_state/1/inner_state/mu/x' in found


@pytest.mark.parametrize('text', ['nets/a', ".nets['a", '.nets[a]', ".nets['a'] x", '[]'])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match='is not the path of an array'):
        from_keystr(text)
