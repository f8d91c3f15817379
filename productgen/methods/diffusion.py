"""Denoising diffusion of pictures, with labels and classifier-free guidance.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020 (DDPM); cosine schedule of Nichol and Dhariwal, ICML
2021; prediction of v of Salimans and Ho, ICLR 2022; DDIM sampling of Song et al., ICLR 2021; Ho and Salimans,
"Classifier-Free Diffusion Guidance", 2022; Min-SNR weights of Hang et al., ICCV 2023.

The formulas are in `productgen.losses.diffusion`. Here are the training loss and the sampler around a U-Net
(`Denoiser`, shared with latent diffusion) and the method. Truncation does not exist for diffusion and is ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.losses import diffusion as gauss
from productgen.methods.base import Batch, Problem
from productgen.methods.models.unet import UNetModel
from productgen.nets.layers import one_hot_labels
from productgen.nets.unet import UNet

EVALUATED_TIMES = 8  # a picture, one in each eighth of the time, where pictures are measured


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The `method` section.

    Attributes:
      name: `diffusion`.
      schedule: of the noise, `linear` (DDPM) or `cosine`.
      steps: T, the number of noise levels (1000 in the papers).
      prediction: what the net is trained on, `epsilon` or `v`.
      min_snr: limit of the Min-SNR weights (5 in the paper); 0 gives the plain error of the prediction (DDPM, eq. 14).
      label_dropout: share of the training pictures whose labels are withheld, for guidance (0.1 to 0.2 in the paper).
      sampler: `ddim`; or `ddpm`, ancestral sampling with the variance beta_t, which wants about T denoising steps.
      eta: noise of `ddim`: 0 is deterministic given the first noise, 1 ancestral with the posterior's variance.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
    """

    name: str = 'diffusion'
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
        for field in ('min_snr', 'ema_kimg', 'ema_rampup'):
            if getattr(self, field) < 0:
                raise UserError(f'method.{field}', 'must not be negative')


