"""One code path from one CPU to many hosts: `jit` over a mesh whose single axis `data` divides the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """A mesh over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec('data'))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a batch, as part of the global arrays."""
    place = divided(mesh)
    return {name: jax.make_array_from_process_local_data(place, rows) for name, rows in batch.items()}


def jit_update(update: Callable, mesh: Mesh) -> Callable:
    """`(state, batch, key) -> (state, metrics)` with the state replicated and donated, the batch divided."""
    same = replicated(mesh)
    # On CPUs XLA takes away the barriers around what is to be recomputed (`model.remat`) and then, as a common
    # subexpression, the recomputation: all activations would be kept. Programs without barriers stay what they are.
    keep = {'xla_disable_hlo_passes': 'cse_barrier_expander'} if jax.default_backend() == 'cpu' else None
    places = {'in_shardings': (same, divided(mesh), same), 'out_shardings': (same, same)}
    return jax.jit(update, donate_argnums=0, compiler_options=keep, **places)


def jit_sample(sample: Callable, mesh: Mesh) -> Callable:
    """`(state, batch, key) -> images`, computed where the batch rows lie and then available everywhere."""
    same = replicated(mesh)
    return jax.jit(sample, in_shardings=(same, divided(mesh), same), out_shardings=same)


def to_host(tree: Any) -> Any:
    """Replicated arrays as NumPy arrays."""
    return jax.tree.map(np.asarray, tree)


def from_first(values: dict[str, float]) -> dict[str, float]:
    """What the first process found, for all: others may differ in the last bit, and decide otherwise by it."""
    if jax.process_count() == 1:
        return values
    found = multihost_utils.broadcast_one_to_all(np.asarray(list(values.values()), np.float32))
    return dict(zip(values, map(float, found), strict=True))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process; all processes must ask at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
