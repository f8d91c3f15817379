"""StyleGAN2 with adaptive discriminator augmentation.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; Karras et al., "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020.

An iteration takes a generator step, every `path_interval` iterations a path-length step, a discriminator step, every
`r1_interval` an R1 step, each on samples of its own and with an optimiser step of its own, as published. Two things
differ: fake images take the labels of the real ones beside them (the same distribution), and the path-length mean is
the one from before the batch, so that a batch in parts gives what the whole gives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.augment import AugmentConfig, adapt_p, make_augment
from productgen.config import ConfigError, build, choose
from productgen.losses.adversarial import ADVERSARIAL, Loss
from productgen.losses.penalties import gradient_norms, path_lengths
from productgen.methods.base import Batch, Problem
from productgen.nets import stylegan2 as nets
from productgen.nets.layers import one_hot_labels
from productgen.optim import OptimConfig, make_optimizer
from productgen.state import (
    Net,
    State,
    average,
    create_net,
    ema_decay,
    sample_keys,
    step_net,
    stream,
    streams,
    to_float,
)

ADAPT_INTERVAL = 4  # iterations between moves of the augmentation probability, as published


@dataclasses.dataclass(frozen=True)
class StyleGAN2Config:
    """The `method` section.

    Attributes:
      name: `stylegan2`.
      loss: adversarial loss, by name.
      r1_gamma: weight of the R1 penalty, or `auto`: 0.0002 x pixels / batch size (StyleGAN2-ADA's rule).
      r1_interval: iterations between R1 steps; 0 switches them off.
      path_weight: weight of the path-length penalty (2 in the paper); 0 switches it off.
      path_interval: iterations between path-length steps.
      path_shrink: a path-length step uses one sample in so many (2 in the paper).
      path_decay: share of the old value in the running mean of path lengths (0.99).
      mixing: share of fake images mixed from two latents (0.9 in the paper).
      w_decay: share of the old value in the running mean of w (0.995), the centre of truncation.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
      augment: what both real and fake images go through before the discriminator.
    """

    name: str
    loss: str
    r1_gamma: float | str
    r1_interval: int
    path_weight: float
    path_interval: int
    path_shrink: int
    path_decay: float
    mixing: float
    w_decay: float
    ema_kimg: float
    ema_rampup: float
    augment: AugmentConfig

    def __post_init__(self):
        if self.ema_kimg < 0 or self.ema_rampup < 0:
            raise ConfigError('method.ema_kimg and method.ema_rampup: must not be negative')
        if self.r1_interval < 0:
            raise ConfigError(f'method.r1_interval: {self.r1_interval} is negative; 0 switches the penalty off')
        for field in ('path_interval', 'path_shrink') if self.path_weight else ():
            if getattr(self, field) < 1:
                raise ConfigError(f'method.{field}: must be at least 1')
        for field in ('mixing', 'path_decay', 'w_decay'):
            if not 0 <= getattr(self, field) <= 1:
                raise ConfigError(f'method.{field}: {getattr(self, field)} is not a share, 0 to 1')


@dataclasses.dataclass(frozen=True)
class StyleGAN2Model:
    """The `model` section.

    Attributes:
      z_dim: width of the latent z.
      w_dim: width of the intermediate latent w.
      mapping_layers: depth of the mapping network.
      mapping_lr: learning rate of the mapping network's layers relative to the others (0.01 in the paper, for long
        training; the higher, the sooner samples differ).
      label_layers: depth of the discriminator's label network.
      channel_base: channels at 4 x 2^l pixels are channel_base / (4 x 2^l) ...
      channel_max: ... but at most this.
      stddev_group: samples a group of the minibatch standard deviation; 0 leaves it out.
      bf16_levels: so many of the finest levels compute in bfloat16.
    """

    z_dim: int
    w_dim: int
    mapping_layers: int
    mapping_lr: float
    label_layers: int
    channel_base: int
    channel_max: int
    stddev_group: int
    bf16_levels: int

    def __post_init__(self):
        for field in ('z_dim', 'w_dim', 'mapping_layers', 'label_layers', 'channel_base', 'channel_max'):
            if getattr(self, field) < 1:
                raise ConfigError(f'model.{field}: must be at least 1')
        for field in ('mapping_lr', 'stddev_group', 'bf16_levels'):
            if getattr(self, field) < 0:
                raise ConfigError(f'model.{field}: must not be negative')


@dataclasses.dataclass(frozen=True)
class StyleGAN2:
    """See the module; built by `make`."""

    config: StyleGAN2Config
    problem: Problem
    z_dim: int
    generator: nets.Generator
    discriminator: nets.Discriminator
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: Loss
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

    @property
    def num_latents(self) -> int:
        return self.generator.num_latents

    # Forward passes.

    def _one_hot(self, label: jax.Array) -> jax.Array | None:
        return one_hot_labels(label, self.problem.labels) if self.problem.labels else None

    def draw(self, keys: jax.Array) -> jax.Array:
        """One latent z a key, [B, Z], standard normal."""
        return jax.vmap(lambda key: jax.random.normal(key, (self.z_dim,)))(streams(keys, 'z'))

    def _map(self, params: Any, z: jax.Array, label: jax.Array) -> jax.Array:
        return self.generator.apply({'params': params}, z, self._one_hot(label), method='map')

    def _synthesize(self, params: Any, ws: jax.Array, keys: jax.Array) -> jax.Array:
        return self.generator.apply({'params': params}, ws, keys, method='synthesize')

    def _fake(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images [B, H, W, 3], their latents [B, L, W], and the unmixed w [B, W]; `batch` has `key` and `label`."""
        keys, label = batch['key'], batch['label']
        w = self._map(params, self.draw(keys), label)
        ws = jnp.repeat(w[:, None], self.num_latents, 1)
        if self.config.mixing:
            other = self._map(params, self.draw(streams(keys, 'other')), label)
            ws = jnp.where(self._crossover(keys)[:, :, None], other[:, None], ws)
        return self._synthesize(params, ws, keys), ws, w

    def _crossover(self, keys: jax.Array) -> jax.Array:
        """Layers that take the second latent, bool [B, L]: those from a random layer on, in a share of the samples."""

        def one(key):
            layer = jax.random.randint(stream(key, 'layer'), (), 1, self.num_latents)
            mixed = jax.random.bernoulli(stream(key, 'mixed'), self.config.mixing)
            return jnp.where(mixed, layer, self.num_latents)

        return jnp.arange(self.num_latents) >= jax.vmap(one)(keys)[:, None]

    def _logits(self, params: Any, image: jax.Array, batch: Batch, p: jax.Array) -> jax.Array:
        """Logits [B] of augmented images."""
        image = self.augment(image, p, streams(batch['key'], 'augment'))
        return self.discriminator.apply({'params': params}, image, self._one_hot(batch['label']))

    # The method.

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        label = self._one_hot(batch['label'][:1])
        keys = sample_keys(rng, jnp.arange(1))
        z, image = self.draw(keys), to_float(batch['image'][:1])
        g = self.generator.init(stream(rng, 'generator'), z, label, keys)['params']
        d = self.discriminator.init(stream(rng, 'discriminator'), image, label)['params']
        w_mean = jnp.zeros(self._map(g, z, batch['label'][:1]).shape[1:])
        zero = jnp.zeros(())
        return State(
            step=jnp.zeros((), jnp.int32),
            nets={
                'generator': create_net(g, self.g_tx, {'w_mean': w_mean}, ema=True),
                'discriminator': create_net(d, self.d_tx),
            },
            extra={
                'augment_p': jnp.asarray(self.config.augment.p, jnp.float32),
                'sign_sum': zero,  # of the real logits since p last moved
                'path_mean': zero,
                'r1': zero,  # last values of the lazy terms, for the log
                'path': zero,
            },
            frozen={},
        )

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration."""
        c, size = self.config, self.problem.batch_size
        part = lambda name: {
            'image': to_float(batch['image']),
            'label': batch['label'],
            'key': sample_keys(stream(rng, name), jnp.arange(size)),
        }
        g, d, extra = state.nets['generator'], state.nets['discriminator'], dict(state.extra)
        p = extra['augment_p']

        g, g_metrics = self._generator_step(g, d, part('generator'), p)
        if c.path_weight:
            lazy = lambda: self._path_step(g, part('path'), extra['path_mean'])
            skip = lambda: (g, extra['path_mean'], extra['path'])
            g, extra['path_mean'], extra['path'] = jax.lax.cond(state.step % c.path_interval == 0, lazy, skip)
        g = average(g, ema_decay(state.step, size, c.ema_kimg, c.ema_rampup))

        d, d_metrics = self._discriminator_step(d, g, part('discriminator'), p)
        if c.r1_interval:
            lazy = lambda: self._r1_step(d, part('r1'), p)
            d, extra['r1'] = jax.lax.cond(state.step % c.r1_interval == 0, lazy, lambda: (d, extra['r1']))
        extra |= self._adapt(state.step, extra, d_metrics['sign/real'])

        metrics = {
            'loss/generator': g_metrics['loss'],
            'loss/discriminator': d_metrics['loss'],
            'grad_norm/generator': g_metrics['grad_norm'],
            'grad_norm/discriminator': d_metrics['grad_norm'],
            'augment_p': p,
            **{name: value for name, value in d_metrics.items() if '/' in name},
        }
        metrics |= {'loss/r1': extra['r1']} if c.r1_interval else {}
        metrics |= {'loss/path': extra['path'], 'path_mean': extra['path_mean']} if c.path_weight else {}
        return State(state.step + 1, {'generator': g, 'discriminator': d}, extra, state.frozen), metrics

    def _step(self, net: Net, tx: optax.GradientTransformation, loss: Callable, batch: Batch):
        problem = self.problem
        return step_net(net, tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)

    def _generator_step(self, g: Net, d: Net, batch: Batch, p: jax.Array) -> tuple[Net, dict]:
        def loss(params, stats, batch):
            image, _, w = self._fake(params, batch)
            fake = self._logits(d.params, image, batch, p)
            value = jnp.mean(self.loss(fake, fake)[0])
            return value, (stats, {'loss': value, 'w_mean': jnp.mean(w, 0)})

        g, metrics = self._step(g, self.g_tx, loss, batch)
        decay = self.config.w_decay
        w_mean = decay * g.stats['w_mean'] + (1 - decay) * metrics.pop('w_mean')
        return g.replace(stats={'w_mean': w_mean}), metrics

    def _path_step(self, g: Net, batch: Batch, mean: jax.Array) -> tuple[Net, jax.Array, jax.Array]:
        c = self.config

        def loss(params, stats, batch):
            keys = batch['key']
            _, ws, _ = self._fake(params, batch)
            noise = jax.vmap(lambda key: jax.random.normal(key, (*self.problem.resolution, 3)))(streams(keys, 'path'))
            lengths = path_lengths(lambda ws: self._synthesize(params, ws, keys), ws, noise)
            value = jnp.mean(jnp.square(lengths - mean))
            return c.path_weight * c.path_interval * value, (stats, {'loss': value, 'length': jnp.mean(lengths)})

        batch = jax.tree.map(lambda x: x[:: c.path_shrink], {k: batch[k] for k in ('key', 'label')})
        g, metrics = self._step(g, self.g_tx, loss, batch)
        return g, c.path_decay * mean + (1 - c.path_decay) * metrics['length'], metrics['loss']

    def _discriminator_step(self, d: Net, g: Net, batch: Batch, p: jax.Array) -> tuple[Net, dict]:
        def loss(params, stats, batch):
            image = jax.lax.stop_gradient(self._fake(g.params, batch)[0])
            fake = self._logits(params, image, batch, p)
            # Real images are augmented independently of the fake ones beside them.
            real = self._logits(params, batch['image'], batch | {'key': streams(batch['key'], 'real')}, p)
            value = jnp.mean(self.loss(real, fake)[1])
            metrics = {'loss': value}
            for name, logits in (('real', real), ('fake', fake)):
                metrics |= {f'logits/{name}': jnp.mean(logits), f'sign/{name}': jnp.mean(jnp.sign(logits))}
            return value, (stats, metrics)

        return self._step(d, self.d_tx, loss, batch)

    def _r1_step(self, d: Net, batch: Batch, p: jax.Array) -> tuple[Net, jax.Array]:
        c = self.config

        def loss(params, stats, batch):
            norms, _ = gradient_norms(lambda image: self._logits(params, image, batch, p), batch['image'])
            value = jnp.mean(norms)
            return 0.5 * c.r1_gamma * c.r1_interval * value, (stats, {'loss': value})

        d, metrics = self._step(d, self.d_tx, loss, batch)
        return d, metrics['loss']

    def _adapt(self, step: jax.Array, extra: dict, sign: jax.Array) -> dict[str, jax.Array]:
        """Moves the augmentation probability every few iterations by the mean sign over them (ADA, sec. 3)."""
        c = self.config.augment
        if c.name != 'ada' or c.target <= 0:
            return {}
        total, due = extra['sign_sum'] + sign, (step + 1) % ADAPT_INTERVAL == 0
        images = ADAPT_INTERVAL * self.problem.batch_size
        moved = adapt_p(extra['augment_p'], total / ADAPT_INTERVAL, images, c.target, c.adjust_kimg)
        return {
            'augment_p': jnp.where(due, moved, extra['augment_p']),
            'sign_sum': jnp.where(due, 0.0, total),
        }

    # Sampling, from the averaged weights.

    def latents(self, state: State, z: jax.Array, label: jax.Array, truncation: jax.Array) -> jax.Array:
        """Latents [B, L, W] of z [B, Z], drawn towards the mean w as psi [B] falls from 1 to 0 (truncation trick)."""
        g = state.nets['generator']
        w, mean = self._map(g.ema, z, label), g.stats['w_mean']
        w = mean + truncation[:, None] * (w - mean)
        return jnp.repeat(w[:, None], self.num_latents, 1)

    def synthesize(self, state: State, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] of latents [B, L, W] with the noise of `keys`."""
        return jnp.clip(self._synthesize(state.nets['generator'].ema, ws, keys), -1, 1)

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B], `label` [B, A] and, optionally, `truncation` [B] (1 without)."""
        keys = sample_keys(rng, batch['seed'])
        truncation = batch.get('truncation', jnp.ones(keys.shape))
        return {'image': self.synthesize(state, self.latents(state, self.draw(keys), batch['label'], truncation), keys)}


def make(config: Mapping[str, Any], problem: Problem) -> StyleGAN2:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      ConfigError: a value that cannot be used, alone or with the others.
    """
    c = build(StyleGAN2Config, config['method'], 'method')
    m = build(StyleGAN2Model, config['model'], 'model')
    c = dataclasses.replace(c, r1_gamma=_gamma(c.r1_gamma, problem))
    optim = {
        name: build(OptimConfig, choose(config['optim'], name, 'optim'), f'optim.{name}')
        for name in ('generator', 'discriminator')
    }
    try:
        base, levels = nets.levels(problem.resolution)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    part = problem.batch_size // problem.accumulate
    if m.stddev_group and part % m.stddev_group:
        raise ConfigError(
            f'model.stddev_group: {m.stddev_group} does not divide the {part} images a forward pass sees '
            f'(train.batch_size / train.accumulate); choose a divisor, or 0 to leave the layer out'
        )
    if c.path_weight and problem.batch_size % (c.path_shrink * problem.accumulate):
        raise ConfigError(f'method.path_shrink: {c.path_shrink} does not divide the {part} images of a forward pass')
    if m.channel_base < 4 << levels:
        raise ConfigError(
            f'model.channel_base: {m.channel_base} leaves the finest of {levels + 1} levels without channels; '
            f'at this resolution it must be at least {4 << levels}, and some {16 * (4 << levels)} to be of use'
        )
    widths = nets.Widths(m.channel_base, m.channel_max, levels, m.bf16_levels)
    return StyleGAN2(
        config=c,
        problem=problem,
        z_dim=m.z_dim,
        generator=nets.Generator(base, widths, m.w_dim, m.mapping_layers, m.mapping_lr),
        discriminator=nets.Discriminator(widths, m.stddev_group, m.label_layers),
        g_tx=make_optimizer(optim['generator'], problem.steps, c.path_interval if c.path_weight else None),
        d_tx=make_optimizer(optim['discriminator'], problem.steps, c.r1_interval or None),
        loss=choose(ADVERSARIAL, c.loss, 'method.loss'),
        augment=make_augment(c.augment),
    )


def _gamma(value: float | str, problem: Problem) -> float:
    """`r1_gamma` as a number."""
    if value == 'auto':
        height, width = problem.resolution
        return 0.0002 * height * width / problem.batch_size
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"method.r1_gamma: expected a number or 'auto', got {value!r}") from None
