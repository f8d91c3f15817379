"""A pool of earlier generated pictures, of which a discriminator is shown some instead of the newest ones.

Shrivastava et al., "Learning from Simulated and Unsupervised Images through Adversarial Training", CVPR 2017, section
2.3, in the form of CycleGAN (Zhu et al. 2017, section 4): until the pool is full each picture is stored and returned;
then half of the pictures take the place of a stored one, which is returned instead.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Pool = dict[str, jax.Array]


def empty(size: int, shape: tuple[int, int, int]) -> Pool:
    """A pool of `size` pictures [H, W, C]: `pictures` float32 [size, H, W, C], and `count` of those that it holds."""
    return {'pictures': jnp.zeros((size, *shape)), 'count': jnp.zeros((), jnp.int32)}


def exchange(pool: Pool, images: jax.Array, keys: jax.Array) -> tuple[Pool, jax.Array]:
    """Offers pictures to a pool one after the other.

    Args:
      pool: see `empty`.
      images: float32 [B, H, W, C].
      keys: the samples' own, [B].

    Returns:
      the pool, and the pictures to show, [B, H, W, C].
    """
    size = len(pool['pictures'])

    def draw(key):
        swaps, place = jax.random.split(key)
        return jax.random.bernoulli(swaps), jax.random.randint(place, (), 0, size, jnp.int32)

    def offer(pool, row):
        image, (swaps, place) = row
        filling = pool['count'] < size
        place = jnp.where(filling, pool['count'], place)
        stored = pool['pictures'][place]
        kept = jnp.where(filling | swaps, image, stored)
        pictures = jax.lax.dynamic_update_index_in_dim(pool['pictures'], kept, place, 0)
        count = jnp.minimum(pool['count'] + 1, size)
        return {'pictures': pictures, 'count': count}, jnp.where(~filling & swaps, stored, image)

    return jax.lax.scan(offer, pool, (images, jax.vmap(draw)(keys)))
