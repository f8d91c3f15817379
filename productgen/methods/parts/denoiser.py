"""Training loss and sampler of denoising diffusion around a U-Net, on pictures or on latents.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (DDPM); cosine schedule of Nichol and Dhariwal, ICML
2021; prediction of v of Salimans and Ho, ICLR 2022; DDIM sampling of Song et al., ICLR 2021; Ho and Salimans,
"Classifier-Free Diffusion Guidance", 2022; Min-SNR weights of Hang et al., ICCV 2023.

The formulas are in `productgen.losses.diffusion`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from productgen.config import UserError, choose
from productgen.core.rng import normal, streams
from productgen.losses import diffusion as gauss
from productgen.methods.base import Knob, Knobs, scaled
from productgen.methods.parts.averaging import check_not_negative
from productgen.nets.layers import one_hot_labels
from productgen.nets.unet import UNet

EVALUATED_TIMES = 8  # noise levels that a picture is evaluated at, one in each eighth of the range
DENOISING_STEPS = 50  # of the sampler, unless a request says otherwise


@dataclasses.dataclass(frozen=True)
class DenoiserConfig:
    """The fields of a `method` section that describe diffusion.

    Attributes:
      name: of the method.
      schedule: of the noise, `linear` (DDPM) or `cosine`.
      steps: T, the number of noise levels (1000 in the papers).
      prediction: the network's target, `epsilon` or `v`.
      min_snr: limit of the Min-SNR weights (5 in the paper); 0 gives the plain error of the prediction (DDPM, eq. 14).
      label_dropout: fraction of the training pictures whose labels are dropped, for guidance (0.1 to 0.2 in the paper).
      sampler: `ddim`; or `ddpm`, ancestral sampling with the variance beta_t, which needs about T denoising steps.
      eta: noise of `ddim`: 0 is deterministic given the first noise, 1 ancestral with the posterior's variance.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = ''
    schedule: str = 'cosine'
    steps: int = 1000
    prediction: str = 'v'
    min_snr: float = 0.0
    label_dropout: float = 0.1
    sampler: str = 'ddim'
    eta: float = 0.0
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        choose(gauss.SCHEDULES, self.schedule, 'method.schedule')
        choose(dict.fromkeys(gauss.PREDICTIONS), self.prediction, 'method.prediction')
        choose(dict.fromkeys(('ddim', 'ddpm')), self.sampler, 'method.sampler')
        if self.steps < 2:
            raise UserError('method.steps', f'{self.steps} noise levels are too few', '1000 is usual')
        for field in ('eta', 'label_dropout'):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is not from 0 to 1')
        check_not_negative(self, 'min_snr', 'ema_kimg', 'ema_rampup')


