"""DiffAugment: three simple augmentations that are always applied.

Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", arXiv 2006.10738, section 3.
"""

import jax
import jax.numpy as jnp

from productgen.augment.names import split_names

TRANSLATION = 1 / 8  # largest shift, as a fraction of the image size
CUTOUT = 1 / 2  # sides of the hole, as fractions of the image size


def _color(image, key):
    """Brightness within +-0.5, saturation 0 to 2 and contrast 0.5 to 1.5, in this order."""
    brightness, saturation, contrast = jax.random.uniform(key, (3,), jnp.float32).astype(image.dtype)
    image = image + (brightness - 0.5)
    grey = jnp.mean(image, axis=-1, keepdims=True)
    image = grey + 2 * saturation * (image - grey)
    mean = jnp.mean(image)
    return mean + (contrast + 0.5) * (image - mean)


def _translation(image, key):
    """Shifts by an integer number of pixels and fills with zeros."""
    height, width, channels = image.shape
    reach = [int(size * TRANSLATION + 0.5) for size in (height, width)]
    padded = jnp.pad(image, [(n, n) for n in reach] + [(0, 0)])
    y, x = jax.random.randint(key, (2,), 0, 2 * jnp.array(reach) + 1)
    return jax.lax.dynamic_slice(padded, (y, x, 0), (height, width, channels))


def _cutout(image, key):
    """Sets a rectangle of half the width and height to zero; it may extend beyond the image."""
    u = jax.random.uniform(key, (2,), jnp.float32)

    def inside(size, u):
        hole = int(size * CUTOUT + 0.5)
        start = jnp.floor(u * (size + 1 - hole % 2)).astype(jnp.int32) - hole // 2
        at = jnp.arange(size) - start
        return (at >= 0) & (at < hole)

    hole = inside(image.shape[0], u[0])[:, None] & inside(image.shape[1], u[1])
    return jnp.where(hole[..., None], 0, image)


POLICIES = {'color': _color, 'translation': _translation, 'cutout': _cutout}


def diff_augment(images, keys, policy='color,translation,cutout'):
    """Augments every image by each part of a policy, in its order.

    Args:
      images: float [B, H, W, C] in [-1, 1]; H and W may differ.
      keys: typed PRNG keys [B]. Image i depends on keys[i] only.
      policy: names out of 'color', 'translation' and 'cutout', separated by commas.

    Returns:
      Images of the same shape and dtype, not clipped.

    Raises:
      UserError: an unknown name in `policy`.

    Source: Zhao et al. 2020, arXiv 2006.10738.
    """
    names = split_names(policy, POLICIES, 'method.augment.transforms')

    def one(image, key):
        for name in names:
            image = POLICIES[name](image, jax.random.fold_in(key, list(POLICIES).index(name)))
        return image

    return jax.vmap(one)(images, keys)
