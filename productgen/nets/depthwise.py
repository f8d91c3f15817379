"""Depthwise convolution, as shifted products."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from productgen.nets.conv import channel_sum


def pad_same(x: jax.Array, size: int, stride: int) -> jax.Array:
    """Pads [B, H, W, C] as TensorFlow does for `SAME`: an odd zero goes to the bottom and to the right."""
    beyond = [max((-(-length // stride) - 1) * stride + size - length, 0) for length in x.shape[1:3]]
    return jnp.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in beyond), (0, 0)])


def _every(x: jax.Array, i: int, j: int, stride: int, size: tuple[int, ...]) -> jax.Array:
    """Every `stride`-th pixel of [B, H, W, C] from (i, j) on, `size` of them."""
    h, w = (stride * (n - 1) + 1 for n in size)
    return x[:, i : i + h : stride, j : j + w : stride]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution of each channel by itself without padding, of [B, H, W, C] with [h, w, C]."""
    h, w, _ = kernel.shape
    size = (x.shape[1] - h) // stride + 1, (x.shape[2] - w) // stride + 1
    return sum(_every(x, i, j, stride, size) * kernel[i, j] for i in range(h) for j in range(w))


def _depthwise_forward(x, kernel, stride):
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(stride, residuals, grad):
    """A pixel of x is reached by every `stride`-th tap, so that dx is one convolution for each of stride^2 phases."""
    x, kernel = residuals
    (h, w, c), size, steps = kernel.shape, grad.shape[1:3], range(stride)
    zero, blocks = jnp.zeros((), grad.dtype), [-(-length // stride) for length in x.shape[1:3]]

    def phase(i, j):
        taps = jnp.flip(kernel[i::stride, j::stride], (0, 1))
        margin = [(k - 1, block - n, 0) for k, block, n in zip(taps.shape[:2], blocks, size, strict=True)]
        return _depthwise(jax.lax.pad(grad, zero, [(0, 0, 0), *margin, (0, 0, 0)]), taps, 1)

    dx = jnp.stack([jnp.stack([phase(i, j) for j in steps], 3) for i in steps], 2)  # [B, H / s, s, W / s, s, C]
    dx = dx.reshape(-1, blocks[0] * stride, blocks[1] * stride, c)[:, : x.shape[1], : x.shape[2]]
    products = [_every(x, i, j, stride, size) * grad for i in range(h) for j in range(w)]
    return dx, _sums(products).reshape(h, w, c)


def _sums(maps: list[jax.Array]) -> jax.Array:
    """Sums of N maps [B, H, W, C] over all axes but the last, [N, C].

    On CPUs as one reduction, which computes the maps on its way: N of them were two to seven times slower.
    """
    if jax.default_backend() != 'cpu':
        return jnp.stack([channel_sum(x) for x in maps])
    zeros, add = [jnp.zeros((), maps[0].dtype)] * len(maps), lambda a, b: [p + q for p, q in zip(a, b, strict=True)]
    return jnp.stack(jax.lax.reduce(maps, zeros, add, (1, 2))).sum(1)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution of each channel by itself, [B, H, W, C] -> [B, H / stride, W / stride, C], padded as `SAME`.

    As a sum of shifted products, which XLA fuses: its own grouped convolution has slow gradients on CPUs. The gradients
    are written out as such sums too, since those of slices are sums of padded arrays, several times slower.

    Args:
      x: [B, H, W, C].
      kernel: [k, k, 1, C].
      stride: of both axes.
    """
    return _depthwise(pad_same(x, kernel.shape[0], stride), kernel[:, :, 0], stride)
