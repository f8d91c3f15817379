"""Convolutional encoder, decoder and discriminator of variational autoencoders.

The latent is a vector [B, Z] or a map [B, h, w, c] at a fraction of the image's resolution. Strided 4x4 convolutions
change the resolution, with optional residual blocks between them. Group normalisation (Wu and He 2018) is optional;
batch normalisation would make images depend on each other.

Images are [B, H, W, 3], labels one-hot [B, N] or None where unconditional; `keys` [B] are dropout keys, one per sample.
"""

from __future__ import annotations

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conditioning import Embed
from productgen.nets.conv import add_bias
from productgen.nets.layers import Conv, dropout, recomputed
from productgen.nets.norms import Grouped
from productgen.nets.strided import conv_double, conv_halve

# Bounds of log-variances, those of Rombach et al. 2022; beyond them a posterior is a point or carries no information.
LOG_VARIANCE = (-30.0, 20.0)


def width(channels: int, channel_max: int, level: int) -> int:
    """Channels at 1 / 2^level of the image's size: doubled at every level, up to `channel_max`."""
    return min(channels << level, channel_max)


def _inner(keys: jax.Array | None, name: str) -> jax.Array | None:
    return None if keys is None else streams(keys, name)


class Resize(nn.Module):
    """4x4 convolution of stride 2, [B, H, W, C] -> [B, H / 2, W / 2, features]; with `up` the transposed one."""

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # An output of the transposed convolution uses 2x2 of the 4x4 taps, a quarter of the fan-in.
        init = nn.initializers.variance_scaling(4.0 if self.up else 1.0, 'fan_in', 'truncated_normal')
        kernel = self.param('kernel', init, (4, 4, x.shape[-1], self.features))
        x = (conv_double if self.up else conv_halve)(x, kernel)
        return add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,)))


class Activate(nn.Module):
    """Group normalisation, SiLU and dropout; keeps the shape.

    Attributes:
      groups: groups of the normalisation; 0 for none.
      dropout: dropout rate.
    """

    groups: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        x = Grouped(self.groups, name='norm')(x) if self.groups else x
        return dropout(nn.silu(x), self.dropout, _inner(keys, self.name))


