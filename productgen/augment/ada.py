"""Adaptive discriminator augmentation, the whole pipeline.

Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", arXiv 2006.06676, appendix B,
algorithm 1: pixel blitting, geometric transforms, colour transforms, image-space filtering and corruptions, each
applied with probability p. For fixed keys the output is affine in the image, so gradients of any order exist.

At a high p augmentations may leak into generated images. `xflip` and `rotate90` mirror and turn lettering, the colour
transforms tint white backgrounds; therefore each transform can be switched off separately.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from productgen.augment import warp

# Strengths as published (algorithm 1). Those of log-normal scales are standard deviations in octaves, 2^N(0, std^2).
XINT_MAX = 0.125  # fraction of the image size, uniform
SCALE_STD = 0.2  # octaves
ANISO_STD = 0.2  # octaves
XFRAC_STD = 0.125  # fraction of the image size, normal
BRIGHTNESS_STD = 0.2  # of the range [-1, 1], normal
CONTRAST_STD = 0.5  # octaves
SATURATION_STD = 1.0  # octaves
IMGFILTER_STD = 1.0  # octaves
IMGFILTER_POWER = np.array([10, 1, 1, 1], np.float32) / 13  # of the bands of a 1/f spectrum, lowest first
NOISE_STD = 0.1  # sigma is half-normal
CUTOUT_SIZE = 0.5  # fraction of the image size

# Daubechies' wavelet with two vanishing moments, low-pass, for the bands of `filter_octaves`.
SYM2 = np.array([-0.12940952255092145, 0.22414386804185735, 0.836516303737469, 0.48296291314469025])

# The controller stops short of p = 1, where no image remains unchanged: the original rotation or hue cannot be inferred
# from uniformly distributed ones, and a generator of images of all rotations or hues is as good (section 2.2).
P_MAX = 0.999


@dataclasses.dataclass(frozen=True)
class AdaConfig:
    """Factors of p for each transform; 0 leaves a transform out of the program. The default is 'bgc'.

    Raises:
      ValueError: a negative factor.
    """

    xflip: float = 1.0
    rotate90: float = 1.0
    xint: float = 1.0
    scale: float = 1.0
    rotate: float = 1.0
    aniso: float = 1.0
    xfrac: float = 1.0
    brightness: float = 1.0
    contrast: float = 1.0
    lumaflip: float = 1.0
    hue: float = 1.0
    saturation: float = 1.0
    imgfilter: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    def __post_init__(self):
        for name in TRANSFORMS:
            if getattr(self, name) < 0:
                raise ValueError(f'AdaConfig.{name} is a factor of a probability, got {getattr(self, name)}')

    def uses(self, names):
        """Whether any of these transforms is on."""
        return any(getattr(self, name) for name in names)


BLIT = ('xflip', 'rotate90', 'xint')
GEOM = ('scale', 'rotate', 'aniso', 'xfrac')
COLOR = ('brightness', 'contrast', 'lumaflip', 'hue', 'saturation')
TRANSFORMS = (*BLIT, *GEOM, *COLOR, 'imgfilter', 'noise', 'cutout')


def only(*names):
    """The AdaConfig with only these transforms on."""
    return AdaConfig(**{name: float(name in names) for name in TRANSFORMS})


PRESETS = {
    'blit': only(*BLIT),
    'geom': only(*GEOM),
    'color': only(*COLOR),
    'filter': only('imgfilter'),
    'noise': only('noise'),
    'cutout': only('cutout'),
    'bg': only(*BLIT, *GEOM),
    'bgc': only(*BLIT, *GEOM, *COLOR),
    'bgcf': only(*BLIT, *GEOM, *COLOR, 'imgfilter'),
    'bgcfn': only(*BLIT, *GEOM, *COLOR, 'imgfilter', 'noise'),
    'bgcfnc': only(*TRANSFORMS),
}


def ada(images, p, keys, config=PRESETS['bgc']):
    """Augments each image by transforms that are applied with probability p each.

    Args:
      images: float [B, H, W, C] in [-1, 1], C of 1 or 3. Where H and W differ, `rotate90` turns by 180 degrees only.
      p: float scalar, may be traced. At p = 0 the images are returned unchanged and nothing is computed.
      keys: typed PRNG keys [B]. Image i depends on keys[i] only, not on its batch or the number of devices.
      config: an `AdaConfig`, static.

    Returns:
      Images of the same shape and dtype. They are not clipped: as published, some values leave [-1, 1].

    Raises:
      ValueError: a wrong number of axes, channels or keys.

    Source: Karras et al. 2020, arXiv 2006.06676, appendix B, algorithm 1.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f'ada takes images [B, H, W, 1 or 3], got {images.shape}')
    if keys.shape != images.shape[:1]:
        raise ValueError(f'ada takes one key for each of {len(images)} images, got keys {keys.shape}')
    if not config.uses(TRANSFORMS):
        return images
    p = jnp.asarray(p, jnp.float32)
    return jax.lax.cond(p > 0, lambda x: _augment(x, p, keys, config), lambda x: x, images)


