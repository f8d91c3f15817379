"""One code path from one CPU to many hosts: `jit` over a mesh whose single axis `data` divides the batch.

With `train.shard_state` it divides the whole state too (Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward
Training Trillion Parameter Models"): weights are gathered for an update, averages and optimiser state stay where they
are.
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

_SMALL = 1024


def make_mesh() -> Mesh:
    """A mesh over all devices of all processes."""
    return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def divided(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec('data'))


def layout(mesh: Mesh, state: Any, shard: bool) -> Any:
    """Where the arrays of a state are to lie, as a tree of shardings.

    Args:
      mesh: the devices.
      state: arrays or shapes.
      shard: divide each over the devices, along the largest axis that they divide evenly; arrays without one, and those
        of less than 1,024 numbers, whose transfer takes longer to begin than to do, are on every device.
    """
    return jax.tree.map(lambda x: _place(mesh, x.shape) if shard else replicated(mesh), state)


def _place(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    axes = [axis for axis, length in enumerate(shape) if length % mesh.size == 0]
    if not axes or math.prod(shape) < _SMALL:
        return replicated(mesh)
    axis = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'data'))


def bytes_on_each(tree: Any) -> int:
    """What a tree of arrays or shapes, which have shardings, takes on each device."""
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(size(x) for x in jax.tree.leaves(tree))


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a batch, as part of the global arrays."""
    place = divided(mesh)
    return {name: jax.make_array_from_process_local_data(place, rows) for name, rows in batch.items()}


def jit_update(update: Callable, mesh: Mesh, state: Any = None) -> Callable:
    """`(state, batch, key) -> (state, metrics)` with the state donated, the batch divided, and the metrics everywhere.

    Args:
      update: `(state, batch, key)`, whose key is that of the step: the program's, which is that of all steps, with the
        state's count of steps folded in.
      mesh: the devices.
      state: arrays or shapes that lie where those of the state are, and stay, see `layout`; by default on every device.
    """
    same = replicated(mesh)
    places = jax.tree.map(lambda x: x.sharding, state) if state is not None else same

    def gathered(state, batch, key):
        # Left to itself the compiler may divide the arithmetic of a layer by its channels, and send activations.
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            nets = {name: n.replace(params=whole(n.params), stats=whole(n.stats)) for name, n in state.nets.items()}
            state = state.replace(nets=nets, extra=whole(state.extra), frozen=whole(state.frozen))
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
    """Options of XLA's compiler for CPUs, those that this version of it knows; none where there are other devices."""
    if jax.default_backend() != 'cpu':
        return {}
    options = {
        # It would take away the barriers around what is to be computed once (`computed_once`) or again (`model.remat`),
        # and then, as a common subexpression, the recomputation: all activations would be kept.
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
    """`(state, batch, key) -> images`, computed where the batch rows lie and then available everywhere."""
    same = replicated(mesh)

    def gathered(state, batch, key):
        return sample(jax.lax.with_sharding_constraint(state, same), batch, key)

    places = {'in_shardings': (None, divided(mesh), same), 'out_shardings': same}
    return jax.jit(gathered, compiler_options=_cpu_options(), **places)


def to_host(tree: Any) -> Any:
    """Arrays, wherever they lie, as NumPy arrays; all processes must ask for the same."""

    def fetch(x):
        here = not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated
        return np.asarray(x if here else multihost_utils.process_allgather(x, tiled=True))

    return jax.tree.map(fetch, tree)


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


def whole(tree: Any) -> Any:
    """The same arrays, available on every device in the update of a divided state; see `productgen.core.sharding`.

    Weights that networks compute with, and the gradients they give, go through it, so that the batch alone divides
    their work. Parameters from before the update, statistics, and what `gradients` differentiates have gone through it
    already; averages, and weights that changed in the same update, have not.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def parts(batch: Any, count: int, devices: int) -> Any:
    """[B, ...] -> [count, B / count, ...], each device keeping its rows and giving some to every part.

    The rows of a part come in runs of neighbours, so that groups of samples stay together.
    """

    def divide(x):
        size, *rest = x.shape
        x = x.reshape(devices, count, size // (devices * count), *rest)
        return x.swapaxes(0, 1).reshape(count, size // count, *rest)

    return jax.tree.map(divide, batch)
