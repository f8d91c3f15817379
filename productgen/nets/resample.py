"""Resampling by two with the [1, 3, 3, 1] filter, by itself and fused with 3x3 convolutions.

The implementation is polyphase: an upsampled signal is computed as its even and odd samples, each a sum of shifted
low-resolution signals, which are interleaved at the end; a signal to downsample is split first. So there are no
multiplications by inserted zeros (no `lhs_dilation`) and no depthwise convolutions, in the forward and the backward
pass; both are slow on CPUs and GPUs.

The filter is that of Zhang, "Making Convolutional Networks Shift-Invariant Again", 2019, as used by StyleGAN2 (Karras
et al. 2020); results equal those of inserting zeros and filtering with zero padding. Arrays are [B, H, W, C].
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.conv import conv


def _cut(x: jax.Array, axis: int, start: int, size: int) -> jax.Array:
    """Takes `size` samples from `start` along `axis`, zeros beyond the ends."""
    stop, length = start + size, x.shape[axis]
    x = jax.lax.slice_in_dim(x, max(start, 0), min(stop, length), axis=axis)
    margin = (max(-start, 0), max(stop - length, 0))
    return jnp.pad(x, [margin if i == axis else (0, 0) for i in range(x.ndim)])


def _interleave(even: jax.Array, odd: jax.Array, axis: int) -> jax.Array:
    """Interleaves two [..., N, ...] signals, -> [..., 2N, ...]."""
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis + 1).reshape(shape)


def _split(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Splits [..., 2N, ...] into its even and odd samples."""
    shape = list(x.shape)
    shape[axis : axis + 1] = [shape[axis] // 2, 2]
    x = x.reshape(shape)
    return jax.lax.index_in_dim(x, 0, axis + 1, False), jax.lax.index_in_dim(x, 1, axis + 1, False)


def upsample(x: jax.Array) -> jax.Array:
    """Upsamples [B, H, W, C] -> [B, 2H, 2W, C]; constant images keep their value."""
    for axis in (1, 2):
        before, after = _cut(x, axis, -1, x.shape[axis]), _cut(x, axis, 1, x.shape[axis])
        x = _interleave(0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after, axis)
    return x


def downsample(x: jax.Array) -> jax.Array:
    """Downsamples [B, 2H, 2W, C] -> [B, H, W, C]."""
    for axis in (1, 2):
        even, odd = _split(x, axis)
        size = even.shape[axis]
        x = 0.125 * _cut(odd, axis, -1, size) + 0.375 * (even + odd) + 0.125 * _cut(even, axis, 1, size)
    return x


def _taps(kernel: jax.Array, row: int, column: int) -> jax.Array:
    """Taps of a 3x3 kernel that apply to one phase: the middle one for even samples, the outer two for odd ones."""
    pick = (slice(1, 2), slice(0, 3, 2))
    return kernel[pick[row], pick[column]]


def conv_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Upsampling and 3x3 convolution, [B, H, W, C] -> [B, 2H, 2W, D], at the cost of one 3x3 convolution of [H, W].

    The order is that of StyleGAN2, a transposed convolution and then the filter; away from the border the two commute.
    """
    # Transposed convolution: even samples see one tap, odd samples (one more of them, from -1) two. The padding is
    # explicit: padded convolutions with a 2x2 kernel have weight gradients some ten times slower on CPUs.
    padded = jnp.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    phase = {}
    for i in (0, 1):
        for j in (0, 1):
            part = padded[:, 1 - i : padded.shape[1] - 1 + i, 1 - j : padded.shape[2] - 1 + j]
            phase[i, j] = conv(part, _taps(kernel, i, j))  # [B, H + i, W + j, D]

    def merge(even, odd, axis):
        size = even.shape[axis]
        before, after = jax.lax.slice_in_dim(odd, 0, size, axis=axis), jax.lax.slice_in_dim(odd, 1, size + 1, axis=axis)
        return _interleave(
            0.25 * _cut(even, axis, -1, size) + 0.75 * (before + even) + 0.25 * after,
            0.25 * before + 0.75 * (even + after) + 0.25 * _cut(even, axis, 1, size),
            axis,
        )

    rows = [merge(phase[i, 0], phase[i, 1], 2) for i in (0, 1)]  # 2 x [B, H + i, 2W, D]
    return merge(rows[0], rows[1], 1)


def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filter, then 3x3 convolution of stride 2, [B, 2H, 2W, C] -> [B, H, W, D]."""

    def filtered(x, axis):
        even, odd = _split(x, axis)
        size = even.shape[axis]
        # The filtered signal at even positions 0, 2, ... and at odd positions -1, 1, 3, ...
        at_even = 0.125 * _cut(odd, axis, -1, size) + 0.375 * (even + odd) + 0.125 * _cut(even, axis, 1, size)
        at_odd = 0.125 * (_cut(even, axis, -1, size + 1) + _cut(odd, axis, 0, size + 1)) + 0.375 * (
            _cut(odd, axis, -1, size + 1) + _cut(even, axis, 0, size + 1)
        )
        return at_even, at_odd

    out = 0.0
    for i, rows in enumerate(filtered(x, 1)):
        for j, part in enumerate(filtered(rows, 2)):
            out += conv(part, _taps(kernel, i, j))
    return out


def enlarge(x: jax.Array, scale: int) -> jax.Array:
    """Pictures [B, H, W, C] of any range enlarged `scale` times by the bicubic filter, not clipped."""
    if scale == 1:
        return x
    for axis in (1, 2):
        x = _enlarged(x, scale, axis)
    return x


def _enlarged(x: jax.Array, scale: int, axis: int) -> jax.Array:
    """One axis `scale` times as long; every phase of the result is a filter of its own, its borders repeated."""
    wide = jnp.pad(x, [(2, 2) if i == axis else (0, 0) for i in range(x.ndim)], mode='edge')
    size, phases = x.shape[axis], []
    for phase in range(scale):
        centre = (phase + 0.5) / scale - 0.5
        taps = np.asarray([_keys(k - centre) for k in range(-2, 3)], np.float32)
        shifted = [jax.lax.slice_in_dim(wide, k, k + size, axis=axis) * taps[k] for k in range(5) if taps[k]]
        phases.append(sum(shifted))
    shape = list(x.shape)
    shape[axis] *= scale
    return jnp.stack(phases, axis + 1).reshape(shape)


def _keys(t: float) -> float:
    """Keys' cubic filter with a = -0.5."""
    t = abs(t)
    return (1.5 * t - 2.5) * t * t + 1 if t < 1 else ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0
