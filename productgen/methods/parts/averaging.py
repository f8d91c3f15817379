"""A training step of a network whose weights are averaged: keys, gradient, optimiser, moving average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import optax

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys
from productgen.core.state import Net
from productgen.core.step import average, ema_decay, step_net
from productgen.methods.base import Batch, Problem


class Averaging(Protocol):
    """The fields of a `method` section that describe the moving average of the weights.

    Attributes:
      ema_kimg: half-life of the average, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    ema_kimg: float
    ema_rampup: float


def check_not_negative(section: Any, *fields: str) -> None:
    """Raises a UserError for the first of the fields of a `method` section that is negative."""
    for field in fields:
        if getattr(section, field) < 0:
            raise UserError(f'method.{field}', 'must not be negative')


def keyed(batch: Batch, rng: jax.Array, indices: jax.Array) -> Batch:
    """A batch with its pictures as floats and a random key for each row.

    Args:
      batch: `image` uint8 [B, H, W, 3], and others.
      rng: base key.
      indices: int [B], the positions in a training batch, or seeds.

    Returns:
      the batch with `image` float32 [B, H, W, 3] in [-1, 1] and `key` [B].
    """
    return batch | {'image': to_float(batch['image']), 'key': sample_keys(rng, indices)}


def step_averaged(
    net: Net,
    tx: optax.GradientTransformation,
    loss: Callable,
    batch: Batch,
    *,
    problem: Problem,
    section: Averaging,
    step: jax.Array,
) -> tuple[Net, dict[str, jax.Array]]:
    """One optimiser step of a network, followed by a step of its moving average.

    Args:
      net: the network.
      tx: its optimiser.
      loss: `(params, stats, batch) -> (loss, (stats, metrics))`, see `productgen.core.step.gradients`.
      batch: arrays [B, ...].
      problem: batch size, number of parts and of devices.
      section: half-life of the average.
      step: earlier steps of this network, int scalar.

    Returns:
      the network, and the values of its metrics, `grad_norm` among them.
    """
    net, metrics = step_net(net, tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
    decay = ema_decay(step, problem.batch_size, section.ema_kimg, section.ema_rampup, problem.images_before)
    return average(net, decay), metrics
