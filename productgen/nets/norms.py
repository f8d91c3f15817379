"""Normalisation of activations and of weights, and a linear layer with optional spectral normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.nets.conv import add_bias, computed_once

# PyTorch's default for convolutions and matrices: uniform with variance 1 / (3 fan_in).
TORCH_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) of [B, ..., C] over all axes but the last, optionally conditional.

    Mean and biased variance are computed over all images of a forward pass on all devices: over the global batch or,
    with `train.accumulate`, over one part of it. With a label, a gain and a bias per attribute value, summed over
    attributes, are added to the shared ones (de Vries et al. 2017; Miyato and Koyama 2018). By default they start at
    zero, so that known and unknown labels start alike.

    Attributes:
      running: keep running statistics in the collection `stats` and use them when not training. If False, as in
        discriminators, always use the statistics of the batch.
      momentum: decay of the running statistics (0.9 in DCGAN and SNGAN).
      eps: added to the variance.
      gain: initialiser of the shared gain.
      label_init: initialiser of the gains and biases of labels.
    """

    running: bool = True
    momentum: float = 0.9
    eps: float = 1e-5
    gain: Callable = nn.initializers.ones
    label_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, label: jax.Array | None = None, label_weight: jax.Array | float = 1.0
    ) -> jax.Array:
        """`label` is one-hot, [B, N]; `label_weight`, from 0 to 1, scales its gain and bias."""
        channels, axes = x.shape[-1:], tuple(range(x.ndim - 1))
        if self.running:
            running_mean = self.variable('stats', 'mean', jnp.zeros, channels)
            running_var = self.variable('stats', 'var', jnp.ones, channels)
        if self.running and not train:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var = jnp.mean(x, axes), jnp.var(x, axes)
            if self.running and not self.is_initializing():
                running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
                running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        gain, bias = self.param('gain', self.gain, channels), self.param('bias', nn.initializers.zeros, channels)
        if label is not None:
            shape = label.shape[-1], *channels
            expand = lambda row: jnp.expand_dims(row * label_weight, axes[1:])  # [B, 1, ..., C]
            gain = gain + expand(label @ self.param('label_gain', self.label_init, shape))
            bias = bias + expand(label @ self.param('label_bias', self.label_init, shape))
        return (x - mean) * (jax.lax.rsqrt(var + self.eps) * gain) + bias  # in one pass over x


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) over H, W and C of each image, with a gain and bias per channel.

    Images stay independent of each other, which gradient penalties need (Gulrajani et al. 2017, section 4).
    """

    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes, channels = tuple(range(1, x.ndim)), x.shape[-1:]
        x = (x - jnp.mean(x, axes, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, axes, keepdims=True) + self.eps)
        return x * self.param('gain', nn.initializers.ones, channels) + self.param(
            'bias', nn.initializers.zeros, channels
        )


class InstanceNorm(nn.Module):
    """Instance normalisation (Ulyanov et al. 2016) of [B, ..., C] over the positions of each image and channel.

    Attributes:
      affine: learn a gain and a bias per channel.
      eps: added to the biased variance.
      gain: initialiser of the gain.
    """

    affine: bool = False
    eps: float = 1e-5
    gain: Callable = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes, channels = tuple(range(1, x.ndim - 1)), x.shape[-1:]
        centred = x - jnp.mean(x, axes, keepdims=True)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axes, keepdims=True) + self.eps)
        if not self.affine:
            return computed_once(centred * scale)
        scale = scale * self.param('gain', self.gain, channels)
        return computed_once(centred * scale + self.param('bias', nn.initializers.zeros, channels))


class Grouped(nn.Module):
    """Group normalisation (Wu and He 2018) of [B, ..., C].

    Sums are taken over positions first, per channel, then over the channels of a group: channels are contiguous in
    memory, and reducing over a few contiguous values at a time is several times slower on CPUs.

    Attributes:
      groups: number of groups, each of C / groups consecutive channels.
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
        axes, size = tuple(range(1, x.ndim - 1)), c // self.groups
        wide = x.astype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)  # 16 bits are not enough for the sums

        def mean(y):
            total = jnp.sum(jnp.sum(y, axes).reshape(b, self.groups, size), -1)  # [B, groups]
            mean = jnp.repeat(total / (math.prod(spatial) * size), size, -1)
            return jnp.expand_dims(mean, axes)  # [B, 1, ..., C]

        centre = mean(wide)
        variance = jnp.maximum(mean(jnp.square(wide)) - jnp.square(centre), 0)
        scale = self.param('scale', nn.initializers.ones, (c,))
        bias = self.param('bias', nn.initializers.zeros, (c,))
        factor = jax.lax.rsqrt(variance + self.eps) * scale
        return computed_once(wide * factor + (bias - centre * factor))  # in x, which the gradient stores anyway


class GroupNorm(nn.Module):
    """`Grouped` with 32 groups, halved until each has at least 4 channels."""

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
    power iteration per forward pass, starting from the last training pass; both singular vectors are constants for the
    gradient (section 2.4).

    Args:
      module: stores the vector u [D] in its collection `stats`.
      kernel: [..., C, D].
      train: whether to update u.

    Returns:
      the normalised kernel, [..., C, D].
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
    """Matrix product or convolution with optional spectral normalisation of the kernel.

    Attributes:
      features: output channels.
      size: (h, w) of the kernel; empty for a matrix.
      product: (x [B, ..., C], kernel [*size, C, features]) -> [B, ..., features].
      bias: whether to add a bias.
      spectral: apply spectral normalisation to the kernel.
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
        """`train` updates the estimate of the spectral norm."""
        kernel = self.param('kernel', self.kernel_init, (*self.size, x.shape[-1], self.features))
        if self.spectral:
            kernel = spectral_normalize(self, kernel, train)
        x = self.product(x, kernel)
        return add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,))) if self.bias else x
