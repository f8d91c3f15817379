"""Values that change over a training: `0.7` stays, `150->15` goes from one to the other."""

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
      start: value at the beginning.
      end: value at the end and afterwards.
      steps: updates from one to the other; unused where they are equal.
    """

    start: float
    end: float
    steps: int = 1

    def __call__(self, step: jax.Array) -> jax.Array | float:
        """The value at an update, counted from 0."""
        if self.start == self.end:
            return self.start
        share = jnp.clip(jnp.asarray(step, jnp.float32) / self.steps, 0, 1)
        return self.end + (self.start - self.end) * 0.5 * (1 + jnp.cos(math.pi * share))


@dataclasses.dataclass(frozen=True)
class Ramp:
    """A share that rises from 0 to 1 along a straight line.

    Attributes:
      begin: thousands of images at which it leaves 0.
      end: thousands of images at which it reaches 1.
    """

    begin: float
    end: float

    def __call__(self, kimg: jax.Array) -> jax.Array:
        """The share after an amount of images."""
        return jnp.clip((kimg - self.begin) / max(self.end - self.begin, 1e-6), 0, 1)


def parse_annealed(value: float | str, field: str, steps: int | None = None, share: float = 1.0) -> Annealed:
    """A config value as an annealed one.

    Args:
      value: a number, or `A->B`.
      field: for messages.
      steps: updates in the whole training; None where it is bounded by time.
      share: of the training over which the value moves.

    Raises:
      UserError: no numbers, a share out of range, or a value that moves in a training bounded by time.
    """
    if not 0 < share <= 1:
        raise UserError(f'{field}', f'the share of the training to anneal over is {share}, not above 0 and at most 1')
    numbers = _ends(value, field)
    if numbers[0] != numbers[1] and steps is None:
        raise UserError(f'{field}', f'{value!r} needs a train.duration in images, steps or epochs, not in time')
    return Annealed(*numbers, max(round((steps or 1) * share), 1))


def parse_ramp(value: str, field: str) -> Ramp:
    """`A->B`, in thousands of images, as a ramp.

    Raises:
      UserError: anything else, or an end before the beginning.
    """
    begin, end = _ends(value, field)
    if '->' not in value or not 0 <= begin <= end:
        raise UserError(f'{field}', f"expected 'A->B' with 0 <= A <= B, thousands of images, got {value!r}")
    return Ramp(begin, end)


def _ends(value: float | str, field: str) -> tuple[float, float]:
    """`A->B` as two numbers, one number as itself twice."""
    start, arrow, end = str(value).partition('->')
    try:
        numbers = float(start), float(end if arrow else start)
    except ValueError:
        numbers = (math.nan, math.nan)
    if not all(map(math.isfinite, numbers)):
        raise UserError(f'{field}', f"expected a number, or 'A->B' for a value that moves, got {value!r}")
    return numbers
