"""U-Net for diffusion models and image-to-image translation.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020, appendix B: residual blocks with group
normalisation and an embedding of the time; self-attention at some resolutions and in the middle; downsampling by
strided convolutions, upsampling by nearest neighbours and a convolution; skip connections concatenate every output of
the encoder. Embeddings of time and label are added (Dhariwal and Nichol 2021). Optionally, blocks of pixels become
channels (Luhman and Luhman, "Improving Diffusion Model Efficiency Through Patching", 2022).

The last convolutions of blocks and of the network start at zero, so that blocks start as identities.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.core.sizes import check_size
from productgen.nets.conditioning import Embed
from productgen.nets.conv import add_bias
from productgen.nets.layers import Conv, dropout, recomputed
from productgen.nets.norms import GroupNorm, Linear
from productgen.nets.strided import conv_double, halve, to_depth, to_space

INIT = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')
ZERO = nn.initializers.zeros


def embed_time(time: jax.Array, features: int) -> jax.Array:
    """Embeds times, [B] -> [B, features]: sines, then cosines, of frequencies 1 to 1/10000 (Vaswani et al. 2017)."""
    half = features // 2
    frequency = jnp.exp(-math.log(10_000) / (half - 1) * jnp.arange(half, dtype=jnp.float32))
    angle = jnp.asarray(time, jnp.float32)[:, None] * frequency
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)


def double(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling, then a 3x3 convolution, [B, H, W, C] -> [B, 2H, 2W, D].

    Both are fused into a transposed 4x4 convolution whose kernel sums neighbouring taps: 16 products instead of 36.
    """
    kernel = jnp.flip(kernel, (0, 1))
    for axis in (0, 1):
        pads = [[(0, 0)] * 4 for _ in range(2)]
        pads[0][axis], pads[1][axis] = (0, 1), (1, 0)
        kernel = jnp.pad(kernel, pads[0]) + jnp.pad(kernel, pads[1])
    return conv_double(x, kernel)


class Resize(nn.Module):
    """Applies `halve`, or `double` with `up`; keeps the number of channels."""

    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        kernel = self.param('kernel', INIT, (3, 3, features, features))
        return add_bias((double if self.up else halve)(x, kernel), self.param('bias', ZERO, (features,)))


class Block(nn.Module):
    """Residual block, [B, H, W, C] -> [B, H, W, features].

    Attributes:
      features: output channels.
      dropout: dropout rate before the last convolution.
    """

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array | None, keys: jax.Array | None) -> jax.Array:
        """`embedding` [B, E], of time and label, is added between the convolutions; `keys` [B] are for dropout."""
        y = Conv(self.features, kernel_init=INIT, name='conv0')(nn.silu(GroupNorm(name='norm0')(x)))
        if embedding is not None:
            y = y + Linear(self.features, kernel_init=INIT, name='embedding')(nn.silu(embedding))[:, None, None]
        y = nn.silu(GroupNorm(name='norm1')(y))
        y = dropout(y, self.dropout, None if keys is None else streams(keys, self.name))
        y = Conv(self.features, kernel_init=ZERO, name='conv1')(y)
        if x.shape[-1] != self.features:
            x = Linear(self.features, kernel_init=INIT, name='skip')(x)
        return x + y


class Attention(nn.Module):
    """Residual self-attention over all positions, [B, H, W, C] -> [B, H, W, C]; `heads` divides C."""

    heads: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, h, w, c = x.shape
        y = GroupNorm(name='norm')(x).reshape(b, h * w, c)
        part = lambda name: Linear(c, kernel_init=INIT, name=name)(y).reshape(b, h * w, self.heads, c // self.heads)
        y = jax.nn.dot_product_attention(part('query'), part('key'), part('value'))  # [B, HW, heads, C / heads]
        return x + Linear(c, kernel_init=ZERO, name='out')(y.reshape(b, h, w, c))


class UNet(nn.Module):
    """U-Net, [B, H, W, C] -> [B, H, W, outputs]; see the module docstring.

    Attributes:
      outputs: channels of the output.
      patch: side of the blocks of pixels that become channels; a power of two, 1 for none.
      channels: channels at the finest level, a multiple of 4.
      multipliers: channels at each level, finest first, as multiples of `channels`.
      blocks: residual blocks per level of the encoder; the decoder has one more.
      attention: levels whose blocks are followed by self-attention; 0 is the finest.
      heads: attention heads.
      dropout: dropout rate.
      remat: recompute the activations inside a block in the backward pass instead of storing them.
    """

    outputs: int = 3
    patch: int = 1
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (1,)
    heads: int = 1
    dropout: float = 0.0
    remat: bool = False

    @property
    def halvings(self) -> int:
        """Number of times H and W are halved, including `patch`."""
        return self.patch.bit_length() - 1 + len(self.multipliers) - 1

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        time: jax.Array | None = None,
        label: jax.Array | None = None,
        keys: jax.Array | None = None,
        *,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        """Applies the network.

        Args:
          x: [B, H, W, C].
          time: [B], in any unit; None for a network without time embedding.
          label: one-hot [B, N]; None where unconditional.
          keys: dropout keys [B].
          train: apply dropout.
          label_weight: scale of the label's embedding, from 0 (unconditional) to 1.

        Returns:
          [B, H, W, outputs].

        Raises:
          ValueError: H or W cannot be halved `halvings` times.
        """
        levels = len(self.multipliers)
        check_size(x.shape[1:3], self.halvings)
        embedding = self._embedding(time, label, label_weight)
        keys = keys if train else None

        def residual(x, features, name):
            part = lambda net, *args: Block(features, net.dropout, name=f'{name}_block')(*args)
            return recomputed(self, part, self.remat, x, embedding, keys)

        def attend(x, name):
            return recomputed(self, lambda net, x: Attention(net.heads, name=f'{name}_attention')(x), self.remat, x)

        def block(x, level, name):
            x = residual(x, self.channels * self.multipliers[level], name)
            return attend(x, name) if level in self.attention else x

        patchings = range(self.patch.bit_length() - 1)
        for _ in patchings:
            x = to_depth(x)
        x = Conv(self.channels, kernel_init=INIT, name='in')(x)
        skips = [x]
        for level in range(levels):
            for i in range(self.blocks):
                x = block(x, level, f'down{level}_{i}')
                skips.append(x)
            if level < levels - 1:
                x = Resize(name=f'halve{level}')(x)
                skips.append(x)
        x = attend(residual(x, x.shape[-1], 'middle0'), 'middle')
        x = residual(x, x.shape[-1], 'middle1')
        for level in reversed(range(levels)):
            for i in range(self.blocks + 1):
                x = block(jnp.concatenate([x, skips.pop()], -1), level, f'up{level}_{i}')
            if level:
                x = Resize(up=True, name=f'double{level}')(x)
        x = Conv(self.outputs * self.patch**2, kernel_init=ZERO, name='out')(nn.silu(GroupNorm(name='norm')(x)))
        for _ in patchings:
            x = to_space(x)
        return x

    def _embedding(self, time, label, label_weight) -> jax.Array | None:
        """Sum of the embeddings of time and label, [B, 4 channels]; None without both."""
        embedding, features = None, 4 * self.channels
        if time is not None:
            embedding = Linear(features, kernel_init=INIT, name='time0')(embed_time(time, self.channels))
            embedding = Linear(features, kernel_init=INIT, name='time1')(nn.silu(embedding))
        if label is not None:
            row = Embed(features, name='label')(label, label_weight)
            embedding = row if embedding is None else embedding + row
        return embedding
