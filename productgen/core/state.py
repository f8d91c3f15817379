"""Training state.

What is static (modules, optimisers) lives in a method; what is an array lives here, so that one checkpoint routine, one
sharding rule and one loop serve every method.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

PyTree = Any


@struct.dataclass
class Net:
    """One trained network.

    Attributes:
      params: trainable weights.
      stats: arrays the forward pass keeps up to date (batch-norm statistics, mean w, ...).
      opt: optimiser state.
      ema: moving average of `params`, what pictures are made from; None where a network has none.
    """

    params: PyTree
    stats: PyTree
    opt: PyTree
    ema: PyTree = None


@struct.dataclass
class State:
    """Everything training changes.

    Attributes:
      step: int32 scalar, number of updates done.
      nets: networks by name.
      extra: further arrays of the method (path-length mean, augmentation probability, ...).
      frozen: weights that are only read; they are not written into checkpoints.
    """

    step: jax.Array
    nets: dict[str, Net]
    extra: dict[str, PyTree]
    frozen: dict[str, PyTree]


def create_net(params: PyTree, tx: optax.GradientTransformation, stats: PyTree = None, ema: bool = False) -> Net:
    """A network at step 0; with `ema` its average starts at the initial weights."""
    return Net(
        params=params,
        stats={} if stats is None else stats,
        opt=tx.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )
