"""Generative adversarial networks: any loss with any penalty and any pair of networks.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014. The variants differ in the critic's loss, penalty and
augmentation (`methods.parts.critic`) and in the networks (`methods.models`), which are chosen by name.

An iteration takes a generator step and then `critic_steps` discriminator steps. The batch is divided among the latter,
so that each image is used once per epoch for any number of steps; the generator's step makes as many fake images as one
discriminator step uses. Row by row, fake images have the labels of the real ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.schedule import Annealed, Ramp, parse_annealed, parse_ramp
from productgen.core.sharding import replicate, split_rows
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.methods.base import (
    Batch,
    Family,
    Frozen,
    Knob,
    Knobs,
    Method,
    Metrics,
    Problem,
    Sections,
    scaled,
    weighted,
)
from productgen.methods.models import PAIRS
from productgen.methods.models.stylegan2 import StyleGAN2Generator
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import BACKBONE, Context, Critic, CriticConfig, Phase, Pictures, make_critic
from productgen.nets.layers import one_hot_labels


@dataclasses.dataclass(frozen=True)
class GanConfig(CriticConfig):
    """The `method` section: that of the critic (`CriticConfig`) and these.

    Attributes:
      name: `gan`.
      critic_steps: discriminator steps per iteration.
      classification: weight of the class terms of a classifying discriminator (AC-GAN, Odena et al. 2017).
      transition_kimg: `A->B`: training is unconditional up to A thousand images and fully conditional from B thousand
        images on (Shahbazi et al., "Collapse by Conditioning", 2022); empty: conditional from the start.
      ema_kimg: half-life of the averaged weights, thousands of images; constant or annealed, `A->B`.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = 'gan'
    critic_steps: int = 1
    classification: float = 1.0
    transition_kimg: str = ''
    ema_kimg: float | str = '5'
    ema_rampup: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        if self.critic_steps < 1:
            raise UserError('method.critic_steps', f'{self.critic_steps} is less than 1')
        check_not_negative(self, 'ema_rampup', 'classification')


