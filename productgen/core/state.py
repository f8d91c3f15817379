"""The training state: all arrays of a training. What is static (modules, optimisers) is in the method.

So one checkpoint routine, one sharding rule and one loop serve every method.
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
      stats: arrays that the forward pass updates (batch-norm statistics, mean w, ...).
      opt: optimiser state.
      ema: moving average of `params`, which pictures are made from; None where a network has none.
    """

    params: PyTree
    stats: PyTree
    opt: PyTree
    ema: PyTree = None


@struct.dataclass
class State:
    """The state of a training.

    Attributes:
      step: int32 scalar, number of updates done.
      nets: networks by name.
      extra: further arrays of the method (path-length mean, augmentation probability, ...).
      frozen: weights that are only read, such as published ones; they are not written into checkpoints.
    """

    step: jax.Array
    nets: dict[str, Net]
    extra: dict[str, PyTree]
    frozen: dict[str, PyTree]


def create_net(params: PyTree, tx: optax.GradientTransformation, stats: PyTree = None, ema: bool = False) -> Net:
    """A network at step 0.

    Args:
      params: initial weights.
      tx: the optimiser.
      stats: initial statistics, by default none.
      ema: keep an average of the weights, which starts as a copy of them.
    """
    return Net(
        params=params,
        stats={} if stats is None else stats,
        opt=tx.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )
