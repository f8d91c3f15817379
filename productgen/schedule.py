"""Values that change over a training: `0.7` stays, `150->15` goes from one to the other."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from productgen.config import ConfigError


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


def parse_annealed(value: float | str, field: str, steps: int | None = None, share: float = 1.0) -> Annealed:
    """A config value as an annealed one.

    Args:
      value: a number, or `A->B`.
      field: for messages.
      steps: updates in the whole training; None where it is bounded by time.
      share: of the training over which the value moves.

    Raises:
      ConfigError: no numbers, a share out of range, or a value that moves in a training bounded by time.
    """
    if not 0 < share <= 1:
        raise ConfigError(f'{field}: the share of the training to anneal over is {share}, not above 0 and at most 1')
    start, arrow, end = str(value).partition('->')
    try:
        numbers = [float(start), float(end if arrow else start)]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{field}: expected a number, or 'A->B' for a value that moves, got {value!r}")
    if numbers[0] != numbers[1] and steps is None:
        raise ConfigError(f'{field}: {value!r} needs a train.duration in images, steps or epochs, not in time')
    return Annealed(*numbers, max(round((steps or 1) * share), 1))