class Residual(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (He et al. 2016); the last starts at zero."""

    groups: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        keys = _inner(keys, self.name)
        y = Conv(x.shape[-1], name='conv0')(Activate(self.groups, self.dropout, name='act0')(x, keys))
        y = Activate(self.groups, self.dropout, name='act1')(y, keys)
        return x + Conv(x.shape[-1], kernel_init=nn.initializers.zeros, name='conv1')(y)


class Encoder(nn.Module):
    """Image -> mean and log-variance of a diagonal Gaussian over latents.

    Attributes:
      latent: width Z of the latent vector, or channels c of the latent map.
      levels: number of halvings.
      vector: whether the latent is a vector instead of a map.
      channels: channels at the image's size, doubled at every level ...
      channel_max: ... but at most this many.
      blocks: residual blocks at every level below the image's size.
      groups: groups of the normalisation; 0 for none.
      dropout: dropout rate.
      remat: recompute the activations inside a level in the backward pass instead of storing them.
    """

    latent: int
    levels: int
    vector: bool
    channels: int
    channel_max: int
    blocks: int = 0
    groups: int = 8
    dropout: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, *, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, 3] -> mean and log-variance, [B, Z] each, or [B, H / 2^levels, W / 2^levels, c] each."""
        keys = _inner(keys, 'encoder') if train else None
        x = Conv(self.channels, name='from_rgb')(image)
        if label is not None:
            x = x + Embed(self.channels, name='label')(label)[:, None, None]
        for level in range(1, self.levels + 1):
            x = recomputed(self, lambda net, *args, level=level: net._halve(level, *args), self.remat, x, keys)
        x = Activate(self.groups, self.dropout, name='act')(x, keys)  # [B, h, w, C]
        if self.vector:
            x = nn.Dense(2 * self.latent, name='latent')(x.reshape(x.shape[0], -1))  # [B, 2Z]
        else:
            x = Conv(2 * self.latent, name='latent')(x)  # [B, h, w, 2c]
        mean, log_variance = jnp.split(x, 2, -1)
        return mean, jnp.clip(log_variance, *LOG_VARIANCE)

    def _halve(self, level: int, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Computes the activations of a level from those of the next finer one."""
        x = Activate(self.groups, self.dropout, name=f'act{level}')(x, keys)
        x = Resize(width(self.channels, self.channel_max, level), name=f'halve{level}')(x)
        for i in range(self.blocks):
            x = Residual(self.groups, self.dropout, name=f'block{level}_{i}')(x, keys)
        return x


class Decoder(nn.Module):
    """Latent -> image, or the parameters of its likelihood; the output is unbounded.

    Attributes:
      base: size (h, w) of the map that a latent vector is projected to; None where the latent is a map.
      levels: number of doublings.
      channels: channels at the image's size, doubled at every level below ...
      channel_max: ... but at most this many.
      blocks: residual blocks at every level below the image's size.
      groups: groups of the normalisation; 0 for none.
      dropout: dropout rate.
      outputs: channels of the output.
      remat: recompute the activations inside a level in the backward pass instead of storing them.
    """

    base: tuple[int, int] | None
    levels: int
    channels: int
    channel_max: int
    blocks: int = 0
    groups: int = 8
    dropout: float = 0.0
    outputs: int = 3
    remat: bool = False

    @nn.compact
    def __call__(
        self, latent: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, *, train: bool = False
    ) -> jax.Array:
        """[B, Z] with (h, w) = `base`, or a map [B, h, w, c], -> [B, h 2^levels, w 2^levels, outputs]."""
        keys = _inner(keys, 'decoder') if train else None
        features = width(self.channels, self.channel_max, self.levels)
        shape = (1, 1, features) if self.base is None else (*self.base, features)
        if self.base is None:
            x = Conv(features, name='latent')(latent)
        else:
            x = nn.Dense(math.prod(shape), name='latent')(latent).reshape(-1, *shape)  # [B, h, w, C]
        if label is not None:
            x = x + Embed(math.prod(shape), name='label')(label).reshape(-1, *shape)
        for level in range(self.levels, 0, -1):
            x = recomputed(self, lambda net, *args, level=level: net._double(level, *args), self.remat, x, keys)
        return Conv(self.outputs, name='to_rgb')(Activate(self.groups, self.dropout, name='act')(x, keys))

    def _double(self, level: int, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Computes the activations of the next finer level from those of a level."""
        for i in range(self.blocks):
            x = Residual(self.groups, self.dropout, name=f'block{level}_{i}')(x, keys)
        x = Activate(self.groups, self.dropout, name=f'act{level}')(x, keys)
        return Resize(width(self.channels, self.channel_max, level - 1), up=True, name=f'double{level}')(x)


class Discriminator(nn.Module):
    """Image -> logit, and the features in which VAE-GAN compares images (Larsen et al. 2016, equation 7).

    Conditional by projection (Miyato and Koyama 2018).

    Attributes:
      levels: number of halvings.
      similarity: level of the features: after this many halvings, normalised, before the non-linearity.
      channels: channels at the image's size, doubled at every level ...
      channel_max: ... but at most this many.
      groups: groups of the normalisation; 0 for none.
    """

    levels: int
    similarity: int
    channels: int
    channel_max: int
    groups: int = 8

    @nn.compact
    def __call__(self, image: jax.Array, label: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """[B, H, W, 3] -> logits [B] and features [B, h, w, C]."""
        x = jax.nn.leaky_relu(Conv(self.channels, name='from_rgb')(image), 0.2)
        for level in range(1, self.levels + 1):
            x = Resize(width(self.channels, self.channel_max, level), name=f'halve{level}')(x)
            x = Grouped(self.groups, name=f'norm{level}')(x) if self.groups else x
            if level == self.similarity:
                features = x
            x = jax.nn.leaky_relu(x, 0.2)
        x = nn.Dense(width(self.channels, self.channel_max, self.levels), name='dense')(x.reshape(x.shape[0], -1))
        x = jax.nn.leaky_relu(x, 0.2)  # [B, C]
        logit = nn.Dense(1, name='logit')(x)[:, 0]
        if label is not None:
            logit = logit + jnp.sum(Embed(x.shape[-1], name='label')(label) * x, -1) * x.shape[-1] ** -0.5
        return logit, features