def _at(keys: jax.Array, i: jax.Array) -> jax.Array:
    """The keys [B] of the i-th of several draws."""
    return jax.vmap(lambda key: jax.random.fold_in(key, i))(keys)


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """Training loss and sampler of a U-Net on arrays [B, H, W, C]: pictures or latents.

    Attributes:
      config: how it diffuses.
      unet: the net.
      labels: number of values of each attribute; empty where unconditional.
      guidance: scale w of guidance; 1 is none and takes one evaluation of the net a step, any other two.
      denoising_steps: steps of the sampler, evenly spaced over T.
      bounded: the data lie in [-1, 1], and predictions of them are clipped to it.
    """

    config: DiffusionConfig
    unet: UNet
    labels: tuple[int, ...]
    guidance: float
    denoising_steps: int
    bounded: bool

    def __post_init__(self):
        if self.denoising_steps > self.config.steps:
            raise UserError(
                'sample.denoising_steps',
                f'{self.denoising_steps}, but there are only method.steps={self.config.steps} noise levels',
            )
        if self.labels and self.guidance != 1 and not self.config.label_dropout:
            raise UserError(
                'sample.guidance',
                f'{self.guidance} needs a net that also knows pictures without labels',
                'train with method.label_dropout=0.1, or set it to 1.0',
            )

    def init(self, rng: jax.Array, shape: tuple[int, ...]) -> Any:
        """Weights for data of one shape, (H, W, C)."""
        label = jnp.zeros((1, sum(self.labels))) if self.labels else None
        return self.unet.init(rng, jnp.zeros((1, *shape)), jnp.ones(1), label)['params']

    def _log_bar(self) -> jax.Array:
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
          train: drop values and labels.
          span: shares of T between which the times are drawn.
        """
        c, (low, high) = self.config, span
        uniform = jax.vmap(lambda key: jax.random.uniform(key, minval=low, maxval=high))(streams(keys, 'time'))
        time = jnp.minimum(jnp.floor(uniform * c.steps).astype(jnp.int32), c.steps - 1) + 1  # 1 to T
        log_bar = self._log_bar()[time][:, None, None, None]
        epsilon = normal(streams(keys, 'noise'), x0.shape[1:])
        label = one_hot_labels(label, self.labels)
        if label is not None and train:
            drop = jax.vmap(lambda key: jax.random.bernoulli(key, c.label_dropout))(streams(keys, 'label'))
            label = label * ~drop[:, None]
        x = gauss.q_sample(x0, epsilon, log_bar)
        output = self.unet.apply({'params': params}, x, time, label, streams(keys, 'dropout'), train=train)
        error = jnp.square(output - gauss.target(c.prediction, x0, epsilon, log_bar))
        if c.min_snr:
            error *= gauss.min_snr_weight(c.prediction, log_bar, c.min_snr)
        return jnp.mean(error, (1, 2, 3))

    def evaluate(self, params: Any, x0: jax.Array, label: jax.Array, keys: jax.Array) -> jax.Array:
        """`losses` averaged over times spread evenly, [B]: a steadier figure of a picture than one time gives."""

        def at(i):
            span = (i / EVALUATED_TIMES, (i + 1) / EVALUATED_TIMES)
            return self.losses(params, x0, label, _at(keys, i), span=span)

        return jnp.mean(jax.lax.map(at, jnp.arange(EVALUATED_TIMES)), 0)

    def _predict(self, params: Any, x: jax.Array, time: jax.Array, label: jax.Array | None) -> jax.Array:
        """The net's output, guided: u + w (c - u), c with and u without the labels (Ho and Salimans, eq. 6, whose w is
        one less)."""
        if label is None or self.guidance == 1:
            return self.unet.apply({'params': params}, x, time, label)
        twice = lambda a: jnp.concatenate([a, a])
        both = jnp.concatenate([label, jnp.zeros_like(label)])
        given, free = jnp.split(self.unet.apply({'params': params}, twice(x), twice(time), both), 2)
        return free + self.guidance * (given - free)

    def draw(self, params: Any, shape: tuple[int, ...], label: jax.Array, keys: jax.Array) -> jax.Array:
        """New data [B, *shape] of labels int32 [B, A], each from its own key [B]."""
        c, log_bar, label = self.config, self._log_bar(), one_hot_labels(label, self.labels)
        times = jnp.asarray(np.round(np.linspace(c.steps, 0, self.denoising_steps + 1)), jnp.int32)
        random = c.sampler == 'ddpm' or c.eta > 0

        def step(i, x):
            now, then = log_bar[times[i]], log_bar[times[i + 1]]
            output = self._predict(params, x, jnp.full(keys.shape, times[i]), label)
            x0 = gauss.to_x0(c.prediction, output, x, now)
            x0 = jnp.clip(x0, -1, 1) if self.bounded else x0
            z = normal(_at(streams(keys, 'noise'), i), shape) if random else 0.0
            if c.sampler == 'ddim':
                return gauss.ddim_step(x0, x, now, then, c.eta, z)
            mean, _ = gauss.posterior(x0, x, now, then)
            return mean + jnp.where(times[i + 1] > 0, jnp.sqrt(gauss.step_beta(now, then)), 0.0) * z

        return jax.lax.fori_loop(0, self.denoising_steps, step, normal(streams(keys, 'start'), shape))


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """See the module; built by `make`."""

    config: DiffusionConfig
    problem: Problem
    denoiser: Denoiser
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.denoiser.init(stream(rng, 'unet'), batch['image'].shape[1:])
        net = create_net(params, self.tx, ema=True)
        return State(step=jnp.zeros((), jnp.int32), nets={'unet': net}, extra={}, frozen={})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration (DDPM, algorithm 1)."""
        c, problem = self.config, self.problem
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        batch = {'image': to_float(batch['image']), 'label': batch['label'], 'key': keys}

        def loss(params, stats, batch):
            value = jnp.mean(self.denoiser.losses(params, batch['image'], batch['label'], batch['key'], train=True))
            return value, (stats, {'loss': value})

        net = state.nets['unet']
        net, metrics = step_net(net, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        net = average(net, ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup))
        return State(state.step + 1, {'unet': net}, state.extra, state.frozen), metrics

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B] and `label` [B, A]."""
        keys, shape = sample_keys(rng, batch['seed']), (*self.problem.resolution, 3)
        image = self.denoiser.draw(state.nets['unet'].ema, shape, batch['label'], keys)
        return {'image': jnp.clip(image, -1, 1)}

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss` of each picture, [B]: that of training, over times spread evenly."""
        keys, image = sample_keys(rng, batch['seed']), to_float(batch['image'])
        return {'loss': self.denoiser.evaluate(state.nets['unet'].ema, image, batch['label'], keys)}


def make(config: Mapping[str, Any], problem: Problem) -> Diffusion:
    """Builds the method from the sections `method`, `model`, `optim` and `sample` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(DiffusionConfig, config['method'], 'method')
    unet = build(UNetModel, config['model'], 'model').net(problem.resolution)
    optim = build(OptimConfig, choose(config['optim'], 'unet', 'optim'), 'optim.unet')
    guidance, steps = (config['sample'][field] for field in ('guidance', 'denoising_steps'))
    denoiser = Denoiser(c, unet, problem.labels, guidance, steps, bounded=True)
    return Diffusion(c, problem, denoiser, make_optimizer(optim, problem.steps))
