"""How labels enter networks, and what a discriminator says of an image.

Labels come as one-hot rows of all attributes side by side, [B, N]; an attribute of unknown value is all zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from productgen.nets.norms import Linear


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


def join(x: jax.Array, vector: jax.Array) -> jax.Array:
    """[B, ..., C] and [B, E] -> [B, ..., C + E]: the vector as further channels, the same at every place."""
    vector = jnp.expand_dims(vector, tuple(range(1, x.ndim - 1)))
    return jnp.concatenate([x, jnp.broadcast_to(vector, (*x.shape[:-1], vector.shape[-1]))], -1)


class Head(nn.Module):
    """A discriminator's last layer, features [B, C] and one-hot label [B, N] -> `Judgement`.

    Attributes:
      condition: `projection`, where the label adds its embedding's inner product with the features to the logit (Miyato
        and Koyama, "cGANs with Projection Discriminator", ICLR 2018, equation 3); `classes`, where the logit ignores
        the label and further ones guess it (AC-GAN, Odena et al. 2017); under any other name the label is not used.
      sizes: number of values of each attribute, for `classes`.
      plain_head: a further logit that ignores the label, except under `classes`, where the only one does already.
      spectral: spectral normalisation of every matrix, the embedding among them.
      kernel_init: initialiser of every matrix.
    """

    condition: str = 'projection'
    sizes: tuple[int, ...] = ()
    plain_head: bool = False
    spectral: bool = False
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None, train: bool = False) -> Judgement:
        def dense(name, features, x, bias=True):
            layer = Linear(features, bias=bias, spectral=self.spectral, kernel_init=self.kernel_init, name=name)
            return layer(x, train)

        logit, classes = dense('logit', 1, x)[:, 0], ()
        plain = dense('plain', 1, x)[:, 0] if self.plain_head and self.condition != 'classes' else None
        if label is not None and self.condition == 'projection':
            embedding = dense('label', x.shape[-1], label, bias=False)
            logit += jnp.sum(embedding * x, -1)
        elif label is not None and self.condition == 'classes':
            classes = split_classes(dense('classes', sum(self.sizes), x), self.sizes)
        return Judgement(logit, plain, classes)
