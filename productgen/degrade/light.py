"""Low light: an underexposed photo of a camera that has done what it can."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from productgen.core.pixels import from_linear, to_linear
from productgen.degrade.noise import camera


def low_light(
    x: jax.Array, exposure: jax.Array | float, keys: jax.Array, shot: jax.Array | float = 0.002, read: float = 1e-5
) -> jax.Array:
    """Takes pictures with a fraction of the light, and the sensor's noise, which the darkness does not reduce.

    Args:
      x: [B, H, W, C].
      exposure: fraction of the light, above 0 to 1; a number or [B].
      keys: [B].
      shot: see `camera`.
      read: see `camera`.

    Returns:
      [B, H, W, C] in [0, 1].
    """
    exposure = jnp.asarray(exposure, jnp.float32).reshape(-1, 1, 1, 1)
    return camera(from_linear(to_linear(jnp.clip(x, 0, 1)) * exposure), shot, read, keys)
