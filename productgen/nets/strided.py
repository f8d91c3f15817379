"""4x4 convolutions of stride 2 and their transposes: the down- and upsampling of DCGAN and its relatives.

Both are computed exactly as 2x2 convolutions of stride 1 over blocks of 2x2 pixels, which avoids `lhs_dilation` in the
forward and the backward pass; it is slow on CPUs and GPUs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from productgen.nets.conv import conv


def to_depth(x: jax.Array) -> jax.Array:
    """Moves blocks of 2x2 pixels to channels, [B, 2H, 2W, C] -> [B, H, W, 4C], row-major within a block."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)  # [B, H, W, 2, 2, C]
    return x.reshape(b, h // 2, w // 2, 4 * c)


def to_space(x: jax.Array) -> jax.Array:
    """Inverts `to_depth`, [B, H, W, 4C] -> [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)  # [B, H, 2, W, 2, C]
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def conv_halve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2 and padding 1, [B, 2H, 2W, C] and [4, 4, C, D] -> [B, H, W, D]."""
    *_, c, d = kernel.shape
    blocks = kernel.reshape(2, 2, 2, 2, c, d).transpose(0, 2, 1, 3, 4, 5)  # [2, 2, 2, 2, C, D]: block, then within
    x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return conv(to_depth(x), blocks.reshape(2, 2, 4 * c, d))


def conv_double(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 and padding 1, [B, H, W, C] and [4, 4, C, D] -> [B, 2H, 2W, D].

    Output (i, j) sums x[p, q] kernel[i + 1 - 2p, j + 1 - 2q]: the adjoint of `conv_halve` with C and D exchanged.
    """
    *_, c, d = kernel.shape
    blocks = jnp.flip(kernel.reshape(2, 2, 2, 2, c, d), (0, 2))  # a transposed convolution flips the kernel's blocks
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, c, 4 * d)
    x = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    return to_space(conv(x, blocks))[:, 1:-1, 1:-1]


def halve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of stride 2, padded at the end only (TensorFlow's SAME), [B, 2H, 2W, C] -> [B, H, W, D]."""
    return conv_halve(x, jnp.pad(kernel, [(1, 0), (1, 0), (0, 0), (0, 0)]))
