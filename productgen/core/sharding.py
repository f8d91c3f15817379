"""One code path from one CPU to many hosts: `jit` over a mesh whose single axis `data` divides the batch.

With `train.shard_state` the state is sharded too (Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training
Trillion Parameter Models"): weights are gathered for an update, averages and optimiser state are not.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from productgen.core.state import State

_SMALL = 1024  # numbers; the transfer of fewer takes longer to begin than to do


def make_mesh() -> Mesh:
    """A mesh over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of an array that is the same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The sharding of an array whose first axis is divided over the devices."""
    return NamedSharding(mesh, PartitionSpec('data'))


def layout(mesh: Mesh, state: State, shard: bool) -> State:
    """The sharding of each array of a state.

    Args:
      mesh: the devices.
      state: arrays or shapes.
      shard: divide each array over the devices, along its largest axis that they divide evenly. Arrays without such an
        axis, those of less than 1,024 numbers, and the frozen weights, which would have to be gathered in every update,
        are replicated all the same.
    """
    same = replicated(mesh)
    places = jax.tree.map(lambda x: _place(mesh, x.shape) if shard else same, state)
    return places.replace(frozen=jax.tree.map(lambda _: same, state.frozen))


def _place(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    if not axes or math.prod(shape) < _SMALL:
        return replicated(mesh)
    axis = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def bytes_on_each(tree: Any) -> int:
    """Bytes that a tree of arrays, or of shapes with shardings, takes on each device."""
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(size(x) for x in jax.tree.leaves(tree))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a batch, as part of the global arrays."""
    place = divided(mesh)
    return {name: jax.make_array_from_process_local_data(place, rows) for name, rows in batch.items()}


def jit_update(update: Callable, mesh: Mesh, state: Any = None) -> Callable:
    """Compiles an update: `(state, batch, key) -> (state, metrics)`, the batch divided and the metrics replicated.

    The state is donated: each of its arrays is returned in the memory of the one passed in, which is deleted. The
    frozen weights, which no update changes, come back without being copied.

    Args:
      update: `(state, batch, key) -> (state, metrics)`. Its key is the one passed to the program, the same in all
        steps, with the state's number of steps folded in.
      mesh: the devices.
      state: arrays, or shapes with shardings, that have the shardings of the state, before and after; see `layout`. By
        default the state is replicated.
    """
    same = replicated(mesh)
    places = jax.tree.map(lambda x: x.sharding, state) if state is not None else same

    def gathered(state, batch, key):
        # Otherwise the compiler may divide the arithmetic of a layer by its channels and send activations.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            nets = {
                name: n.replace(params=replicate(n.params), stats=replicate(n.stats)) for name, n in state.nets.items()
            }
            state = state.replace(nets=nets, extra=replicate(state.extra), frozen=replicate(state.frozen))
            return update(state, batch, jax.random.fold_in(key, state.step))

    return jax.jit(
        gathered,
        in_shardings=(places, divided(mesh), same),
        out_shardings=(places, same),
        donate_argnums=0,
        compiler_options=_cpu_options(),
    )


@functools.cache
def _cpu_options() -> dict[str, str]:
    """Options of XLA's compiler for CPUs, as far as this version of it knows them; none for other devices."""
    if jax.default_backend() != 'cpu':
        return {}
    options = {
        # That pass would remove the barriers around what is to be computed once (`computed_once`) or again
        # (`model.remat`), so that the recomputation were eliminated as a common subexpression and all activations kept.
        'xla_disable_hlo_passes': 'cse_barrier_expander',
        # No convolutions by YNNPACK, which uses one core for most of them.
        'xla_cpu_experimental_ynn_fusion_type': '',
    }
    known = {}
    for name, value in options.items():
        with contextlib.suppress(jax.errors.JaxRuntimeError, ValueError):
            jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
            known[name] = value
    return known


def jit_sample(sample: Callable, mesh: Mesh) -> Callable:
    """Compiles a sampler: `(state, batch, key) -> images`, the batch divided and the images replicated."""
    same = replicated(mesh)

    def gathered(state, batch, key):
        return sample(jax.lax.with_sharding_constraint(state, same), batch, key)

    places = {'in_shardings': (None, divided(mesh), same), 'out_shardings': same}
    return jax.jit(gathered, compiler_options=_cpu_options(), **places)


def to_host(tree: Any) -> Any:
    """A tree of arrays as NumPy arrays; where arrays lie on several hosts, every process must call it alike."""

    def fetch(x):
        here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
        return np.asarray(x if here else multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(fetch, tree)


def from_first(values: dict[str, float]) -> dict[str, float]:
    """The values of the first process, in every process; their own may differ in the last bit, and so decide otherwise.

    Values are float32. Every process must call it with the same names.
    """
    if jax.process_count() == 1:
        return values
    found = multihost_utils.broadcast_one_to_all(np.asarray(list(values.values()), np.float32))
    return dict(zip(values, map(float, found), strict=True))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true in any process; every process must call it at the same step."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


def replicate(tree: Any) -> Any:
    """Replicates arrays within the update of a sharded state; without a mesh it does nothing.

    Weights that networks compute with, and their gradients, go through it, so that work is divided by the rows of the
    batch only. Parameters and statistics that an update starts from have gone through it in `jit_update`, as have those
    that `gradients` differentiates; averages, and weights that were updated in the same step, have not.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def divide(tree: Any) -> Any:
    """Divides arrays [B, ...] over the devices within an update; without a mesh it does nothing.

    For rows that were computed from replicated ones, so that what follows is divided by the rows of the batch again.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec(*mesh.axis_names))


def split_rows(batch: Any, count: int, devices: int) -> Any:
    """Splits arrays [B, ...] into parts, [count, B / count, ...].

    Each device keeps its rows, and every part has the same number of rows of each device. The rows that a part has of a
    device are neighbours, so that groups of samples stay together.

    Args:
      batch: tree of arrays [B, ...], B divisible by `count` x `devices`.
      count: number of parts.
      devices: number of devices that B is divided over.
    """

    def divide(x):
        size, *rest = x.shape
        x = x.reshape(devices, count, size // (devices * count), *rest)
        return x.swapaxes(0, 1).reshape(count, size // count, *rest)

    return jax.tree.map(divide, batch)


def join_rows(parts: Any, devices: int) -> Any:
    """The inverse of `split_rows`: [count, B / count, ...] -> [B, ...]."""

    def join(x):
        count, size, *rest = x.shape
        return x.reshape(count, devices, size // devices, *rest).swapaxes(0, 1).reshape(count * size, *rest)

    return jax.tree.map(join, parts)
