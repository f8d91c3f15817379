"""Random streams: stateless, named, and with one key per sample."""

from __future__ import annotations

import zlib

import jax
from jax.sharding import PartitionSpec


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of the random stream `name` of `key`, which does not depend on what other streams there are."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def sample_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key per sample, [B], from a base key and the indices or seeds of the samples, int [B].

    All that is random about a sample is drawn from its own key, so that a picture depends neither on the batch it is in
    nor on how the batch is divided over devices or over parts. Within a mesh the keys are divided over the devices, and
    so is what is computed from them, such as the pictures of a generator without labels.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and len(indices) % mesh.size == 0:
        indices = jax.lax.with_sharding_constraint(indices, PartitionSpec(*mesh.axis_names))
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


def streams(keys: jax.Array, name: str) -> jax.Array:
    """`stream` of each of the keys [B]."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal values [B, *shape], those of sample i from keys[i]."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
