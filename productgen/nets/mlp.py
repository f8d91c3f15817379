"""Multilayer perceptrons of the first GANs.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; labels as in Mirza and Osindero, "Conditional Generative
Adversarial Nets", 2014: their embedding is concatenated to the input. As in the paper, the generator has ReLUs, the
discriminator maxout units (Goodfellow et al. 2013) and dropout, including dropout of its input. Differences: the output
is a tanh in [-1, 1] instead of a sigmoid; z is normal, not uniform; without maxout the discriminator has leaky ReLUs.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conditioning import Embed, Judgement, join
from productgen.nets.layers import dropout
from productgen.nets.norms import Linear


class Generator(nn.Module):
    """z [B, Z] and one-hot label [B, N] -> images [B, H, W, 3] in [-1, 1].

    Attributes:
      resolution: (H, W).
      width: units per hidden layer.
      layers: number of hidden layers.
      embed: width of the label's embedding.
    """

    resolution: tuple[int, int]
    width: int
    layers: int
    embed: int

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        x = z if label is None else join(z, Embed(self.embed, name='label')(label, label_weight))
        for i in range(self.layers):
            x = jax.nn.relu(Linear(self.width, name=f'dense{i}')(x))
        h, w = self.resolution
        return jnp.tanh(Linear(h * w * 3, name='image')(x)).reshape(-1, h, w, 3)


class Discriminator(nn.Module):
    """Image [B, H, W, 3] and one-hot label [B, N] -> `Judgement`.

    Attributes:
      width: units per hidden layer.
      layers: number of hidden layers.
      embed: width of the label's embedding.
      maxout: linear pieces per maxout unit; 0 for leaky ReLUs.
      dropout: dropout rate of every hidden layer.
      input_dropout: dropout rate of the image.
    """

    width: int
    layers: int
    embed: int
    maxout: int = 0
    dropout: float = 0.0
    input_dropout: float = 0.0

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = False
    ) -> Judgement:
        def drop(x, rate, name):
            return dropout(x, rate, streams(keys, name)) if train and rate else x

        x = drop(image.reshape(image.shape[0], -1), self.input_dropout, 'image')  # [B, H W 3]
        x = x if label is None else join(x, Embed(self.embed, name='label')(label))
        for i in range(self.layers):
            x = Linear(self.width * max(self.maxout, 1), name=f'dense{i}')(x)
            if self.maxout:
                x = jnp.max(x.reshape(-1, self.width, self.maxout), -1)  # [B, width]
            else:
                x = jax.nn.leaky_relu(x, 0.2)
            x = drop(x, self.dropout, f'dropout{i}')
        return Judgement(Linear(1, name='logit')(x)[:, 0])
