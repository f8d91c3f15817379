"""What each task of restoration undoes: from a clean picture to the input of a restoring network."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from productgen.config import UserError, choose
from productgen.core.rng import streams
from productgen.degrade import blur, jpeg, masks, noise
from productgen.degrade.resize import resize
from productgen.degrade.second_order import second_order

SCALES = {'denoise': 1, 'deblur': 1, 'sr2': 2, 'sr4': 4, 'jpeg': 1, 'inpaint': 1}
NOISES = ('gaussian', 'poisson', 'camera', 'salt')
BLURS = ('gaussian', 'motion', 'defocus')
LARGEST_BLUR = 8.0  # standard deviation in pixels

# (image [B, H, W, 3] in [0, 1], keys [B]) -> `input` [B, h, w, 3] in [0, 1], of 8-bit values, and `mask` [B, H, W, 1].
Degradation = Callable[[jax.Array, jax.Array], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class DegradeConfig:
    """The `method.degrade` section. Intervals such as `5-50` are drawn from evenly, for each picture anew.

    Attributes:
      noise: kinds of `denoise`, one a picture: `gaussian`, `poisson`, `camera`, `salt`.
      sigma: strength of the noise: standard deviation at middle grey, grey levels of 255.
      blur: kinds of `deblur`, one a picture: `gaussian`, `motion`, `defocus`.
      blur_size: standard deviation of the kernel along its longest axis, pixels.
      blur_sigma: Gaussian noise on top of the blur, as `sigma`.
      stored: share of the pictures of `denoise` and `deblur` that are compressed afterwards, as by a camera that stores
        JPEG. That joins the noise of neighbouring pixels; a network that only knows independent noise leaves it.
      stored_quality: of that JPEG, 1 to 100.
      quality: of `jpeg`, 1 to 100.
      second_order: `sr2` and `sr4` undo blur, noise and JPEG too, in random strengths (`degrade.second_order`), instead
        of bicubic reduction.
      masks: kinds of `inpaint`, one a picture: `free_form`, `boxes`, `scratches`.

    Raises:
      UserError: an unknown kind or an interval out of range.
    """

    noise: str = 'gaussian,poisson,camera'
    sigma: str = '0-50'
    blur: str = 'gaussian,motion,defocus'
    blur_size: str = '0.6-2.5'
    blur_sigma: str = '0-2'
    stored: float = 0.5
    stored_quality: str = '60-97'
    quality: str = '8-90'
    second_order: bool = False
    masks: str = 'free_form,boxes,scratches'

    def __post_init__(self):
        for field, known in (('noise', NOISES), ('blur', BLURS), ('masks', tuple(masks.KINDS))):
            parse_kinds(getattr(self, field), known, f'method.degrade.{field}')
        for field, low, high in (
            ('sigma', 0, 255),
            ('blur_size', 0.1, LARGEST_BLUR),
            ('blur_sigma', 0, 255),
            ('quality', 1, 100),
            ('stored_quality', 1, 100),
        ):
            parse_interval(getattr(self, field), f'method.degrade.{field}', low, high)
        if not 0 <= self.stored <= 1:
            raise UserError('method.degrade.stored', f'{self.stored} is not from 0 to 1')


def parse_kinds(text: str, known: tuple[str, ...], field: str) -> tuple[str, ...]:
    """`a,b` as names.

    Raises:
      UserError: none, or one that is not known.
    """
    names = tuple(part.strip() for part in text.split(',') if part.strip())
    for name in names or ('',):
        choose(dict.fromkeys(known), name, field)
    return names


def parse_interval(text: str, field: str, low: float, high: float) -> tuple[float, float]:
    """`5-50`, or `25` for one value, as two numbers.

    Raises:
      UserError: other text, or numbers that are not from `low` to `high` in this order.
    """
    match = re.fullmatch(r'\s*([\d.]+)\s*(?:-\s*([\d.]+)\s*)?', text)
    try:
        ends = (float(match[1]), float(match[2] or match[1])) if match else None
    except ValueError:
        ends = None
    if not ends:
        raise UserError(field, f"expected a number or an interval such as '5-50', got {text!r}")
    if not low <= ends[0] <= ends[1] <= high:
        raise UserError(field, f'{text!r} is not from {low:g} to {high:g}')
    return ends


def rounded(x: jax.Array) -> jax.Array:
    """Pictures in [0, 1] as an 8-bit file has them."""
    return jnp.round(jnp.clip(x, 0, 1) * 255) / 255


def make_degradation(task: str, config: DegradeConfig) -> Degradation:
    """The degradation that a task undoes.

    Raises:
      UserError: an unknown task; the message names `method.task`.
    """
    choose(SCALES, task, 'method.task')
    interval = lambda name: parse_interval(getattr(config, name), '', -math.inf, math.inf)
    kinds = lambda name: tuple(part.strip() for part in getattr(config, name).split(','))
    scale = SCALES[task]
    if config.second_order:
        if scale == 1:
            raise UserError('method.degrade.second_order', f'is for sr2 and sr4, not for {task}', 'set it to False')
        return lambda image, keys: {'input': rounded(second_order(image, keys, scale))}
    if scale > 1:
        return lambda image, keys: {'input': rounded(resize(image, (image.shape[1] // scale, image.shape[2] // scale)))}
    if task == 'jpeg':
        return lambda image, keys: {'input': _compressed(image, keys, interval('quality'))}

    def stored(image: jax.Array, keys: jax.Array) -> dict[str, jax.Array]:
        made = rounded(image)
        if config.stored:
            keys = streams(keys, 'stored')
            chosen = jax.vmap(lambda key: jax.random.bernoulli(key, config.stored))(streams(keys, 'whether'))
            files = _compressed(made, keys, interval('stored_quality'))
            made = jnp.where(chosen[:, None, None, None], files, made)
        return {'input': made}

    if task == 'denoise':
        return lambda image, keys: stored(_noisy(image, keys, kinds('noise'), interval('sigma')), keys)
    if task == 'deblur':

        def blurred(image: jax.Array, keys: jax.Array) -> dict[str, jax.Array]:
            soft = _blurred(image, streams(keys, 'blur'), kinds('blur'), interval('blur_size'))
            return stored(_noisy(soft, streams(keys, 'noise'), ('gaussian',), interval('blur_sigma')), keys)

        return blurred

    def masked(image: jax.Array, keys: jax.Array) -> dict[str, jax.Array]:
        mask = masks.draw(keys, image.shape[1:3], kinds('masks'))
        return {'input': rounded(image * (1 - mask) + 0.5 * mask), 'mask': mask}

    return masked


def _uniform(keys: jax.Array, low: float, high: float) -> jax.Array:
    """A number for each key, [B]."""
    return jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(streams(keys, 'strength'))


def _compressed(x: jax.Array, keys: jax.Array, quality: tuple[float, float]) -> jax.Array:
    """JPEG of a quality from an interval for each picture."""
    return jpeg.compress(x, jnp.round(_uniform(keys, *quality)))


def _chosen(keys: jax.Array, results: list[jax.Array]) -> jax.Array:
    """For each picture one of some results [B, ...]."""
    if len(results) == 1:
        return results[0]
    index = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(results)))(streams(keys, 'kind'))
    return jax.vmap(lambda i, *rows: jnp.stack(rows)[i])(index, *results)


def _noisy(x: jax.Array, keys: jax.Array, kinds: tuple[str, ...], sigma: tuple[float, float]) -> jax.Array:
    """Noise of one of the kinds for each picture, of a standard deviation at middle grey from an interval."""
    level = _uniform(keys, *sigma)
    share = jnp.maximum(level, 1e-3) / 255
    make = {
        'gaussian': lambda: noise.gaussian(x, level, streams(keys, 'gaussian')),
        # Counts of mean p v, over p, have the variance v / p.
        'poisson': lambda: noise.poisson(x, 0.5 / share**2, streams(keys, 'poisson')),
        # sRGB 0.5 is 0.214 in linear light, where the curve's slope is 1.08: shot noise of 4 share^2 is `share` there.
        'camera': lambda: noise.camera(x, 3.6 * share**2, 0.1 * share**2, streams(keys, 'camera')),
        'salt': lambda: noise.salt_and_pepper(x, jnp.clip(4 * share**2, 0, 1), streams(keys, 'salt')),
    }
    return _chosen(keys, [make[kind]() for kind in kinds])


def _blurred(x: jax.Array, keys: jax.Array, kinds: tuple[str, ...], sizes: tuple[float, float]) -> jax.Array:
    """Blur of one of the kinds for each picture."""
    deviation, angle = _uniform(keys, *sizes), _uniform(streams(keys, 'angle'), 0, math.pi)
    narrow = deviation * _uniform(streams(keys, 'narrow'), 0.4, 1.0)
    side = 2 * math.ceil(3 * sizes[1]) + 3  # three standard deviations of the largest
    side = min(side, 2 * (min(x.shape[1:3]) // 2) - 1)
    make = {
        'gaussian': lambda: blur.gaussian_kernel(side, deviation, narrow, angle),
        'motion': lambda: blur.motion_kernel(side, jnp.maximum(deviation * math.sqrt(12), 1), angle),  # of a segment
        'defocus': lambda: blur.defocus_kernel(side, jnp.maximum(2 * deviation, 0.5)),  # of a disk
    }
    return blur.apply_kernel(x, _chosen(keys, [make[kind]() for kind in kinds]))
