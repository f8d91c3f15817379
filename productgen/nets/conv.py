"""Stride-1 convolution, bias addition, and a barrier against recomputing gradients, as all networks use them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def _plain(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    pad = [(p, p) for p in padding]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pad, dimension_numbers=_LAYOUT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _canonical(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """Like `_plain`; gradients of any order are convolutions in the same layout."""
    return _plain(x, kernel, padding)


def _forward(x, kernel, padding):
    # `_canonical`, not `_plain`: second derivatives differentiate this call.
    return _canonical(x, kernel, padding), (x, kernel)


def _backward(padding, residuals, grad):
    x, kernel = residuals
    h, w = kernel.shape[:2]
    dx = _canonical(grad, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (h - 1 - padding[0], w - 1 - padding[1]))
    dk = _canonical(x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), padding)  # [C, h, w, D]
    return dx, dk.transpose(1, 2, 0, 3)


_canonical.defvjp(_forward, _backward)


def conv(x: jax.Array, kernel: jax.Array, padding: tuple[int, int] = (0, 0)) -> jax.Array:
    """Dense convolution (cross-correlation) of stride 1.

    On CPUs the gradients are written out as convolutions in the layout of the forward pass. XLA rewrites convolutions
    to the form of its fast CPU kernel only at the top level of a program; inside `lax.cond` or `lax.scan` the
    transposed ones ran some fifty times slower. Other backends use the gradients of the compiler.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      padding: zeros on each side of H and of W, fewer than the kernel's size.

    Returns:
      [B, H + 2 padding - h + 1, ..., D].
    """
    return (_canonical if jax.default_backend() == 'cpu' else _plain)(x, kernel, padding)


def conv_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Applies `conv` with an odd-sized kernel, keeping H and W."""
    return conv(x, kernel, (kernel.shape[0] // 2, kernel.shape[1] // 2))


def channel_sum(x: jax.Array) -> jax.Array:
    """Sum over all axes but the last, [..., C] -> [C], as a product with ones; see `add_bias`."""
    rows = x.reshape(-1, x.shape[-1])
    return jnp.ones(len(rows), x.dtype) @ rows


@jax.custom_vjp
def _added(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias


def _added_backward(_, grad):
    grad = jax.lax.optimization_barrier(grad)  # see `computed_once`
    return grad, channel_sum(grad)


_added.defvjp(lambda x, bias: (x + bias, None), _added_backward)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Adds bias [C] to x [..., C] in the dtype of x.

    On CPUs the gradient of the bias is a product with ones: XLA's sum over all but the last axis passes through memory
    once per channel, and took as long as the convolution before it. Like `conv`, it has no forward-mode derivative on
    CPUs.
    """
    return (_added if jax.default_backend() == 'cpu' else jnp.add)(x, bias.astype(x.dtype))


@jax.custom_vjp
def _scaled(x: jax.Array, gain: jax.Array) -> jax.Array:
    return x * gain


def _scaled_backward(residuals, grad):
    x, gain = residuals
    grad = jax.lax.optimization_barrier(grad)
    return grad * gain, channel_sum(x * grad)


_scaled.defvjp(lambda x, gain: (x * gain, (x, gain)), _scaled_backward)


def scale_channels(x: jax.Array, gain: jax.Array) -> jax.Array:
    """Multiplies x [..., C] by gain [C] in the dtype of x; on CPUs the gradient of the gain is as in `add_bias`."""
    return (_scaled if jax.default_backend() == 'cpu' else jnp.multiply)(x, gain.astype(x.dtype))


@jax.custom_vjp
def _separate(x: jax.Array) -> jax.Array:
    return x


_separate.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.optimization_barrier(grad),))


def computed_once(x: jax.Array) -> jax.Array:
    """Returns x, of any shape; on CPUs its gradient is computed once and stored.

    XLA's CPU compiler fuses the computation of a gradient (of a normalisation, an activation, sums of branches) into
    each of its consumers, and so repeats it for the bias, the kernel, each statistic and the layer before. An
    optimisation barrier prevents that (`jit_update` makes the compiler keep it). It costs one pass through memory,
    which pays where the computation is long: after normalisation, not after StyleGAN2's activations. Like `conv`, it
    has no forward-mode derivative on CPUs.
    """
    return _separate(x) if jax.default_backend() == 'cpu' else x