def _augment(images, p, keys, config):
    dtype, shape = images.dtype, images.shape[1:]
    height, width, channels = shape

    def each(draw, stream, *args):  # parameters of every sample, from its own key
        return jax.vmap(lambda key: draw(jax.random.fold_in(key, stream), *args))(keys)

    if config.uses((*BLIT, *GEOM)):
        inverse = each(_inverse_affine, 0, p, config, width, height)  # [B, 2, 3]
        images = (warp.warp if config.uses(GEOM) else warp.move_pixels)(images, inverse)
    if config.uses(COLOR):
        matrix, offset = each(_color_matrix, 1, p, config)  # [B, 3, 3], [B]
        if channels == 1:
            matrix = jnp.mean(jnp.sum(matrix, -1), -1)[:, None, None]  # what it does to grey
        images = jnp.einsum('bij,bhwj->bhwi', matrix.astype(dtype), images, precision='highest')
        images = images + offset.astype(dtype)[:, None, None, None]
    if config.imgfilter:
        images = filter_octaves(images, each(_octave_gains, 2, p * config.imgfilter))
    if config.noise:
        images = images + each(_noise, 3, p * config.noise, shape).astype(dtype)
    if config.cutout:
        hole = each(_cutout_mask, 4, p * config.cutout, width, height)  # [B, H, W]
        images = jnp.where(hole[..., None], 0, images)
    return images


def _draws(key, fires, uniforms, normals):
    """Random numbers of a group of transforms: uniform ones that decide which are applied, further uniform, and normal.

    All are drawn at once, used or not: few random calls compile fast, and what one transform draws does not depend on
    which others are on.

    Returns:
      float32 vectors of lengths `fires`, `uniforms` and `normals`.
    """
    uniform = jax.random.uniform(jax.random.fold_in(key, 0), (fires + uniforms,), jnp.float32)
    normal = jax.random.normal(jax.random.fold_in(key, 1), (normals,), jnp.float32)
    return uniform[:fires], uniform[fires:], normal


def _inverse_affine(key, p, config, width, height):
    """Output to input positions (x, y, 1) in pixels from the centre, [2, 3].

    The paper multiplies transforms from the left and inverts the product; here the inverse of each is multiplied from
    the right.
    """
    fire, u, n = _draws(key, 8, 6, 4)
    size = jnp.array([width, height], jnp.float32)
    inverse = jnp.eye(3, dtype=jnp.float32)
    if config.xflip:
        flip = (fire[0] < p * config.xflip) & (u[0] < 0.5)
        inverse = _chain(inverse, _scale(jnp.where(flip, -1.0, 1.0), 1.0))
    if config.rotate90:
        turns = jnp.floor(4 * u[1]) if width == height else 2 * jnp.floor(2 * u[1])
        turns = jnp.where(fire[1] < p * config.rotate90, turns, 0).astype(int)
        inverse = _chain(inverse, _rotate(*jnp.array([[1, 0, -1, 0], [0, 1, 0, -1]], jnp.float32)[:, turns]))
    if config.xint:
        shift = jnp.round((2 * u[2:4] - 1) * XINT_MAX * size)
        inverse = _chain(inverse, _translate(jnp.where(fire[2] < p * config.xint, -shift, 0)))
    if config.scale:
        scale = jnp.where(fire[3] < p * config.scale, jnp.exp2(-SCALE_STD * n[0]), 1)
        inverse = _chain(inverse, _scale(scale, scale))
    # Of each of two rotations, so that at least one is applied with probability p.
    p_rotate = 1 - jnp.sqrt(1 - jnp.clip(p * config.rotate, 0, 1))
    if config.rotate:
        angle = jnp.where(fire[4] < p_rotate, (2 * u[4] - 1) * math.pi, 0)
        inverse = _chain(inverse, _rotate(jnp.cos(angle), jnp.sin(angle)))
    if config.aniso:
        scale = jnp.where(fire[5] < p * config.aniso, jnp.exp2(-ANISO_STD * n[1]), 1)
        inverse = _chain(inverse, _scale(scale, 1 / scale))
    if config.rotate:
        angle = jnp.where(fire[6] < p_rotate, (2 * u[5] - 1) * math.pi, 0)
        inverse = _chain(inverse, _rotate(jnp.cos(angle), jnp.sin(angle)))
    if config.xfrac:
        shift = XFRAC_STD * n[2:4] * size
        inverse = _chain(inverse, _translate(jnp.where(fire[7] < p * config.xfrac, -shift, 0)))
    return inverse[:2]


def _chain(a, b):
    # At the default precision of GPUs and TPUs positions in a large image are wrong by pixels.
    return jnp.matmul(a, b, precision='highest')


def _scale(x, y):
    return jnp.diag(jnp.array([x, y, 1], jnp.float32))


def _rotate(cos, sin):
    return jnp.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], jnp.float32)


def _translate(shift):
    return jnp.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], jnp.float32)


