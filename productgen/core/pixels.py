"""Images as uint8 and as float32, in sRGB and in linear light."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray | jax.Array
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, of sRGB values


def eight_bits(image: np.ndarray) -> np.ndarray:
    """Values in [0, 1], others clipped, as uint8."""
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def to_float(image: jax.Array) -> jax.Array:
    """Converts uint8 images to float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts float images in [-1, 1] to uint8, rounded and clipped."""
    return jnp.clip(jnp.round((image.astype(jnp.float32) + 1) * 127.5), 0, 255).astype(jnp.uint8)


def to_linear(x: Array) -> Array:
    """sRGB values in [0, 1] as linear light, in the library of x (IEC 61966-2-1)."""
    xp = x.__array_namespace__()
    # The maximum keeps NaN out of the gradient of the branch that is not taken.
    return xp.where(x <= 0.04045, x / 12.92, ((xp.maximum(x, 0.04045) + 0.055) / 1.055) ** 2.4)


def from_linear(x: Array) -> Array:
    """Inverts `to_linear`."""
    xp = x.__array_namespace__()
    return xp.where(x <= 0.0031308, x * 12.92, 1.055 * xp.maximum(x, 0.0031308) ** (1 / 2.4) - 0.055)
