"""Blur: kernels of lenses and motion, one for each picture, and their application."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def _grid(size: int) -> tuple[jax.Array, jax.Array]:
    """Rows and columns of a kernel around its centre, [size, size] each; `size` is odd."""
    line = np.arange(size, dtype=np.float32) - size // 2
    return jnp.asarray(line[:, None]), jnp.asarray(line[None, :])


def _each(*values: jax.Array | float) -> list[jax.Array]:
    """Numbers or values [B] as [B, 1, 1]."""
    return [jnp.asarray(value, jnp.float32).reshape(-1, 1, 1) for value in values]


def _normalised(kernel: jax.Array) -> jax.Array:
    return kernel / jnp.sum(kernel, (-2, -1), keepdims=True)


def gaussian_kernel(
    size: int,
    sigma: jax.Array | float,
    sigma_across: jax.Array | float | None = None,
    angle: jax.Array | float = 0.0,
    shape: jax.Array | float = 1.0,
    plateau: jax.Array | bool = False,
) -> jax.Array:
    """Gaussian kernels, isotropic or not, and their relatives with another shape.

    With q the squared distance in standard deviations: exp(-q^shape / 2), the generalised Gaussian, or with `plateau`
    1 / (1 + q^shape) (Liu et al. 2020; both as in Wang et al., "Real-ESRGAN", 2021, section 3.2).

    Args:
      size: side of the kernel, odd.
      sigma: standard deviation in pixels along the first axis of the ellipse, above 0; a number or [B].
      sigma_across: along the second axis; by default the same.
      angle: of the first axis, radians counter-clockwise from the picture's rows.
      shape: exponent of q, above 0; 1 is the Gaussian.
      plateau: the other form.

    Returns:
      [B, size, size], of sum 1.
    """
    sigma, across, angle, shape = _each(sigma, sigma if sigma_across is None else sigma_across, angle, shape)
    y, x = _grid(size)
    u, v = x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)
    q = ((u / sigma) ** 2 + (v / across) ** 2) ** shape
    return _normalised(jnp.where(jnp.asarray(plateau).reshape(-1, 1, 1), 1 / (1 + q), jnp.exp(-0.5 * q)))


def motion_kernel(size: int, length: jax.Array | float, angle: jax.Array | float) -> jax.Array:
    """Kernels of motion along a line at constant speed, antialiased.

    Args:
      size: side of the kernel, odd and larger than `length`.
      length: of the motion in pixels, at least 1; a number or [B].
      angle: its direction, radians counter-clockwise from the picture's rows.

    Returns:
      [B, size, size], of sum 1. A weight falls linearly with the pixel's distance from the segment, to 0 at 1 pixel.
    """
    length, angle = _each(length, angle)
    y, x = _grid(size)
    along, across = x * jnp.cos(angle) - y * jnp.sin(angle), x * jnp.sin(angle) + y * jnp.cos(angle)
    beyond = jnp.maximum(jnp.abs(along) - (length - 1) / 2, 0)
    return _normalised(jnp.maximum(1 - jnp.hypot(beyond, across), 0))


def defocus_kernel(size: int, radius: jax.Array | float) -> jax.Array:
    """Disks: a point out of focus of a lens with a round aperture.

    Args:
      size: side of the kernel, odd and larger than 2 `radius` + 1.
      radius: of the disk in pixels, at least 0.5; a number or [B].

    Returns:
      [B, size, size], of sum 1; the border is antialiased over one pixel.
    """
    (radius,) = _each(radius)
    y, x = _grid(size)
    return _normalised(jnp.clip(radius + 0.5 - jnp.hypot(x, y), 0, 1))


def sinc_kernel(size: int, cutoff: jax.Array | float) -> jax.Array:
    """Circular low-pass filters, which ring as sharpening and strong compression do.

    Wang et al., "Real-ESRGAN", 2021, equation 6: cutoff J1(cutoff r) / (2 pi r).

    Args:
      size: side of the kernel, odd.
      cutoff: radians a pixel, above 0 to pi; a number or [B].

    Returns:
      [B, size, size], of sum 1.
    """
    (cutoff,) = _each(cutoff)
    y, x = _grid(size)
    r = jnp.hypot(x, y)
    safe = jnp.where(r == 0, 1.0, r)
    # J1(c r) / r -> c / 2 at the centre.
    return _normalised(jnp.where(r == 0, cutoff / 2, _bessel_j1(cutoff * safe) / safe))


def _bessel_j1(z: jax.Array) -> jax.Array:
    """The Bessel function J1 by its integral, the mean over theta in [0, pi] of cos(theta - z sin(theta))."""
    theta = (jnp.arange(64, dtype=jnp.float32) + 0.5) * (np.pi / 64)
    # The midpoint rule of a periodic function converges geometrically: exact to float32 for |z| below about 50.
    return jnp.mean(jnp.cos(theta - z[..., None] * jnp.sin(theta)), -1)


def apply_kernel(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Filters every picture with its own kernel; borders are mirrored without repeating the edge, as cameras see on.

    Args:
      x: [B, H, W, C], each side longer than half of the kernel.
      kernel: [B, K, K] or [1, K, K] for all, K odd.

    Returns:
      [B, H, W, C]: correlation, so a kernel's first row looks up.
    """
    radius, size = kernel.shape[-1] // 2, x.shape[1:3]
    x = jnp.pad(x, [(0, 0), (radius, radius), (radius, radius), (0, 0)], mode='reflect')
    # By Fourier transform: a convolution with another kernel for each picture has no fast form on CPUs.
    shape = x.shape[1:3]
    spectrum = jnp.fft.rfft2(jnp.flip(kernel, (1, 2)), shape)[..., None]
    out = jnp.fft.irfft2(jnp.fft.rfft2(x, axes=(1, 2)) * spectrum, shape, axes=(1, 2))
    return out[:, 2 * radius :, 2 * radius :][:, : size[0], : size[1]]