def _color_matrix(key, p, config):
    """Matrix [3, 3] and offset, a scalar, of the colour transforms: rgb -> matrix @ rgb + offset.

    Every transform acts along the luma axis v = (1, 1, 1) / sqrt(3) or within the plane normal to it, hence the product
    of the paper's 4x4 matrices is contrast (flip v v^T + saturation R(hue) (I - v v^T)) with an offset along v.
    """
    fire, u, n = _draws(key, 5, 2, 3)

    def draw(name, value, neutral):
        return jnp.where(fire[COLOR.index(name)] < p * getattr(config, name), value, neutral)

    brightness = draw('brightness', BRIGHTNESS_STD * n[0], 0)
    contrast = draw('contrast', jnp.exp2(CONTRAST_STD * n[1]), 1)
    flip = draw('lumaflip', jnp.where(u[0] < 0.5, -1, 1), 1)
    hue = draw('hue', (2 * u[1] - 1) * math.pi, 0)
    saturation = draw('saturation', jnp.exp2(SATURATION_STD * n[2]), 1)
    along_v = jnp.full((3, 3), 1 / 3, jnp.float32)
    cross_v = jnp.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], jnp.float32) / math.sqrt(3)
    # Rodrigues' formula, in the plane.
    turn = jnp.cos(hue) * (jnp.eye(3, dtype=jnp.float32) - along_v) + jnp.sin(hue) * cross_v
    return contrast * (flip * along_v + saturation * turn), contrast * flip * brightness


def _octave_gains(key, p):
    """Gains of the four bands, lowest first, [4]; each step keeps the power of an image with a 1/f spectrum."""
    fire, _, n = _draws(key, 4, 0, 4)
    amplified = jnp.where(fire < p, jnp.exp2(IMGFILTER_STD * n), 1)
    steps = jnp.where(jnp.eye(4, dtype=bool), amplified, 1)  # step i touches band i
    power = jnp.sum(IMGFILTER_POWER * steps**2, axis=1, keepdims=True)
    return jnp.prod(steps / jnp.sqrt(power), axis=0)


def _octave_filters():
    """Impulse responses of the bands [0, pi/8], [pi/8, pi/4], [pi/4, pi/2] and [pi/2, pi], [4, 43]; their sum is 1.

    Each level splits the lowest band by the half-band filter H(z) H(1/z) / 2 and its complement.
    """
    half_band = np.convolve(SYM2, SYM2[::-1]) / 2  # 7 taps
    low = np.eye(1, 43, 21)[0]
    bands = []
    for step in (1, 2, 4):
        dilated = np.zeros(6 * step + 1)
        dilated[::step] = half_band
        lower = np.convolve(low, dilated, mode='same')
        bands, low = [low - lower, *bands], lower
    return np.stack([low, *bands])


def _octave_matrices(size):
    """The filters as matrices with reflected borders, [4, size, size]."""
    matrices = np.zeros((4, size, size + 42), np.float32)
    for pixel in range(size):
        matrices[:, pixel, pixel : pixel + 43] = _octave_filters()
    return matrices @ warp.reflected(size, 21)


def filter_octaves(images, gains):
    """Amplifies four octaves of each image, separably, with reflected borders.

    Args:
      images: float [B, H, W, C].
      gains: float [B, 4], of the bands [0, pi/8], [pi/8, pi/4], [pi/4, pi/2] and [pi/2, pi].

    Returns:
      [B, H, W, C]; with gains of 1 these are the images, up to rounding.

    Source: Karras et al. 2020, arXiv 2006.06676, appendix B, algorithm 1.
    """
    for axis in (1, 2):
        matrices = jnp.einsum('bg,gnm->bnm', gains, _octave_matrices(images.shape[axis]), precision='highest')
        images = warp.along(matrices, images, axis)
    return images


def _noise(key, p, shape):
    fire, _, n = _draws(key, 1, 0, 1)
    sigma = jnp.where(fire[0] < p, NOISE_STD * jnp.abs(n[0]), 0)
    return sigma * jax.random.normal(jax.random.fold_in(key, 2), shape, jnp.float32)


def _cutout_mask(key, p, width, height):
    """Bool [H, W], true in a rectangle of half the width and height around a point of the image; it may be cut off."""
    fire, u, _ = _draws(key, 1, 2, 0)

    def near(size, centre):
        return jnp.abs((jnp.arange(size, dtype=jnp.float32) + 0.5) / size - centre) < CUTOUT_SIZE / 2

    return (fire[0] < p) & near(width, u[0]) & near(height, u[1])[:, None]


def adapt_p(p, sign_mean, images, target=0.6, kimg=500):
    """The augmentation probability for the next steps.

    When the discriminator overfits, its logits of real images tend to be positive. Then p rises, otherwise it falls, by
    1 in `kimg` thousand images.

    Args:
      p: float scalar in [0, 1), the current probability; may be traced, as may the next two.
      sign_mean: r_t, the mean of sign(D(real)) since the last call.
      images: number of real images since the last call.
      target: target of r_t; at 0 or below p does not change. Static.
      kimg: thousands of images from p = 0 to p = 1.

    Returns:
      The new p, within [0, P_MAX].

    Source: Karras et al. 2020, arXiv 2006.06676, section 3, equation 1.
    """
    if target <= 0:
        return p
    return jnp.clip(p + jnp.sign(sign_mean - target) * images / (kimg * 1000), 0, P_MAX)
