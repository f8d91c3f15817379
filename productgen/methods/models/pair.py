"""What a pair of adversarial networks is, and what their configs check."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from productgen.config import UserError, choose


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generator and a discriminator that fit each other.

    Labels are one-hot rows [B, N], None where unconditional; `label_weight`, 0 to 1, is the share of the label that the
    generator lets through; `keys` [B] are the samples' own. Statistics that a forward pass keeps lie in the collection
    `stats`.

    Attributes:
      z_dim: width of the generator's input.
      generator: (z [B, Z], label, keys, train, label_weight) -> images [B, H, W, 3] in about [-1, 1].
      discriminator: (image, label, keys, train) -> `Judgement`.
      couples_images: the discriminator normalises over the batch, so that an image's logit depends on the others.
    """

    z_dim: int
    generator: nn.Module
    discriminator: nn.Module
    couples_images: bool = False


def doubling(finest: int, most: int, count: int) -> tuple[int, ...]:
    """Channels of `count` levels, finest first: `finest`, twice as many, ..., never more than `most`."""
    return tuple(min(finest << i, most) for i in range(count))


# Checks of the fields of a `model` section; each raises UserError.


def at_least(model: Any, least: int, *fields: str) -> None:
    """That none of the fields is less."""
    for field in fields:
        if getattr(model, field) < least:
            raise UserError(f'model.{field}', f'{getattr(model, field)} is too small', f'it must be at least {least}')


def one_of(model: Any, field: str, *names: str) -> None:
    """That the field is one of the names."""
    choose(dict.fromkeys(names), getattr(model, field), f'model.{field}')


def share(model: Any, *fields: str) -> None:
    """That the fields are shares of something that may be dropped, 0 to below 1."""
    for field in fields:
        if not 0 <= getattr(model, field) < 1:
            raise UserError(f'model.{field}', f'{getattr(model, field)} is not a share, 0 to below 1')
