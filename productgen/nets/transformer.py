"""A decoder-only Transformer over sequences of codes.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017, as a stack of pre-normalised decoder blocks with learned
positions (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, whose initial scales it has).
Dropout is on the two residual branches of a block and on the input, not on attention weights, which a fused attention
does not offer. A label enters as part of the start token.
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
    """Causal self-attention and a two-layer perceptron, both residual behind a layer norm: keeps [B, S, C].

    Attributes:
      heads: attention heads, dividing C.
      dropout: share dropped from what a branch adds.
      branches: residual branches of the whole stack; their last layers start smaller by its root.
    """

    heads: int
    dropout: float
    branches: int

    @nn.compact
    def __call__(
        self, x: jax.Array, keys: jax.Array | None = None, cache: Cache | None = None, position: jax.Array | int = 0
    ) -> tuple[jax.Array, Cache]:
        """All positions at once, or with a `cache` of those before it, position `position` alone (S = 1).

        `keys` [B] are those of the dropout. Returns the output and the keys and values so far.
        """
        b, s, c = x.shape
        narrow = nn.initializers.normal(0.02 / np.sqrt(self.branches))
        drop = lambda y, name: dropout(y, self.dropout, None if keys is None else streams(keys, name))

        y = nn.Dense(3 * c, kernel_init=INIT, name='qkv')(nn.LayerNorm(name='attention_norm')(x))
        q, k, v = jnp.moveaxis(y.reshape(b, s, 3, self.heads, c // self.heads), 2, 0)  # [B, S, heads, C / heads]
        if cache is None:
            y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        else:
            put = lambda all, new: jax.lax.dynamic_update_slice_in_dim(all, new, position, 1)
            k, v = put(cache[0], k), put(cache[1], v)  # [B, T, heads, C / heads]
            past = jnp.arange(k.shape[1]) <= position
            y = jax.nn.dot_product_attention(q, k, v, mask=past[None, None, None])
        x = x + drop(nn.Dense(c, kernel_init=narrow, name='out')(y.reshape(b, s, c)), 'attention')

        y = nn.Dense(4 * c, kernel_init=INIT, name='up')(nn.LayerNorm(name='mlp_norm')(x))
        return x + drop(nn.Dense(c, kernel_init=narrow, name='down')(nn.gelu(y)), 'mlp'), (k, v)


class Transformer(nn.Module):
    """The distribution of each code given those before it, p(c_j | c_0, ..., c_j-1, label).

    Attributes:
      vocabulary: number of codes K.
      shape: extent of the sequence, (T,) for text, (H, W) for rows of an image; T is its product. Each axis has
        learned positions of its own, which add up.
      width: channels C.
      layers: number of blocks.
      heads: attention heads, dividing `width`.
      dropout: share of values dropped in training.
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
        """[T, C]."""
        total = jnp.zeros((*self.shape, self.width))
        for i, axis in enumerate(self.axes):
            total += axis.reshape([-1 if j == i else 1 for j in range(len(self.shape))] + [self.width])
        return total.reshape(-1, self.width)

    def _first(self, label: jax.Array | None, size: int) -> jax.Array:
        """The start token, [B, 1, C]."""
        start = jnp.broadcast_to(self.start, (size, self.width))
        return (start if label is None else start + self.label(label))[:, None]

    def __call__(self, codes: jax.Array, label: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """Logits of all positions at once.

        Args:
          codes: int [B, T].
          label: [B, N] one-hot rows, or None.
          keys: [B] keys of the dropout; None drops nothing.

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
        """Logits of one position.

        Args:
          before: the code at the position before, int [B]; any at position 0.
          position: int scalar.
          caches: of each block, as returned for the position before; of any content at position 0.
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
        """Empty caches for `size` sequences."""
        shape = (size, int(np.prod(self.shape)), self.heads, self.width // self.heads)
        return [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(self.layers)]


def generate(
    model: Transformer, params: Any, keys: jax.Array, label: jax.Array | None, temperature: jax.Array
) -> jax.Array:
    """Draws sequences code by code.

    Args:
      model: the network.
      params: its weights.
      keys: [B], one a sequence, which depends on its own key alone.
      label: [B, N], or None.
      temperature: [B]; logits are divided by it. 0 takes the likeliest code each time, 1 draws from the model.

    Returns:
      int32 [B, T].
    """

    def step(carry, position):
        before, caches = carry
        logits, caches = model.apply({'params': params}, before, position, caches, label, method='decode')
        # argmax of logits / t + Gumbel noise is a draw; times t, it has its limit at t = 0 too.
        gumbel = jax.vmap(lambda key: jax.random.gumbel(jax.random.fold_in(key, position), logits.shape[1:]))(keys)
        code = jnp.argmax(logits + temperature[:, None] * gumbel, -1).astype(jnp.int32)
        return (code, caches), code

    first = (jnp.zeros(keys.shape, jnp.int32), model.caches(len(keys)))
    _, codes = jax.lax.scan(step, first, jnp.arange(np.prod(model.shape)))
    return codes.T
