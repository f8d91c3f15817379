"""Normalisation of activations and of weights, and the linear layer that takes the latter."""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conv import add_bias, computed_once


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) of [B, ..., C] over all axes but the last, conditional on a label.

    Mean and biased variance are those of all images of a forward pass, on whatever devices: of the global batch or,
    with `train.accumulate`, of one part of it. With a label, gain and bias of each of its values, summed over
    attributes, are added to the shared ones (de Vries et al. 2017; Miyato and Koyama 2018). They start at zero, so that
    an unknown label starts where the others do.

    Attributes:
      running: keep running statistics in the collection `stats` and use them outside training. Without, as in a
        discriminator, which is never asked about a single image, the batch's own always count and nothing is kept.
      momentum: share of the old value in a running statistic (0.9 in DCGAN and SNGAN).
      eps: added to the variance.
      gain: initialiser of the shared gain.
    """

    running: bool = True
    momentum: float = 0.9
    eps: float = 1e-5
    gain: Callable = nn.initializers.ones

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, label: jax.Array | None = None, label_weight: jax.Array | float = 1.0
    ) -> jax.Array:
        """`label` is one-hot, [B, N]; `label_weight` is the share of it that is let through."""
        channels, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        if self.running:
            kept_mean = self.variable('stats', 'mean', jnp.zeros, channels)
            kept_var = self.variable('stats', 'var', jnp.ones, channels)
        if self.running and not train:
            mean, var = kept_mean.value, kept_var.value
        else:
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)
            if self.running and not self.is_initializing():
                kept_mean.value = self.momentum * kept_mean.value + (1 - self.momentum) * mean
                kept_var.value = self.momentum * kept_var.value + (1 - self.momentum) * var
        gain, bias = self.param('gain', self.gain, channels), self.param('bias', nn.initializers.zeros, channels)
        if label is not None:
            zeros, shape = nn.initializers.zeros, (label.shape[-1], *channels)
            spread = lambda row: jnp.expand_dims(row * label_weight, axes[1:])  # [B, 1, ..., C]
            gain = gain + spread(label @ self.param('label_gain', zeros, shape))
            bias = bias + spread(label @ self.param('label_bias', zeros, shape))
        return (x - mean) * (jax.lax.rsqrt(var + self.eps) * gain) + bias  # in one pass over x


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) of each image [H, W, C] as a whole, with a gain and bias for each channel.

    It leaves images independent of each other, as a penalty on the gradient of each needs (Gulrajani et al. 2017,
    section 4).
    """

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes, channels = tuple(range(1, x.ndim)), x.shape[-1:]
        x = (x - jnp.mean(x, axes, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, axes, keepdims=True) + self.eps)
        return x * self.param('gain', nn.initializers.ones, channels) + self.param(
            'bias', nn.initializers.zeros, channels
        )


class Grouped(nn.Module):
    """Group normalisation (Wu and He 2018) of [B, ..., C], mean and variance of each image's groups of channels.

    Sums are taken over positions first, channel by channel, and over the channels of a group then: in memory channels
    are neighbours, and a reduction over a few neighbours at a time is several times slower on CPUs.

    Attributes:
      groups: runs of C / groups channels.
      eps: added to the variance.

    Raises:
      ValueError: `groups` does not divide C.
    """

    groups: int
    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        b, *spatial, c = x.shape
        if c % self.groups:
            raise ValueError(f'{c} channels cannot be divided into {self.groups} groups')
        axes, each = tuple(range(1, x.ndim - 1)), c // self.groups
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))  # 16 bits would be too few for sums

        def mean(y):
            total = jnp.sum(jnp.sum(y, axes).reshape(b, self.groups, each), -1)  # [B, groups]
            mean = jnp.repeat(total / (math.prod(spatial) * each), each, -1)
            return jnp.expand_dims(mean, axes)  # [B, 1, ..., C]

        centre = mean(wide)
        variance = jnp.maximum(mean(jnp.square(wide)) - jnp.square(centre), 0)
        scale = self.param('scale', nn.initializers.ones, (c,))
        bias = self.param('bias', nn.initializers.zeros, (c,))
        factor = jax.lax.rsqrt(variance + self.eps) * scale
        return computed_once(wide * factor + (bias - centre * factor))  # of x itself, kept for the gradient anyway


class GroupNorm(nn.Module):
    """`Grouped` of 32 groups or, where these would have fewer than 4 channels each, of half as many, and so on."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        groups = math.gcd(32, x.shape[-1])
        while groups > 1 and x.shape[-1] // groups < 4:
            groups //= 2
        return Grouped(groups, name='norm')(x)


def _unit(x: jax.Array) -> jax.Array:
    return x / (jnp.linalg.norm(x) + 1e-12)


def spectral_normalize(module: nn.Module, kernel: jax.Array, train: bool) -> jax.Array:
    """Divides a kernel by an estimate of its largest singular value as a matrix [h w C, D].

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, algorithm 1: one step of
    power iteration a forward pass, from where the last training pass stopped; the gradient takes both singular vectors
    as constants (section 2.4).

    Args:
      module: keeps the left vector u [D] in its collection `stats`.
      kernel: [..., C, D].
      train: whether u moves.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    u = module.variable('stats', 'u', lambda: _unit(jax.random.normal(module.make_rng('params'), kernel.shape[-1:])))
    constant = jax.lax.stop_gradient(matrix)
    v = _unit(constant @ u.value)
    new = _unit(v @ constant)
    if train and not module.is_initializing():
        u.value = new
    return kernel / (v @ matrix @ new)


class Linear(nn.Module):
    """A matrix product or convolution whose kernel may be spectrally normalised.

    Attributes:
      features: output channels.
      size: (h, w) of the kernel; empty for a matrix.
      product: (x [B, ..., C], kernel [*size, C, features]) -> [B, ..., features].
      bias: whether there is one.
      spectral: normalise the kernel.
      kernel_init: initialiser of the kernel.
    """

    features: int
    size: tuple[int, ...] = ()
    product: Callable[[jax.Array, jax.Array], jax.Array] = jnp.matmul
    bias: bool = True
    spectral: bool = False
    kernel_init: Callable = nn.initializers.he_normal()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """`train` lets the estimate of the spectral norm move."""
        kernel = self.param('kernel', self.kernel_init, (*self.size, x.shape[-1], self.features))
        if self.spectral:
            kernel = spectral_normalize(self, kernel, train)
        x = self.product(x, kernel)
        return add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,))) if self.bias else x
