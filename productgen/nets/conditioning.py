"""How labels enter networks, and what a discriminator says of an image.

Labels come as one-hot rows of all attributes side by side, [B, N]; an attribute of unknown value is all zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Judgement:
    """A discriminator's output.

    Attributes:
      logit: how real, [B]; where there are labels, how real as a picture of its label.
      plain: how real whatever the label, [B]; None unless the net was built with `plain_head`.
      classes: for each attribute the logits of its values, [B, n]; empty unless the net classifies (AC-GAN).
    """

    logit: jax.Array
    plain: jax.Array | None = None
    classes: tuple[jax.Array, ...] = ()


def split_classes(logits: jax.Array, sizes: Sequence[int]) -> tuple[jax.Array, ...]:
    """[B, sum(sizes)] into one [B, n] for each attribute."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(logits[:, end - n : end] for end, n in zip(ends, sizes, strict=True))


class Embed(nn.Module):
    """Label to vector, [B, N] -> [B, features]: the sum over attributes of a learned row for each value (no bias).

    Attributes:
      features: width.
      scale: standard deviation of the initial rows.
    """

    features: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, label: jax.Array, weight: jax.Array | float = 1.0) -> jax.Array:
        """`weight` is the share of the label that is let through, 0 (unconditional) to 1."""
        kernel = self.param('kernel', nn.initializers.normal(self.scale), (label.shape[-1], self.features))
        return (label @ kernel) * jnp.asarray(weight, jnp.float32)
