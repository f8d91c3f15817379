"""Differentiable augmentation of what a discriminator sees: ADA and DiffAugment."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from productgen.augment.ada import P_MAX, PRESETS, TRANSFORMS, AdaConfig, ada, adapt_p, only
from productgen.augment.diffaugment import POLICIES, diff_augment
from productgen.augment.names import split_names
from productgen.core.schedule import parse_annealed

__all__ = ['AdaConfig', 'AugmentConfig', 'ada', 'adapt_p', 'diff_augment', 'follow_sign', 'make_augment']

ADAPT_INTERVAL = 4  # iterations between moves of the augmentation probability, as published

ADA_NAMES = tuple(dict.fromkeys((*PRESETS, *TRANSFORMS)))  # 'noise' and 'cutout' are both


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """The config section `method.augment`.

    Attributes:
      name: 'none', 'ada' or 'diffaugment'.
      transforms: comma separated. For ADA presets ('bgc'), transforms ('xint,scale,xfrac' spares lettering and colours)
        or both; for DiffAugment its policy ('color,translation'). Empty: what the paper uses.
      p: ADA's probability, at the start or fixed; `A->B` moves over the training, with `target` 0.
      target: ADA's target for the mean sign of D(real); with 0 or a negative number p does not adapt.
      adjust_kimg: thousands of images in which p can go from 0 to 1.

    Raises:
      ValueError: on an unknown name or a number out of range.
    """

    name: str = 'none'
    transforms: str = ''
    p: float | str = '0'
    target: float = 0.6
    adjust_kimg: float = 500.0

    def __post_init__(self):
        names = split_names(self.name, ('none', 'ada', 'diffaugment'), 'method.augment.name')
        if len(names) > 1:
            raise ValueError(f'method.augment.name: one name, got {self.name!r}')
        if self.transforms and self.name == 'ada':
            split_names(self.transforms, ADA_NAMES, 'method.augment.transforms')
        if self.transforms and self.name == 'diffaugment':
            split_names(self.transforms, POLICIES, 'method.augment.transforms')
        p = parse_annealed(self.p, 'method.augment.p', 1)
        if not (0 <= p.start <= P_MAX and 0 <= p.end <= P_MAX):
            raise ValueError(f'method.augment.p: a probability from 0 to {P_MAX}, got {self.p}')
        if self.adaptive and p.start != p.end:
            raise ValueError(f'method.augment.p: {self.p!r} moves of itself; set method.augment.target to 0')
        if self.adjust_kimg <= 0:
            raise ValueError(f'method.augment.adjust_kimg: must be positive, got {self.adjust_kimg}')

    @property
    def adaptive(self) -> bool:
        """Whether p follows the discriminator."""
        return self.name == 'ada' and self.target > 0


def make_augment(config: AugmentConfig) -> Callable:
    """The function (images [B, H, W, C], p, keys [B]) -> images that a config asks for.

    DiffAugment acts on every image and ignores p; without augmentation the images are returned as they are.
    """
    if config.name == 'ada':
        parts = [
            PRESETS[name] if name in PRESETS else only(name)
            for name in split_names(config.transforms or 'bgc', ADA_NAMES, 'method.augment.transforms')
        ]
        settings = AdaConfig(**{name: max(getattr(part, name) for part in parts) for name in TRANSFORMS})
        return lambda images, p, keys: ada(images, p, keys, settings)
    if config.name == 'diffaugment':
        policy = config.transforms or ','.join(POLICIES)
        return lambda images, p, keys: diff_augment(images, keys, policy)
    return lambda images, p, keys: images


def follow_sign(
    config: AugmentConfig, extra: Mapping[str, jax.Array], sign: jax.Array, step: jax.Array, batch_size: int
) -> dict[str, jax.Array]:
    """Moves ADA's probability every few iterations by the mean sign over them (Karras et al. 2020, section 3).

    Args:
      config: target and speed.
      extra: `augment_p`, and `sign_sum`, the signs added up since p last moved.
      sign: mean sign of the logits of this iteration's real images.
      step: iterations done before this one.
      batch_size: images an iteration.

    Returns:
      the two entries of `extra`, anew.
    """
    total, due = extra['sign_sum'] + sign, (step + 1) % ADAPT_INTERVAL == 0
    images = ADAPT_INTERVAL * batch_size
    moved = adapt_p(extra['augment_p'], total / ADAPT_INTERVAL, images, config.target, config.adjust_kimg)
    return {'augment_p': jnp.where(due, moved, extra['augment_p']), 'sign_sum': jnp.where(due, 0.0, total)}