def _at(keys: jax.Array, i: jax.Array) -> jax.Array:
    """The keys [B] of the i-th of several draws."""
    return jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Training loss and sampler of a U-Net on arrays [B, H, W, C]: pictures or latents.

    Attributes:
      config: schedule, prediction and sampler.
      unet: the network.
      labels: number of values of each attribute; empty where unconditional.
      bounded: the data are in [-1, 1], and predictions of them are clipped to it.
    """

    config: DenoiserConfig
    unet: UNet
    labels: tuple[int, ...]
    bounded: bool

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Scale of guidance and number of denoising steps.

        A conditional network that was trained without label dropout does not know pictures without labels, which
        guidance needs. An unconditional one ignores guidance.
        """
        guidance = Knob('guidance', 1.0, 0.0, 100.0, remedy='1 is no guidance')
        if self.labels and not self.config.label_dropout:
            remedy = (
                'guidance needs a network that also knows pictures without labels: train with '
                'method.label_dropout=0.1, or set it to 1.0'
            )
            guidance = Knob('guidance', 1.0, 1.0, 1.0, remedy=remedy)
        most = self.config.steps
        remedy = f'there are only method.steps={most} noise levels'
        steps = Knob('denoising_steps', min(DENOISING_STEPS, most), 1, most, static=True, remedy=remedy)
        return guidance, steps

    def init(self, rng: jax.Array, shape: tuple[int, ...]) -> Any:
        """Weights for data of one shape, (H, W, C)."""
        label = jnp.zeros((1, sum(self.labels))) if self.labels else None
        return self.unet.init(rng, jnp.zeros((1, *shape)), jnp.ones(1), label)['params']

    def _log_bar(self) -> jax.Array:
        """log a_t of all times, [T + 1]."""
        return gauss.log_alpha_bar(gauss.SCHEDULES[self.config.schedule](self.config.steps))

    def losses(
        self,
        params: Any,
        x0: jax.Array,
        label: jax.Array,
        keys: jax.Array,
        *,
        train: bool = False,
        span: tuple[jax.Array | float, jax.Array | float] = (0.0, 1.0),
    ) -> jax.Array:
        """Weighted mean square of the prediction's error at one random time each, [B].

        Args:
          params: weights.
          x0: data [B, H, W, C].
          label: int32 [B, A].
          keys: the samples' own, [B].
          train: apply dropout to activations and labels.
          span: fractions of T between which the times are drawn.
        """
        c, (low, high) = self.config, span
        uniform = jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(streams(keys, 'time'))
        time = jnp.minimum(jnp.floor(uniform * c.steps).astype(jnp.int32), c.steps - 1) + 1  # 1 to T
        log_bar = self._log_bar()[time][:, None, None, None]
        epsilon = normal(streams(keys, 'noise'), x0.shape[1:])
        label = one_hot_labels(label, self.labels)
        if label is not None and train:
            drop = jax.vmap(lambda key: jax.random.bernoulli(key, c.label_dropout))(streams(keys, 'label'))
            label = jnp.where(drop[:, None], 0, label)
        x = gauss.q_sample(x0, epsilon, log_bar)
        output = self.unet.apply({'params': params}, x, time, label, streams(keys, 'dropout'), train=train)
        error = jnp.square(output - gauss.target(c.prediction, x0, epsilon, log_bar))
        if c.min_snr:
            error *= gauss.min_snr_weight(c.prediction, log_bar, c.min_snr)
        return jnp.mean(error, (1, 2, 3))

    def evaluate(self, params: Any, x0: jax.Array, label: jax.Array, keys: jax.Array) -> jax.Array:
        """The mean of `losses` over times spread evenly, [B], whose variance is smaller than that of one time."""

        def at(i):
            span = (i / EVALUATED_TIMES, (i + 1) / EVALUATED_TIMES)
            return self.losses(params, x0, label, _at(keys, i), span=span)

        return jnp.mean(jax.lax.map(at, jnp.arange(EVALUATED_TIMES)), 0)

    def _predict(
        self, params: Any, x: jax.Array, time: jax.Array, label: jax.Array | None, guidance: jax.Array | float
    ) -> jax.Array:
        """The guided output: u + w (c - u), c with and u without the labels (Ho and Salimans, eq. 6, whose w is one
        less).

        Where w is the Python number 1, or there are no labels, the network is evaluated once, otherwise twice.
        """
        if label is None or (isinstance(guidance, float | int) and guidance == 1):
            return self.unet.apply({'params': params}, x, time, label)
        twice = lambda a: jnp.concatenate([a, a])
        both = jnp.concatenate([label, jnp.zeros_like(label)])
        given, free = jnp.split(self.unet.apply({'params': params}, twice(x), twice(time), both), 2)
        return free + scaled(given - free, guidance)

    def draw(self, params: Any, shape: tuple[int, ...], label: jax.Array, keys: jax.Array, knobs: Knobs) -> jax.Array:
        """New data [B, *shape].

        Args:
          params: weights.
          shape: of one sample, (H, W, C).
          label: int32 [B, A].
          keys: the samples' own, [B].
          knobs: `guidance`, w, a number or [B]; `denoising_steps`, evenly spaced over T.
        """
        c, log_bar, label = self.config, self._log_bar(), one_hot_labels(label, self.labels)
        guidance, count = (knobs.get(knob.name, knob.default) for knob in self.knobs)
        times = jnp.asarray(np.round(np.linspace(c.steps, 0, int(count) + 1)), jnp.int32)
        random = c.sampler == 'ddpm' or c.eta > 0

        def step(i, x):
            now, then = log_bar[times[i]], log_bar[times[i + 1]]
            output = self._predict(params, x, jnp.full(keys.shape, times[i]), label, guidance)
            x0 = gauss.to_x0(c.prediction, output, x, now)
            x0 = jnp.clip(x0, -1, 1) if self.bounded else x0
            z = normal(_at(streams(keys, 'noise'), i), shape) if random else 0.0
            if c.sampler == 'ddim':
                return gauss.ddim_step(x0, x, now, then, c.eta, z)
            mean, _ = gauss.posterior(x0, x, now, then)
            return mean + jnp.where(times[i + 1] > 0, jnp.sqrt(gauss.step_beta(now, then)), 0.0) * z

        return jax.lax.fori_loop(0, int(count), step, normal(streams(keys, 'start'), shape))
