"""Differentiable augmentation of what a discriminator sees: ADA and DiffAugment."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from productgen.augment.ada import P_MAX, PRESETS, TRANSFORMS, AdaConfig, ada, adapt_p, only
from productgen.augment.diffaugment import POLICIES, diff_augment
from productgen.augment.names import split_names
from productgen.config import UserError
from productgen.core.schedule import parse_annealed

__all__ = ['AdaConfig', 'AugmentConfig', 'ada', 'adapt_p', 'diff_augment', 'follow_sign', 'make_augment']

ADAPT_INTERVAL = 4  # iterations between changes of the augmentation probability, as published

ADA_NAMES = tuple(dict.fromkeys((*PRESETS, *TRANSFORMS)))  # 'noise' and 'cutout' are names of both kinds


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """The config section `method.augment`.

    Attributes:
      name: 'none', 'ada' or 'diffaugment'.
      transforms: names, separated by commas. For ADA presets ('bgc') and transforms ('xint,scale,xfrac' leaves
        lettering and colours intact), for DiffAugment its policy ('color,translation'). Empty: those of the paper.
      p: ADA's probability, 0 to 0.999; its initial value if it adapts. `A->B` changes it over the training and needs
        `target` 0.
      target: ADA's target for the mean sign of D(real); at 0 or below p does not adapt.
      adjust_kimg: thousands of images in which p can rise from 0 to 1.

    Raises:
      UserError: an unknown name or a number out of range.
    """

    name: str = 'none'
    transforms: str = ''
    p: float | str = '0'
    target: float = 0.6
    adjust_kimg: float = 500.0

    def __post_init__(self):
        names = split_names(self.name, ('none', 'ada', 'diffaugment'), 'method.augment.name')
        if len(names) > 1:
            raise UserError('method.augment.name', f'expected one name, got {self.name!r}')
        if self.transforms and self.name == 'ada':
            split_names(self.transforms, ADA_NAMES, 'method.augment.transforms')
        if self.transforms and self.name == 'diffaugment':
            split_names(self.transforms, POLICIES, 'method.augment.transforms')
        p = parse_annealed(self.p, 'method.augment.p', 1)
        if not (0 <= p.start <= P_MAX and 0 <= p.end <= P_MAX):
            raise UserError('method.augment.p', f'expected a probability from 0 to {P_MAX}, got {self.p}')
        if self.adaptive and p.start != p.end:
            raise UserError(
                'method.augment.p',
                f'{self.p!r} would change p over the training while ADA adapts it',
                'set method.augment.target=0',
            )
        if self.adjust_kimg <= 0:
            raise UserError('method.augment.adjust_kimg', f'must be positive, got {self.adjust_kimg}')

    @property
    def adaptive(self) -> bool:
        """Whether p is adapted to how far the discriminator overfits."""
        return self.name == 'ada' and self.target > 0


def make_augment(config: AugmentConfig) -> Callable:
    """The augmentation of a config, a function (images [B, H, W, C], p, keys [B]) -> images.

    DiffAugment augments every image and ignores p; without augmentation the images are returned as they are.
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
    """Adapts ADA's probability every `ADAPT_INTERVAL` iterations to the mean sign over them.

    Args:
      config: target and speed.
      extra: `augment_p`, and `sign_sum`, the sum of `sign` since p was last adapted; float32 scalars.
      sign: mean sign of the logits of this iteration's real images.
      step: iterations before this one.
      batch_size: images per iteration.

    Returns:
      the new values of the two entries of `extra`.

    Source: Karras et al. 2020, arXiv 2006.06676, section 3.
    """
    total, due = extra['sign_sum'] + sign, (step + 1) % ADAPT_INTERVAL == 0
    images = ADAPT_INTERVAL * batch_size
    moved = adapt_p(extra['augment_p'], total / ADAPT_INTERVAL, images, config.target, config.adjust_kimg)
    return {'augment_p': jnp.where(due, moved, extra['augment_p']), 'sign_sum': jnp.where(due, 0.0, total)}
