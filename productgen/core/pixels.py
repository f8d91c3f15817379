"""Images as uint8 and as float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def to_float(image: jax.Array) -> jax.Array:
    """Converts uint8 images to float32 in [-1, 1]; float images are in this range already."""
    return image.astype(jnp.float32) / 127.5 - 1 if image.dtype == jnp.uint8 else image.astype(jnp.float32)


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts float images in [-1, 1] to uint8, rounded and clipped."""
    return jnp.clip(jnp.round((image.astype(jnp.float32) + 1) * 127.5), 0, 255).astype(jnp.uint8)
