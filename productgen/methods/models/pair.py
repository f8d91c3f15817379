"""A generator and a discriminator that fit each other, and the checks that their `model` sections share."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import flax.linen as nn

from productgen.config import UserError, choose
from productgen.methods.base import Problem
from productgen.published.backbone import Backbone


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generator and a discriminator for images of the same size and the same labels.

    Labels are one-hot rows [B, N], None where unconditional; `keys` [B] are the samples' own. The collection `stats`
    has the statistics that a forward pass updates.

    Attributes:
      z_dim: width of the generator's input.
      generator: (z [B, Z], label, keys, train, label_weight) -> images [B, H, W, 3] in about [-1, 1]; `label_weight`, 0
        (unconditional) to 1, scales the label.
      discriminator: (image, label, keys, train) -> `Judgement`.
      couples_images: the discriminator normalises over the batch, so that the logit of an image depends on the others.
      backbone: a published network whose maps of an image the discriminator takes instead of the image; or None.
    """

    z_dim: int
    generator: nn.Module
    discriminator: nn.Module
    couples_images: bool = False
    backbone: Backbone | None = None


class PairModel(Protocol):
    """A `model` section of adversarial methods; `name` is its key in `PAIRS`."""

    name: str

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks.

        Args:
          problem: its batch is what the discriminator sees in one step.
          plain_head: give the discriminator a second logit, which ignores labels.

        Raises:
          UserError: a value that cannot be used.
        """
        ...


def doubling(finest: int, most: int, count: int) -> tuple[int, ...]:
    """Channels of `count` levels, finest first: `finest`, twice as many, ..., never more than `most`."""
    return tuple(min(finest << i, most) for i in range(count))


# Checks of the fields of a `model` section; each raises a UserError.


def at_least(model: PairModel, least: int, *fields: str) -> None:
    """Checks that each field is `least` or more."""
    for field in fields:
        if getattr(model, field) < least:
            raise UserError(f'model.{field}', f'{getattr(model, field)} is too small', f'it must be at least {least}')


def one_of(model: PairModel, field: str, *names: str) -> None:
    """Checks that a field is one of the names."""
    choose(dict.fromkeys(names), getattr(model, field), f'model.{field}')


def fraction(model: PairModel, *fields: str) -> None:
    """Checks that each field is a fraction that may be dropped, 0 to below 1."""
    for field in fields:
        if not 0 <= getattr(model, field) < 1:
            raise UserError(f'model.{field}', f'{getattr(model, field)} is not a fraction, 0 to below 1')
