"""Random streams: stateless, named, and one key a sample."""

from __future__ import annotations

import zlib

import jax
from jax.sharding import PartitionSpec


def stream(key: jax.Array, name: str) -> jax.Array:
    """The random stream `name` of `key`: stateless, and independent of which other streams exist."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def sample_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key a sample, [B], from the base key and the samples' indices or seeds, int [B].

    All that is random about a sample is drawn from its own key, so a picture depends neither on the batch it is in, nor
    on how the batch is divided over devices or over accumulation steps. Each device draws for the samples it has: all
    else that they become, such as the pictures of a generator without labels, is divided after their keys.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and len(indices) % mesh.size == 0:
        indices = jax.lax.with_sharding_constraint(indices, PartitionSpec(*mesh.axis_names))
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


def streams(keys: jax.Array, name: str) -> jax.Array:
    """`stream` for a [B] array of per-sample keys."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal values, [B, *shape], those of each sample from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
