"""Trainings in two stages, and steps that are taken in one of them only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from productgen.config import UserError
from productgen.methods.base import Metrics, Problem


def first_stage_steps(fraction: float, problem: Problem, field: str) -> int:
    """Updates of the first stage, of which there is at least one, as of the second.

    Args:
      fraction: of the training, 0 to below 1; 0 for a training in one stage, which gives 0.
      problem: length of the training.
      field: the setting, for messages.

    Raises:
      UserError: a fraction of a training whose number of updates is not known.
    """
    if not fraction:
        return 0
    if problem.steps is None:
        raise UserError(
            field,
            'a fraction of the training needs a train.duration in images, steps or epochs, not in time',
            'set it to 0.0 to train both stages together',
        )
    return min(max(round(fraction * problem.steps), 1), problem.steps - 1)


def of_own_stage(problem: Problem, start: int) -> Problem:
    """The problem of a network whose steps are counted from `start`: images before it are not its own."""
    return dataclasses.replace(problem, images_before=0) if start else problem


def when(due: jax.Array | bool, step: Callable[[], tuple[Any, Metrics]], rest: Any) -> tuple[Any, Metrics]:
    """Takes a step where it is due.

    Args:
      due: bool scalar; the Python value True makes it unconditional.
      step: () -> (new, metrics).
      rest: what stays in place of `new` where the step is not due, of the same structure, shapes and dtypes.

    Returns:
      `step()`; or `rest`, with metrics that are zeros of weight 0.
    """
    if due is True:
        return step()
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(step)[1])
    return jax.lax.cond(due, step, lambda: (rest, zeros))
