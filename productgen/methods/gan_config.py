"""The `method` section of adversarial methods."""

from __future__ import annotations

import dataclasses

from productgen.augment import AugmentConfig
from productgen.config import UserError, choose
from productgen.losses.adversarial import ADVERSARIAL, SIGNED
from productgen.losses.penalties import PENALTIES


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """The `method` section.

    Attributes:
      name: `gan`.
      loss: adversarial loss, by name (`losses.adversarial`).
      penalty: `none` or a penalty on the discriminator, by name (`losses.penalties`).
      penalty_weight: its weight; `auto` is StyleGAN2-ADA's rule for R1, 0.0002 x pixels / batch size; `A->B` moves.
      penalty_interval: 1 makes it part of every discriminator step; k > 1 gives it a step of its own every k
        iterations, with k times the weight (lazy regularisation, Karras et al. 2020).
      critic_steps: discriminator steps an iteration.
      clip_weights: largest size of a discriminator's weight (WGAN, Arjovsky et al. 2017: 0.01); 0 leaves them.
      classification: weight of the class terms of a classifying discriminator (AC-GAN, Odena et al. 2017).
      transition_kimg: `A->B`: labels are let in between these amounts of images, and until then everything is
        unconditional (Shahbazi et al., "Collapse by Conditioning", 2022); empty: from the start.
      anneal: share of the training over which values given as `A->B` move.
      ema_kimg: half-life of the averaged weights, thousands of images; `A->B` moves.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
      augment: what both real and fake images go through before the discriminator.
    """

    name: str = 'gan'
    loss: str = 'non_saturating'
    penalty: str = 'none'
    penalty_weight: float | str = '0'
    penalty_interval: int = 1
    critic_steps: int = 1
    clip_weights: float = 0.0
    classification: float = 1.0
    transition_kimg: str = ''
    anneal: float = 1.0
    ema_kimg: float | str = '5'
    ema_rampup: float = 0.05
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        choose(ADVERSARIAL, self.loss, 'method.loss')
        choose({'none': None, **PENALTIES}, self.penalty, 'method.penalty')
        for field in ('penalty_interval', 'critic_steps'):
            if getattr(self, field) < 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is less than 1')
        for field in ('ema_rampup', 'clip_weights', 'classification'):
            if getattr(self, field) < 0:
                raise UserError(f'method.{field}', 'must not be negative')
        if not 0 < self.anneal <= 1:
            raise UserError('method.anneal', f'{self.anneal} is not a share of the training, above 0 and at most 1')
        if self.penalty_weight == 'auto' and self.penalty not in ('none', 'r1'):
            raise UserError(
                'method.penalty_weight', f"'auto' is a rule for 'r1', not for {self.penalty!r}", 'give a number'
            )
        if self.augment.adaptive and self.loss not in SIGNED:
            raise UserError(
                'method.augment.target',
                f'adapts p to the sign of the logits, which tells nothing under {self.loss!r}',
                'set it to 0 and method.augment.p to what suits',
            )
