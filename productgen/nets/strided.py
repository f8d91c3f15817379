"""4x4 and 3x3 convolutions of stride 2 and their transposes: the down- and upsampling of DCGAN and its relatives.

All are computed exactly as 2x2 convolutions of stride 1 over blocks of 2x2 pixels, which avoids `lhs_dilation` in the
forward and the backward pass; it is slow on CPUs and GPUs.

A 3x3 convolution after nearest-neighbour upsampling, or before average pooling, is computed as one of these, at less
than half the cost.
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


def fold(x: jax.Array, side: int) -> jax.Array:
    """Moves blocks of `side` x `side` pixels to channels, by `to_depth`; `side` is a power of two."""
    for _ in range(side.bit_length() - 1):
        x = to_depth(x)
    return x


def unfold(x: jax.Array, side: int) -> jax.Array:
    """Inverts `fold`: channels become `side` x `side` pixels each."""
    for _ in range(side.bit_length() - 1):
        x = to_space(x)
    return x


def conv_halve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2 and padding 1, [B, 2H, 2W, C] and [4, 4, C, D] -> [B, H, W, D].

    Of an odd side 2H + 1 the padding at the end is not reached, and the result has H rows too.
    """
    *_, c, d = kernel.shape
    blocks = kernel.reshape(2, 2, 2, 2, c, d).transpose(0, 2, 1, 3, 4, 5)  # [2, 2, 2, 2, C, D]: block, then within
    x = jnp.pad(x, [(0, 0), *((1, 1 - side % 2) for side in x.shape[1:3]), (0, 0)])
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


def _to_four(kernel: jax.Array) -> jax.Array:
    """Zeros after a 3x3 kernel, [3, 3, C, D] -> [4, 4, C, D]."""
    return jnp.pad(kernel, [(0, 1), (0, 1), (0, 0), (0, 0)])


def halve_padded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of stride 2 and padding 1 on both sides (PyTorch's), [B, 2H, 2W, C] -> [B, H, W, D]."""
    return conv_halve(x, _to_four(kernel))


def double_padded(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transpose of `halve_padded` with C and D exchanged, [B, H, W, C] and [3, 3, C, D] -> [B, 2H, 2W, D].

    It is PyTorch's transposed convolution of stride 2, padding 1 and output padding 1.
    """
    return conv_double(x, _to_four(kernel))


def _spread(kernel: jax.Array) -> jax.Array:
    """Convolves a 3x3 kernel with 2x2 ones, [3, 3, C, D] -> [4, 4, C, D]."""
    for axis in (0, 1):
        margin = lambda before, after, axis=axis: [(before, after) if i == axis else (0, 0) for i in range(4)]
        kernel = jnp.pad(kernel, margin(0, 1)) + jnp.pad(kernel, margin(1, 0))
    return kernel


def up_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling, then a 3x3 convolution, [B, H, W, C] -> [B, 2H, 2W, D]."""
    return conv_double(x, _spread(jnp.flip(kernel, (0, 1))))


def conv_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution, then 2x2 average pooling, [B, 2H, 2W, C] -> [B, H, W, D]."""
    return conv_halve(x, _spread(kernel) / 4)


def upsample(x: jax.Array) -> jax.Array:
    """Nearest-neighbour upsampling, [B, H, W, C] -> [B, 2H, 2W, C]."""
    return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)


def pool(x: jax.Array) -> jax.Array:
    """2x2 average pooling, [B, 2H, 2W, C] -> [B, H, W, C]."""
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), (2, 4))
