"""Decoder-only Transformer over sequences of codes.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, as a stack of pre-norm decoder blocks with learned positional
embeddings and the initialisation of GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners",
2019). Dropout is applied to the input and to both residual branches of a block, not to attention weights, which fused
attention does not support. The label's embedding is added to the start token.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.rng import streams
from productgen.nets.conditioning import Embed
from productgen.nets.layers import dropout

Cache = tuple[jax.Array, jax.Array]  # keys and values of all positions, [B, T, heads, C / heads] each

INIT = nn.initializers.normal(0.02)


class Block(nn.Module):
    """Pre-norm decoder block, causal self-attention and a two-layer MLP, [B, S, C] -> [B, S, C].

    Attributes:
      heads: attention heads, dividing C.
      dropout: dropout rate of the residual branches.
      branches: number of residual branches of the whole stack; the initial weights of their last layers are divided by
        its square root.
    """

    heads: int
    dropout: float
    branches: int

    @nn.compact
    def __call__(
        self, x: jax.Array, keys: jax.Array | None = None, cache: Cache | None = None, position: jax.Array | int = 0
    ) -> tuple[jax.Array, Cache]:
        """Processes all positions at once or, given a `cache` of the earlier ones, only position `position` (S = 1).

        `keys` [B] are for dropout. Returns the output [B, S, C], and keys and values up to this position.
        """
        b, s, c = x.shape
        narrow = nn.initializers.normal(0.02 / np.sqrt(self.branches))
        drop = lambda y, name: dropout(y, self.dropout, None if keys is None else streams(keys, name))

        y = nn.Dense(3 * c, kernel_init=INIT, name='qkv')(nn.LayerNorm(name='attention_norm')(x))
        q, k, v = jnp.moveaxis(y.reshape(b, s, 3, self.heads, c // self.heads), 2, 0)  # [B, S, heads, C / heads]
        if cache is None:
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        else:
            update = lambda all, new: jax.lax.dynamic_update_slice_in_dim(all, new, position, 1)
            k, v = update(cache[0], k), update(cache[1], v)  # [B, T, heads, C / heads]
            past = jnp.arange(k.shape[1]) <= position
            y = jax.nn.dot_product_attention(q, k, v, mask=past[None, None, None])
        x = x + drop(nn.Dense(c, kernel_init=narrow, name='out')(y.reshape(b, s, c)), 'attention')

        y = nn.Dense(4 * c, kernel_init=INIT, name='up')(nn.LayerNorm(name='mlp_norm')(x))
        return x + drop(nn.Dense(c, kernel_init=narrow, name='down')(nn.gelu(y)), 'mlp'), (k, v)


class Transformer(nn.Module):
    """Models the distribution of each code given the previous ones, p(c_j | c_0, ..., c_j-1, label).

    Attributes:
      vocabulary: number of codes K.
      shape: (T,) for text, (H, W) for the codes of an image in row-major order; T is the product. Each axis has its own
        learned positional embeddings, which are summed.
      width: channels C.
      layers: number of blocks.
      heads: attention heads, dividing `width`.
      dropout: dropout rate.
    """

    vocabulary: int
    shape: tuple[int, ...]
    width: int
    layers: int
    heads: int
    dropout: float = 0.0

    def setup(self):
        self.codes = nn.Embed(self.vocabulary, self.width, embedding_init=INIT)
        self.start = self.param('start', INIT, (self.width,))
        self.label = Embed(self.width, scale=0.02)
        self.axes = [self.param(f'axis{i}', INIT, (n, self.width)) for i, n in enumerate(self.shape)]
        self.blocks = [Block(self.heads, self.dropout, 2 * self.layers) for _ in range(self.layers)]
        self.norm = nn.LayerNorm()
        self.head = nn.Dense(self.vocabulary, kernel_init=INIT)

    def _positions(self) -> jax.Array:
        """Positional embeddings, [T, C]."""
        total = jnp.zeros((*self.shape, self.width))
        for i, axis in enumerate(self.axes):
            total += axis.reshape([-1 if j == i else 1 for j in range(len(self.shape))] + [self.width])
        return total.reshape(-1, self.width)

    def _first(self, label: jax.Array | None, size: int) -> jax.Array:
        """Embedding of the start token and the label, [B, 1, C]."""
        start = jnp.broadcast_to(self.start, (size, self.width))
        return (start if label is None else start + self.label(label))[:, None]

    def __call__(self, codes: jax.Array, label: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """Computes the logits of all positions at once.

        Args:
          codes: int [B, T].
          label: one-hot [B, N], or None.
          keys: dropout keys [B]; None disables dropout.

        Returns:
          [B, T, K]; those at position j depend on the codes before j.
        """
        x = jnp.concatenate([self._first(label, len(codes)), self.codes(codes[:, :-1])], 1) + self._positions()
        x = dropout(x, self.dropout, None if keys is None else streams(keys, 'input'))
        for i, block in enumerate(self.blocks):
            x, _ = block(x, None if keys is None else streams(keys, f'block{i}'))
        return self.head(self.norm(x))

    def decode(
        self, before: jax.Array, position: jax.Array, caches: list[Cache], label: jax.Array | None = None
    ) -> tuple[jax.Array, list[Cache]]:
        """Computes the logits of one position.

        Args:
          before: code at the previous position, int [B]; ignored at position 0.
          position: int scalar.
          caches: caches of the blocks, as returned for the previous position; their content is ignored at position 0.
          label: as in `__call__`.

        Returns:
          logits [B, K], new caches.
        """
        x = jnp.where(position == 0, self._first(label, len(before)), self.codes(before)[:, None])
        x = x + self._positions()[position]
        new = []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, cache=cache, position=position)
            new.append(cache)
        return self.head(self.norm(x))[:, 0], new

    def caches(self, size: int) -> list[Cache]:
        """Creates empty caches for `size` sequences."""
        shape = (size, int(np.prod(self.shape)), self.heads, self.width // self.heads)
        return [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(self.layers)]


def generate(
    model: Transformer, params: Any, keys: jax.Array, label: jax.Array | None, temperature: jax.Array
) -> jax.Array:
    """Samples sequences autoregressively.

    Args:
      model: the network.
      params: its parameters.
      keys: one key per sequence, [B]; a sequence depends on no other key.
      label: [B, N], or None.
      temperature: [B], divides the logits. 0 is greedy decoding, 1 samples from the model.

    Returns:
      int32 [B, T].
    """

    def step(carry, position):
        before, caches = carry
        logits, caches = model.apply({'params': params}, before, position, caches, label, method='decode')
        # Gumbel-max trick: argmax(logits / t + noise) is a sample. Multiplied by t, it also holds at t = 0.
        gumbel = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, position), logits.shape[1:]))(keys)
        code = jnp.argmax(logits + temperature[:, None] * gumbel, -1).astype(jnp.int32)
        return (code, caches), code

    first = (jnp.zeros(keys.shape, jnp.int32), model.caches(len(keys)))
    _, codes = jax.lax.scan(step, first, jnp.arange(np.prod(model.shape)))
    return codes.T
