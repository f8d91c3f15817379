"""Convolutional encoder, decoder and discriminator of variational autoencoders.

The latent is a vector [B, Z] or a map [B, h, w, c] of some channels at a fraction of the image's size. Strided 4x4
convolutions change the size, residual blocks may stand between them. Normalisation is over groups of channels of one
picture (Wu and He 2018) or left out: with batch normalisation pictures would depend on each other.

All images are [B, H, W, 3], all labels one-hot [B, N], or None where there are none; `keys` [B] are the samples' own,
needed where there is dropout.
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

# Of log-variances, as Rombach et al. 2022 bound theirs: beyond it a posterior is a point or knows nothing.
LOG_VARIANCE = (-30.0, 20.0)


def width(channels: int, channel_max: int, level: int) -> int:
    """Channels at 1 / 2^level of the image's size: doubled at every level up to the largest."""
    return min(channels << level, channel_max)


def _inner(keys: jax.Array | None, name: str) -> jax.Array | None:
    return None if keys is None else streams(keys, name)


class Resize(nn.Module):
    """4x4 convolution of stride 2, or its transpose with `up`: [B, H, W, C] -> [B, H / 2, W / 2, features] or twice."""

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # An output of the transposed convolution sees 2x2 of the 4x4 taps: a quarter of what fan-in counts.
        init = nn.initializers.variance_scaling(4.0 if self.up else 1.0, 'fan_in', 'truncated_normal')
        kernel = self.param('kernel', init, (4, 4, x.shape[-1], self.features))
        x = (conv_double if self.up else conv_halve)(x, kernel)
        return add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,)))


class Activate(nn.Module):
    """Group normalisation, SiLU, dropout; the shape stays.

    Attributes:
      groups: of the normalisation; 0 leaves it out.
      dropout: share of values dropped.
    """

    groups: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        x = Grouped(self.groups, name='norm')(x) if self.groups else x
        return dropout(nn.silu(x), self.dropout, _inner(keys, self.name))


class Residual(nn.Module):
    """x + conv(activate(conv(activate(x)))), 3x3, after He et al. 2016; the last convolution starts at zero."""

    groups: int
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        keys = _inner(keys, self.name)
        y = Conv(x.shape[-1], name='conv0')(Activate(self.groups, self.dropout, name='act0')(x, keys))
        y = Activate(self.groups, self.dropout, name='act1')(y, keys)
        return x + Conv(x.shape[-1], kernel_init=nn.initializers.zeros, name='conv1')(y)


class Encoder(nn.Module):
    """Image to the mean and log-variance of a diagonal Gaussian over latents.

    Attributes:
      latent: width Z of the latent vector, or channels c of the latent map.
      levels: halvings.
      vector: the latent is a vector, not a map.
      channels: channels at the image's size, doubled at every level ...
      channel_max: ... but at most this.
      blocks: residual blocks at every level below the image's size.
      groups: groups of the normalisation; 0 leaves it out.
      dropout: share of activations dropped in training.
      remat: the activations inside a level are computed again for the gradient instead of kept.
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
        """The activations of a level from those of the next finer one."""
        x = Activate(self.groups, self.dropout, name=f'act{level}')(x, keys)
        x = Resize(width(self.channels, self.channel_max, level), name=f'halve{level}')(x)
        for i in range(self.blocks):
            x = Residual(self.groups, self.dropout, name=f'block{level}_{i}')(x, keys)
        return x


class Decoder(nn.Module):
    """Latent to image, or to the parameters of the image's likelihood; nothing bounds the output.

    Attributes:
      base: size (h, w) of the map that a latent vector is made into; None where the latent is a map.
      levels: doublings.
      channels: channels at the image's size, doubled at every level below ...
      channel_max: ... but at most this.
      blocks: residual blocks at every level below the image's size.
      groups: groups of the normalisation; 0 leaves it out.
      dropout: share of activations dropped in training.
      outputs: channels of the output.
      remat: the activations inside a level are computed again for the gradient instead of kept.
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
        """[B, Z] -> [B, h 2^levels, w 2^levels, outputs] with h x w = `base`, or the same from a map [B, h, w, c]."""
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
        """The activations of the next finer level from those of one."""
        for i in range(self.blocks):
            x = Residual(self.groups, self.dropout, name=f'block{level}_{i}')(x, keys)
        x = Activate(self.groups, self.dropout, name=f'act{level}')(x, keys)
        return Resize(width(self.channels, self.channel_max, level - 1), up=True, name=f'double{level}')(x)


class Discriminator(nn.Module):
    """Image to logit and to the features in which VAE-GAN compares images (Larsen et al. 2016, equation 7).

    Labels act by projection (Miyato and Koyama 2018).

    Attributes:
      levels: halvings.
      similarity: the features are those after so many halvings, normalised, before their non-linearity.
      channels: channels at the image's size, doubled at every level ...
      channel_max: ... but at most this.
      groups: groups of the normalisation; 0 leaves it out.
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