@dataclasses.dataclass(frozen=True)
class Gan(Method):
    """See the module; built by `make`.

    Attributes:
      config: the `method` section.
      problem: what it is built for.
      z_dim: width of the latent z.
      generator: see `methods.models.Pair`.
      critic: judges images given their labels.
      tx: the generator's optimiser.
      half_life: of the averaged weights, thousands of images, by step.
      transition: weight of the labels by thousands of images; None where it is always 1.
    """

    config: GanConfig
    problem: Problem
    z_dim: int
    generator: nn.Module
    critic: Critic
    tx: optax.GradientTransformation
    half_life: Annealed
    transition: Ramp | None

    @property
    def size(self) -> int:
        """Images of one discriminator step."""
        return self.problem.batch_size // self.config.critic_steps

    def in_one_part(self) -> Gan:
        """The same method with one discriminator step per iteration and each batch in one part: no loops."""
        config = dataclasses.replace(self.config, critic_steps=1)
        return dataclasses.replace(super().in_one_part(), config=config)

    # Forward passes.

    def label_weight(self, step: jax.Array) -> jax.Array | float:
        """Weight of the labels at a step, 0 to 1: lambda of Shahbazi et al. 2022, equation 3."""
        if not self.transition:
            return 1.0
        problem = self.problem
        kimg = jnp.asarray(step, jnp.float32) * (problem.batch_size / 1000)
        return self.transition(kimg + problem.images_before / 1000 if problem.images_before else kimg)

    def one_hot(self, label: jax.Array) -> jax.Array | None:
        """Codes [B, A] as [B, N], None where unconditional."""
        return one_hot_labels(label, self.problem.labels)

    def draw(self, keys: jax.Array) -> jax.Array:
        """One latent z for each key, [B, Z], standard normal."""
        return normal(streams(keys, 'z'), (self.z_dim,))

    def forward(
        self, params: PyTree, stats: PyTree, batch: Batch, label_weight: jax.Array | float
    ) -> tuple[jax.Array, PyTree, dict[str, jax.Array]]:
        """The generator in training.

        Args:
          params: its weights.
          stats: its running statistics.
          batch: `key` [B] and `label` int32 [B, A].
          label_weight: weight of the labels.

        Returns:
          images [B, H, W, 3], new statistics, and means over the batch for `track`.
        """
        label, keys = self.one_hot(batch['label']), batch['key']
        variables = {'params': params, 'stats': stats}
        image, new = self.generator.apply(
            variables, self.draw(keys), label, keys, train=True, label_weight=label_weight, mutable=['stats']
        )
        return image, new.get('stats', stats), {}

    def track(self, stats: PyTree, means: Mapping[str, jax.Array]) -> PyTree:
        """The generator's statistics after a step with these means over the batch."""
        return stats

    def context(self, batch: Batch) -> Context:
        """The critic's context for `key` and `label` of a batch."""
        return Context(batch['key'], self.one_hot(batch['label']), batch['label'])

    # The method.

    def frozen(self) -> dict[str, Frozen]:
        """See `Method.frozen`."""
        return self.critic.frozen()

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        label, image = self.one_hot(batch['label'][:2]), to_float(batch['image'][:2])
        keys = sample_keys(rng, jnp.arange(len(image)))
        g = self.generator.init(stream(rng, 'generator'), self.draw(keys), label, keys, train=True)
        seen = self.critic.seen(frozen.get(BACKBONE), image)
        d = self.critic.network.init(stream(rng, 'discriminator'), seen, label, keys, train=True)
        nets = {
            'generator': create_net(g['params'], self.tx, g.get('stats'), ema=True),
            'discriminator': create_net(d['params'], self.critic.tx, d.get('stats')),
        }
        return State(step=jnp.zeros((), jnp.int32), nets=nets, extra=self.critic.initial(), frozen=frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem, critic, step = self.config, self.problem, self.critic, state.step
        g, d = state.nets['generator'], state.nets['discriminator']
        phase = critic.phase(state, self.label_weight(step))
        rows = {'image': to_float(batch['image']), 'label': batch['label']}
        # Turn t has rows t, t + k, t + 2k, ...: each device keeps its rows, and turns do not depend on their number.
        turns = jax.tree.map(lambda x: x.reshape(self.size, c.critic_steps, *x.shape[1:]).swapaxes(0, 1), rows)
        first = jax.tree.map(lambda x: x[0], turns)

        def keyed(name, rows, turn=0):
            return rows | {'key': sample_keys(stream(rng, name), turn * self.size + jnp.arange(self.size))}

        g, g_metrics = self._generator_step(g, d, keyed('generator', first), phase)
        g, extra, lazy_metrics = self.regularise(g, keyed('path', first), state.extra, phase)
        g = average(g, ema_decay(step, problem.batch_size, self.half_life(step), c.ema_rampup, problem.images_before))
        g = self._average_statistics(g, keyed('statistics', first), phase)
        generator = g.replace(params=replicate(g.params))

        def show(batch):
            image, _, _ = self.forward(generator.params, generator.stats, batch, phase.label_weight)
            return Pictures(batch['image'], image, self.context(batch))

        def critic_step(d, numbered):
            turn, rows = numbered
            return critic.step(d, keyed('discriminator', rows, turn), show, phase, problem)

        if c.critic_steps == 1:
            d, d_metrics = critic_step(d, (0, first))
        else:
            d, each = jax.lax.scan(critic_step, d, (jnp.arange(c.critic_steps), turns))
            d_metrics = jax.tree.map(jnp.mean, each)
        d, penalty_metrics = critic.lazy_penalty(d, keyed('penalty', first), show, phase, problem)
        extra = extra | critic.adapted(extra, d_metrics.get('sign/real'), step, problem.batch_size)

        metrics = {
            'loss/generator': g_metrics['loss'],
            'loss/discriminator': d_metrics.pop('loss'),
            'grad_norm/generator': g_metrics['grad_norm'],
            'grad_norm/discriminator': d_metrics.pop('grad_norm'),
            **d_metrics,
            **critic.logged(phase),
        }
        metrics |= {'label_share': phase.label_weight} if self.transition else {}
        state = state.replace(step=step + 1, nets={'generator': g, 'discriminator': d}, extra=extra)
        return state, weighted(metrics) | lazy_metrics | penalty_metrics

    def _generator_step(self, g: Net, d: Net, batch: Batch, phase: Phase) -> tuple[Net, dict[str, jax.Array]]:
        def loss(params, stats, batch):
            image, stats, means = self.forward(params, stats, batch, phase.label_weight)
            pictures = Pictures(batch['image'], image, self.context(batch))
            total, value = self.critic.generator_loss(d, pictures, phase)
            return total, (stats, {'loss': value, 'means': means})

        problem = self.problem
        new, metrics = step_net(g, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        # Training uses the batch's own statistics; the running ones belong to the averaged weights.
        return new.replace(stats=self.track(g.stats, metrics.pop('means'))), metrics

    def _average_statistics(self, g: Net, batch: Batch, phase: Phase) -> Net:
        """Updates the generator's running statistics with the averaged weights, which they are used with."""
        if not jax.tree.leaves(g.stats):
            return g
        part = jax.tree.map(lambda x: split_rows(x, self.problem.accumulate, self.problem.devices)[0], batch)
        return g.replace(stats=self.forward(replicate(g.ema), g.stats, part, phase.label_weight)[1])

    def regularise(
        self, g: Net, batch: Batch, extra: dict[str, PyTree], phase: Phase
    ) -> tuple[Net, dict[str, PyTree], Metrics]:
        """A step on a regulariser of the generator, here none; returns the new `State.extra` and metrics too."""
        return g, extra, {}

    # From the averaged weights.

    knobs = (Knob('truncation', 1.0, 0.0, 2.0),)

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A]; `truncation` scales z."""
        keys, g = sample_keys(rng, batch['seed']), state.nets['generator']
        z, label = scaled(self.draw(keys), knobs.get('truncation', 1.0)), self.one_hot(batch['label'])
        weight, variables = self.label_weight(state.step), {'params': g.ema, 'stats': g.stats}
        return jnp.clip(self.generator.apply(variables, z, label, keys, train=False, label_weight=weight), -1, 1)


T = TypeVar('T', bound=Gan)


def make(sections: Sections, problem: Problem) -> Gan:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    if isinstance(sections.model, StyleGAN2Generator):
        raise UserError('model.name', f'{sections.model.name!r} has latents of its own and needs method.name=stylegan2')
    return assemble(Gan, sections, problem)


def assemble(cls: type[T], sections: Sections, problem: Problem, lazy_interval: int | None = None) -> T:
    """Builds a `Gan` or a subclass.

    Args:
      cls: the class; it has the same fields.
      sections: of the config.
      problem: what it is built for.
      lazy_interval: iterations between the generator's steps on a regulariser; None for no such steps.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c: GanConfig = sections.method
    unit = c.critic_steps * problem.accumulate * problem.devices
    if problem.batch_size % unit:
        raise UserError(
            'method.critic_steps',
            f'the {problem.batch_size} images of train.batch_size cannot be divided into {c.critic_steps} '
            f'steps x {problem.accumulate} parts x {problem.devices} devices',
            f'the nearest that can is {max(round(problem.batch_size / unit), 1) * unit}',
        )
    # A network sees the batch of one discriminator step.
    turn = dataclasses.replace(problem, batch_size=problem.batch_size // c.critic_steps)
    pair = sections.model.pair(turn, bool(c.transition_kimg))
    if c.transition_kimg and not problem.labels:
        raise UserError('method.transition_kimg', 'there are no labels to condition on', 'see data.labels')
    half_life = parse_annealed(c.ema_kimg, 'method.ema_kimg', problem.steps, c.anneal)
    if min(half_life.start, half_life.end) < 0:
        raise UserError('method.ema_kimg', f'a half-life must not be negative, got {c.ema_kimg}')
    critic = make_critic(
        c,
        pair.discriminator,
        sections.optim['discriminator'],
        problem,
        steps=c.critic_steps,
        classification=c.classification,
        couples_images=pair.couples_images,
        backbone=pair.backbone,
    )
    return cls(
        config=c,
        problem=problem,
        z_dim=pair.z_dim,
        generator=pair.generator,
        critic=critic,
        tx=make_optimizer(sections.optim['generator'], problem.steps, lazy_interval),
        half_life=half_life,
        transition=parse_ramp(c.transition_kimg, 'method.transition_kimg') if c.transition_kimg else None,
    )


FAMILY = Family(method=GanConfig, model=PAIRS, networks=('generator', 'discriminator'), make=make)
