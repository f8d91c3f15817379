"""Label conditioning of networks, and the output of discriminators.

Labels are one-hot rows with all attributes concatenated, [B, N]; an attribute of unknown value is all zeros.
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
    """Output of a discriminator.

    Attributes:
      logit: realness, [B], or [B, P] of several parts of an image; conditional on the label where there is one.
      plain: unconditional realness, of the same shape; None unless the network was built with `plain_head`.
      classes: for each attribute the logits of its values, [B, n]; empty unless the network classifies (AC-GAN).
    """

    logit: jax.Array
    plain: jax.Array | None = None
    classes: tuple[jax.Array, ...] = ()


def split_classes(logits: jax.Array, sizes: Sequence[int]) -> tuple[jax.Array, ...]:
    """Splits [B, sum(sizes)] into one [B, n] per attribute."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return tuple(logits[:, end - n : end] for end, n in zip(ends, sizes, strict=True))


class Embed(nn.Module):
    """Embeds labels, [B, N] -> [B, features]: the sum over attributes of a learned row per value, without bias.

    Attributes:
      features: width of the embedding.
      scale: standard deviation of the initial rows.
    """

    features: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, label: jax.Array, weight: jax.Array | float = 1.0) -> jax.Array:
        """`weight`, from 0 (unconditional) to 1, scales the embedding."""
        kernel = self.param('kernel', nn.initializers.normal(self.scale), (label.shape[-1], self.features))
        return (label @ kernel) * jnp.asarray(weight, jnp.float32)


def join(x: jax.Array, vector: jax.Array) -> jax.Array:
    """Appends a vector [B, E] to x [B, ..., C] as constant channels, -> [B, ..., C + E]."""
    vector = jnp.expand_dims(vector, tuple(range(1, x.ndim - 1)))
    return jnp.concatenate([x, jnp.broadcast_to(vector, (*x.shape[:-1], vector.shape[-1]))], -1)


class Head(nn.Module):
    """Last layer of a discriminator, features [B, C] and one-hot label [B, N] -> `Judgement`.

    Attributes:
      condition: `projection` adds the inner product of the label's embedding and the features to the logit (Miyato and
        Koyama, "cGANs with Projection Discriminator", ICLR 2018, equation 3); `classes` predicts the label with
        auxiliary logits and leaves `logit` unconditional (AC-GAN, Odena et al. 2017); others ignore the label.
      sizes: number of values of each attribute, for `classes`.
      plain_head: add an unconditional logit; no effect with `classes`, whose logit is unconditional already.
      spectral: apply spectral normalisation to every matrix, including the embedding.
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
