"""The stride-1 convolution under every network, the bias after it, and what keeps gradients from being repeated."""

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
    """`_plain`, whose gradients of any order are convolutions in the same layout again."""
    return _plain(x, kernel, padding)


def _forward(x, kernel, padding):
    # By `_canonical`, not `_plain`: this is what a second differentiation differentiates.
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

    On CPUs the gradients are spelled out in the layout of the forward pass: XLA brings convolutions into the form its
    fast CPU kernel takes only at the top level of a program, and inside `lax.cond` or `lax.scan` ran the transposed
    ones some fifty times slower. Elsewhere the compiler's own gradients are best left alone.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      padding: zeros on both sides of H and of W, less than the kernel's size.

    Returns:
      [B, H + 2 padding - h + 1, ..., D].
    """
    return (_canonical if jax.default_backend() == 'cpu' else _plain)(x, kernel, padding)


def conv_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`conv` of an odd-sized kernel that keeps the image's size."""
    return conv(x, kernel, (kernel.shape[0] // 2, kernel.shape[1] // 2))


@jax.custom_vjp
def _added(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias


def _added_backward(_, grad):
    grad = jax.lax.optimization_barrier(grad)  # see `computed_once`
    rows = grad.reshape(-1, grad.shape[-1])
    return grad, jnp.ones(len(rows), grad.dtype) @ rows


_added.defvjp(lambda x, bias: (x + bias, None), _added_backward)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """x [..., C] plus bias [C], in the precision of x.

    On CPUs the bias's gradient is a product with ones: XLA's sum over all but the last axis goes through memory once a
    channel, and took as long as the convolution before it. Like `conv` it has no forward-mode derivative there.
    """
    return (_added if jax.default_backend() == 'cpu' else jnp.add)(x, bias.astype(x.dtype))


@jax.custom_vjp
def _separate(x: jax.Array) -> jax.Array:
    return x


_separate.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.optimization_barrier(grad),))


def computed_once(x: jax.Array) -> jax.Array:
    """x itself, of any shape, whose gradient is computed once, whatever takes it, on CPUs.

    XLA's CPU compiler fuses what computes a gradient into everything that takes it, be it a normalisation and its
    activation with the sums of several branches, and so computes it again for the bias, the kernel, each statistic and
    what lies before. A barrier prevents that (`jit_update` has the compiler keep it). It is worth its pass through
    memory where the computation is long: after normalisation, not after StyleGAN2's activations. Like `conv` it has no
    forward-mode derivative there.
    """
    return _separate(x) if jax.default_backend() == 'cpu' else x
