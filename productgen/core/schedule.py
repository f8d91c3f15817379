"""Values that may change over a training: `0.7` is constant, `150->15` moves from one to the other."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from productgen.config import UserError


@dataclasses.dataclass(frozen=True)
class Annealed:
    """A value that moves from `start` to `end` along half a cosine.

    Attributes:
      start: value at step 0.
      end: value at `steps` and afterwards.
      steps: updates from one to the other; unused where they are equal.
    """

    start: float
    end: float
    steps: int = 1

    def __call__(self, step: jax.Array) -> jax.Array | float:
        """The value at an update, counted from 0: float32, or the Python number where it is constant."""
        if self.start == self.end:
            return self.start
        done = jnp.clip(jnp.asarray(step, jnp.float32) / self.steps, 0, 1)
        return self.end + (self.start - self.end) * 0.5 * (1 + jnp.cos(math.pi * done))


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A fraction that rises linearly from 0 to 1.

    Attributes:
      begin: thousands of images up to which it is 0.
      end: thousands of images from which it is 1.
    """

    begin: float
    end: float

    def __call__(self, kimg: jax.Array) -> jax.Array:
        """The fraction after so many thousands of images."""
        return jnp.clip((kimg - self.begin) / max(self.end - self.begin, 1e-6), 0, 1)


def parse_annealed(value: float | str, field: str, steps: int | None = None, fraction: float = 1.0) -> Annealed:
    """Reads a value that may change over a training.

    Args:
      value: a number, or `A->B`.
      field: the config field, for messages.
      steps: updates in the whole training; None where it is bounded by time.
      fraction: fraction of the training over which the value moves, above 0 to 1.

    Raises:
      UserError: not numbers, a fraction out of range, or a value that moves in a training bounded by time.
    """
    if not 0 < fraction <= 1:
        raise UserError(
            field, f'the fraction of the training to anneal over is {fraction}; it must be above 0 and at most 1'
        )
    numbers = _ends(value, field)
    if numbers[0] != numbers[1] and steps is None:
        raise UserError(field, f'{value!r} needs a train.duration in images, steps or epochs, not in time')
    return Annealed(*numbers, max(round((steps or 1) * fraction), 1))


def parse_ramp(value: str, field: str) -> Ramp:
    """Reads a ramp, `A->B` in thousands of images.

    Raises:
      UserError: the text is something else, or the end is before the beginning.
    """
    begin, end = _ends(value, field)
    if '->' not in value or not 0 <= begin <= end:
        raise UserError(field, f"expected 'A->B' with 0 <= A <= B, thousands of images, got {value!r}")
    return Ramp(begin, end)


def _ends(value: float | str, field: str) -> tuple[float, float]:
    """The two numbers of `A->B`; one number counts as both."""
    start, arrow, end = str(value).partition('->')
    try:
        numbers = float(start), float(end if arrow else start)
    except ValueError:
        numbers = (math.nan, math.nan)
    if not all(map(math.isfinite, numbers)):
        raise UserError(field, f"expected a number, or 'A->B' for a value that moves, got {value!r}")
    return numbers
