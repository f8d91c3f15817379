"""Layers shared by the networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.state import PyTree
from productgen.nets.conv import add_bias, conv_same


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU of slope 0.2, scaled by sqrt(2) to keep the variance (StyleGAN2's activation)."""
    # A product with one of two factors: the gradient is a product too and selects only once.
    return x * jnp.where(x >= 0, np.sqrt(2), 0.2 * np.sqrt(2)).astype(x.dtype)


def one_hot_labels(label: jax.Array, sizes: Sequence[int]) -> jax.Array | None:
    """One-hot encodes codes int [B, A] of A attributes, -> [B, sum(sizes)]; an unknown value (-1) is all zeros.

    Returns None where there are no attributes.
    """
    if not sizes:
        return None
    return jnp.concatenate([jax.nn.one_hot(label[:, a], n) for a, n in enumerate(sizes)], -1)


def normalize_second_moment(x: jax.Array) -> jax.Array:
    """Scales each vector of [..., C] to mean square 1."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-8)


def recomputed(module: nn.Module, part: Callable, remat: bool, *args: jax.Array | None) -> PyTree:
    """Calls `part(module, *args)`; with `remat`, the backward pass recomputes its activations instead of storing them.

    Memory falls to the arguments of all parts plus the activations of one, at the cost of another forward pass (Chen et
    al., "Training Deep Nets with Sublinear Memory Cost", 2016). Parameters and results are unchanged: submodules
    created by `part` belong to `module`.

    Args:
      module: the module whose compact `__call__` is running.
      part: `(module, *args) -> arrays`; it closes over anything that is not an array.
      remat: whether to recompute.
      args: arrays of any shapes.
    """
    return nn.remat(part)(module, *args) if remat and not module.is_initializing() else part(module, *args)


class EqualDense(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al. 2018, section 4.1).

    Weights are stored at unit variance (divided by `lr_multiplier`) and scaled by He's constant at run time, so that
    Adam and other optimisers with per-weight step sizes train all layers at the same speed.

    Attributes:
      features: output width.
      bias: initial bias.
      lr_multiplier: learning rate of this layer relative to the others.
    """

    features: int
    bias: float = 0.0
    lr_multiplier: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.normal(1 / self.lr_multiplier)
        kernel = self.param('kernel', init, (x.shape[-1], self.features))
        bias = self.param('bias', nn.initializers.constant(self.bias / self.lr_multiplier), (self.features,))
        kernel = kernel * (self.lr_multiplier / np.sqrt(x.shape[-1]))
        return x @ kernel.astype(x.dtype) + (bias * self.lr_multiplier).astype(x.dtype)


def equal_kernel(module: nn.Module, shape: Sequence[int]) -> jax.Array:
    """Creates the convolution kernel [h, w, C, D] of `module`, with equalised learning rate."""
    kernel = module.param('kernel', nn.initializers.normal(1.0), tuple(shape))
    return kernel * (1 / np.sqrt(np.prod(shape[:-1])))


class Conv(nn.Module):
    """Convolution of stride 1 with padding, [B, H, W, C] -> [B, H, W, features].

    Attributes:
      features: output channels.
      kernel: side of the kernel, odd.
      bias: whether to add a bias.
      kernel_init: initialiser of the kernel.
    """

    features: int
    kernel: int = 3
    bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        x = conv_same(x, self.param('kernel', self.kernel_init, shape).astype(x.dtype))
        return add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,))) if self.bias else x


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Dropout of a fraction `rate` of x [B, ...], with one random key per sample in `keys` [B].

    Returns x unchanged without keys, as in sampling and validation.
    """
    if not rate or keys is None:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def minibatch_stddev(x: jax.Array, group: int, channels: int = 1) -> jax.Array:
    """Appends the standard deviation over groups of samples as extra channels (Karras et al. 2018, section 3).

    Groups are consecutive samples of a forward pass, so a group crosses devices only where it is larger than a device's
    part, and the result does not depend on the number of devices (with `train.accumulate`, if the group size divides a
    device's part).

    Args:
      x: [B, H, W, C].
      group: samples per group; a smaller batch is one group, a larger one must be a multiple of it.
      channels: number of statistics, dividing C.

    Returns:
      [B, H, W, C + channels].
    """
    b, h, w, c = x.shape
    group = min(group, b)
    y = x.astype(jnp.float32).reshape(b // group, group, h * w, channels, c // channels)
    y = jnp.sqrt(jnp.var(y, axis=1) + 1e-8)  # [B / group, HW, channels, C / channels]
    y = jnp.mean(y, axis=(1, 3))  # [B / group, channels]
    y = jnp.repeat(y, group, axis=0)[:, None, None].astype(x.dtype)
    return jnp.concatenate([x, jnp.broadcast_to(y, (b, h, w, channels))], -1)
