"""Generative adversarial networks: any loss with any penalty and any pair of networks.

Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014. What makes an adversarial method is chosen by name: the
loss (`losses.adversarial`), the penalty on the discriminator's gradient (`losses.penalties`), the networks
(`methods.models`), and what images go through before they are judged (`augment`).

An iteration takes a generator step and then `critic_steps` discriminator steps. The batch is divided among the latter,
so that an image is seen once in an epoch whatever their number; the generator's step makes as many fakes as one of them
sees. Fake images take the labels of the real ones beside them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.augment import follow_sign, make_augment
from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.schedule import Annealed, Ramp, parse_annealed, parse_ramp
from productgen.core.sharding import parts, whole
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.losses.adversarial import ADVERSARIAL, PAIRED, SIGNED, Loss
from productgen.losses.classification import cross_entropy
from productgen.losses.penalties import PENALTIES, Penalty
from productgen.methods.base import Batch, Problem
from productgen.methods.gan_config import GanConfig
from productgen.methods.models import PAIRS, Pair
from productgen.nets.conditioning import Judgement
from productgen.nets.layers import one_hot_labels


@dataclasses.dataclass(frozen=True)
class Gan:
    """See the module; built by `make`.

    `penalty_weight`, `half_life` and `augment_p` are `method`'s values as functions of the step.
    """

    config: GanConfig
    problem: Problem
    pair: Pair
    g_tx: optax.GradientTransformation
    d_tx: optax.GradientTransformation
    loss: Loss
    penalty: Penalty | None
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    penalty_weight: Annealed
    half_life: Annealed
    augment_p: Annealed
    transition: Ramp | None

    @property
    def size(self) -> int:
        """Images of one discriminator step."""
        return self.problem.batch_size // self.config.critic_steps

    # Forward passes. `share` is how much of the labels is let through.

    def one_hot(self, label: jax.Array) -> jax.Array | None:
        """Codes [B, A] as [B, N], None where unconditional."""
        return one_hot_labels(label, self.problem.labels)

    def draw(self, keys: jax.Array) -> jax.Array:
        """One latent z a key, [B, Z], standard normal."""
        return normal(streams(keys, 'z'), (self.pair.z_dim,))

    def generate(
        self, params: PyTree, stats: PyTree, batch: Batch, share: jax.Array
    ) -> tuple[jax.Array, PyTree, dict[str, jax.Array]]:
        """Images [B, H, W, 3] for `key` and `label` of a batch, new statistics, and means for `track`."""
        label, keys = self.one_hot(batch['label']), batch['key']
        variables = {'params': params, 'stats': stats}
        image, new = self.pair.generator.apply(
            variables, self.draw(keys), label, keys, train=True, label_weight=share, mutable=['stats']
        )
        return image, new.get('stats', stats), {}

    def settle(self, g: Net, batch: Batch, share: jax.Array) -> Net:
        """Lets the generator's running statistics follow the averaged weights, with which alone they are used."""
        if not jax.tree.leaves(g.stats):
            return g
        one = jax.tree.map(lambda x: parts(x, self.problem.accumulate, self.problem.devices)[0], batch)
        return g.replace(stats=self.generate(whole(g.ema), g.stats, one, share)[1])

    def track(self, stats: PyTree, means: Mapping[str, jax.Array]) -> PyTree:
        """Statistics after a generator step that had these means over the batch."""
        return stats

    def judge(
        self, params: PyTree, stats: PyTree, image: jax.Array, batch: Batch, p: jax.Array
    ) -> tuple[Judgement, PyTree]:
        """What the discriminator says of augmented images, and its new statistics."""
        image = self.augment(image, p, streams(batch['key'], 'augment'))
        keys, label = streams(batch['key'], 'judge'), self.one_hot(batch['label'])
        variables = {'params': params, 'stats': stats}
        verdict, new = self.pair.discriminator.apply(variables, image, label, keys, train=True, mutable=['stats'])
        return verdict, new.get('stats', stats)

    def _objective(self, player: int, real: Judgement, fake: Judgement, share: jax.Array) -> jax.Array:
        """What the generator (0) or the discriminator (1) minimises of the adversarial game."""
        value = jnp.mean(self.loss(real.logit, fake.logit)[player])
        if real.plain is None:
            return value
        return jnp.mean(self.loss(real.plain, fake.plain)[player]) + share * value

    def _class_loss(self, verdicts: list[Judgement], label: jax.Array, share: jax.Array) -> jax.Array:
        """The weighted class terms of a classifying discriminator, 0 of another."""
        terms = [jnp.mean(cross_entropy(v.classes, label)) for v in verdicts if v.classes]
        return self.config.classification * share * sum(terms, jnp.zeros(()))

    # The method.

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        label, image = self.one_hot(batch['label'][:2]), to_float(batch['image'][:2])
        keys = sample_keys(rng, jnp.arange(len(image)))
        g = self.pair.generator.init(stream(rng, 'generator'), self.draw(keys), label, keys, train=True)
        d = self.pair.discriminator.init(stream(rng, 'discriminator'), image, label, keys, train=True)
        zero = jnp.zeros(())
        extra = {'penalty': zero} if self.penalty and self.config.penalty_interval > 1 else {}
        if self.config.augment.adaptive:
            # The probability, and the sum of the signs of the real logits since it last moved.
            extra |= {'augment_p': jnp.asarray(self.augment_p.start, jnp.float32), 'sign_sum': zero}
        return State(
            step=jnp.zeros((), jnp.int32),
            nets={
                'generator': create_net(g['params'], self.g_tx, g.get('stats'), ema=True),
                'discriminator': create_net(d['params'], self.d_tx, d.get('stats')),
            },
            extra=extra,
            frozen={},
        )

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration."""
        c, step = self.config, state.step
        g, d, extra = state.nets['generator'], state.nets['discriminator'], dict(state.extra)
        p = extra['augment_p'] if c.augment.adaptive else self.augment_p(step)
        share = self.label_share(step)
        rows = {'image': to_float(batch['image']), 'label': batch['label']}
        # Every k-th row to one turn: each device keeps its own rows, and a turn has the same on any number of them.
        turns = jax.tree.map(lambda x: x.reshape(self.size, c.critic_steps, *x.shape[1:]).swapaxes(0, 1), rows)
        first = jax.tree.map(lambda x: x[0], turns)

        def keyed(name, rows, turn=0):
            return rows | {'key': sample_keys(stream(rng, name), turn * self.size + jnp.arange(self.size))}

        g, g_metrics = self._generator_step(g, d, keyed('generator', first), p, share)
        g, extra, lazy_metrics = self.regularise(step, g, keyed('path', first), extra, share)
        g = average(g, ema_decay(step, self.problem.batch_size, self.half_life(step), c.ema_rampup))
        g = self.settle(g, keyed('statistics', first), share)

        made_by = g.replace(params=whole(g.params))

        def critic(d, turn_rows):
            turn, rows = turn_rows
            return self._discriminator_step(d, made_by, keyed('discriminator', rows, turn), p, share, step)

        if c.critic_steps == 1:
            d, d_metrics = critic(d, (0, first))
        else:
            d, found = jax.lax.scan(critic, d, (jnp.arange(c.critic_steps), turns))
            d_metrics = jax.tree.map(jnp.mean, found)
        if 'penalty' in extra:
            lazy = lambda: self._penalty_step(d, made_by, keyed('penalty', first), p, share, step)
            d, extra['penalty'] = jax.lax.cond(step % c.penalty_interval == 0, lazy, lambda: (d, extra['penalty']))
            lazy_metrics = lazy_metrics | {'loss/penalty': extra['penalty']}
        if c.augment.adaptive:
            extra |= follow_sign(c.augment, extra, d_metrics['sign/real'], step, self.problem.batch_size)

        metrics = {
            'loss/generator': g_metrics['loss'],
            'loss/discriminator': d_metrics.pop('loss'),
            'grad_norm/generator': g_metrics['grad_norm'],
            'grad_norm/discriminator': d_metrics.pop('grad_norm'),
            **d_metrics,
            **lazy_metrics,
        }
        metrics |= {'augment_p': jnp.asarray(p, jnp.float32)} if c.augment.name == 'ada' else {}
        metrics |= {'label_share': share} if self.transition else {}
        return State(step + 1, {'generator': g, 'discriminator': d}, extra, state.frozen), metrics

    def label_share(self, step: jax.Array) -> jax.Array | float:
        """How much of the labels is let through at a step: lambda of Shahbazi et al. 2022, equation 3."""
        return self.transition(step * (self.problem.batch_size / 1000)) if self.transition else 1.0

    def _step(self, net: Net, tx: optax.GradientTransformation, loss: Callable, batch: Batch):
        return step_net(net, tx, loss, batch, accumulate=self.problem.accumulate, devices=self.problem.devices)

    def _generator_step(self, g: Net, d: Net, batch: Batch, p: jax.Array, share: jax.Array) -> tuple[Net, dict]:
        def loss(params, stats, batch):
            image, stats, means = self.generate(params, stats, batch, share)
            fake, _ = self.judge(d.params, d.stats, image, batch, p)
            real = fake
            if self.config.loss in PAIRED:
                real_batch = batch | {'key': streams(batch['key'], 'real')}
                real, _ = self.judge(d.params, d.stats, batch['image'], real_batch, p)
            value = self._objective(0, real, fake, share)
            return value + self._class_loss([fake], batch['label'], share), (stats, {'loss': value, 'means': means})

        new, metrics = self._step(g, self.g_tx, loss, batch)
        # Training reads the batch's own statistics; the running ones are those of the averaged weights, see `settle`.
        return new.replace(stats=self.track(g.stats, metrics.pop('means'))), metrics

    def regularise(
        self, step: jax.Array, g: Net, batch: Batch, extra: dict, share: jax.Array
    ) -> tuple[Net, dict, dict[str, jax.Array]]:
        """A step of the generator's own regulariser where it has one: net, `extra` and metrics."""
        return g, extra, {}

    def _discriminator_step(
        self, d: Net, g: Net, batch: Batch, p: jax.Array, share: jax.Array, step: jax.Array
    ) -> tuple[Net, dict]:
        c = self.config

        def loss(params, stats, batch):
            image, real_batch = self._fakes(g, batch, share), batch | {'key': streams(batch['key'], 'real')}
            fake, stats = self.judge(params, stats, image, batch, p)
            # Real images are augmented independently of the fake ones beside them.
            real, stats = self.judge(params, stats, batch['image'], real_batch, p)
            value = self._objective(1, real, fake, share)
            total, metrics = value, {'loss': value}
            for name, verdict in (('real', real), ('fake', fake)):
                logit = verdict.logit if verdict.plain is None else verdict.plain
                metrics[f'logits/{name}'] = jnp.mean(logit)
                if c.loss in SIGNED:
                    metrics[f'sign/{name}'] = jnp.mean(jnp.sign(logit))
            if real.classes:
                metrics['loss/classes'] = self._class_loss([real, fake], batch['label'], share)
                total += metrics['loss/classes']
            if self.penalty and c.penalty_interval == 1:
                metrics['loss/penalty'] = self._penalty_value(params, stats, image, batch, p, share)
                total += self.penalty_weight(step) * metrics['loss/penalty']
            return total, (stats, metrics)

        d, metrics = self._step(d, self.d_tx, loss, batch)
        return self._clipped(d), metrics

    def _clipped(self, d: Net) -> Net:
        c = self.config.clip_weights
        return d.replace(params=jax.tree.map(lambda x: jnp.clip(x, -c, c), d.params)) if c else d

    def _fakes(self, g: Net, batch: Batch, share: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(self.generate(g.params, g.stats, batch, share)[0])

    def _penalty_value(
        self, params: PyTree, stats: PyTree, fake: jax.Array, batch: Batch, p: jax.Array, share: jax.Array
    ) -> jax.Array:
        """Mean penalty; the gradient is that with respect to images before augmentation (as in StyleGAN2-ADA)."""

        def logits(image):
            verdict, _ = self.judge(params, stats, image, batch, p)
            return verdict.logit if verdict.plain is None else verdict.plain + share * verdict.logit

        return jnp.mean(self.penalty(logits, batch['image'], fake, streams(batch['key'], 'penalty')))

    def _penalty_step(
        self, d: Net, g: Net, batch: Batch, p: jax.Array, share: jax.Array, step: jax.Array
    ) -> tuple[Net, jax.Array]:
        """A discriminator step of the penalty alone."""

        def loss(params, stats, batch):
            value = self._penalty_value(params, stats, self._fakes(g, batch, share), batch, p, share)
            return self.penalty_weight(step) * self.config.penalty_interval * value, (stats, {'loss': value})

        d, metrics = self._step(d, self.d_tx, loss, batch)
        return self._clipped(d), metrics['loss']

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B], `label` [B, A] and, optionally, `truncation` [B], which scales z."""
        keys, g = sample_keys(rng, batch['seed']), state.nets['generator']
        z = self.draw(keys) * batch.get('truncation', jnp.ones(keys.shape))[:, None]
        variables = {'params': g.ema, 'stats': g.stats}
        image = self.pair.generator.apply(
            variables, z, self.one_hot(batch['label']), keys, train=False, label_weight=self.label_share(state.step)
        )
        return {'image': jnp.clip(image, -1, 1)}


def make(config: Mapping[str, Any], problem: Problem) -> Gan:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    if config['model'].get('name') == 'stylegan2':
        raise UserError('model.name', "'stylegan2' has latents of its own and goes with method.name=stylegan2")
    return assemble(Gan, build(GanConfig, config['method'], 'method'), config, problem)


def assemble(cls: type[Gan], c: GanConfig, config: Mapping[str, Any], problem: Problem, **fields: Any) -> Gan:
    """A `Gan` or something that extends it by `fields`.

    Args:
      cls: what to build.
      c: the typed `method` section.
      config: all sections.
      problem: what it is built for.
      fields: of `cls` beyond those of `Gan`; `path_interval` also tells how often the generator steps twice.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    unit = c.critic_steps * problem.accumulate * problem.devices
    if problem.batch_size % unit:
        raise UserError(
            'method.critic_steps',
            (
                f'the {problem.batch_size} images of train.batch_size cannot be divided into {c.critic_steps} '
                f'steps x {problem.accumulate} parts x {problem.devices} devices'
            ),
            f'the nearest that can is {max(round(problem.batch_size / unit), 1) * unit}',
        )
    section = config['model']
    # What a network sees at a time is the batch of one discriminator step.
    turn = dataclasses.replace(problem, batch_size=problem.batch_size // c.critic_steps)
    pair = choose(PAIRS, section.get('name', ''), 'model.name')(section, turn, bool(c.transition_kimg))
    penalty = PENALTIES.get(c.penalty)
    if penalty and pair.couples_images:
        raise UserError(
            'method.penalty',
            (
                f'{c.penalty!r} is on the gradient of each image alone, but the discriminator normalises over the '
                'batch (Gulrajani et al. 2017, section 4)'
            ),
            'set model.norm=layer, or method.penalty=none',
        )
    if c.transition_kimg and not problem.labels:
        raise UserError('method.transition_kimg', 'there are no labels to let in', 'see data.labels')
    height, width = problem.resolution
    auto = 0.0002 * height * width / problem.batch_size
    annealed = lambda field, value: parse_annealed(value, f'method.{field}', problem.steps, c.anneal)
    weight = annealed('penalty_weight', auto if c.penalty_weight == 'auto' else c.penalty_weight)
    if penalty and (min(weight.start, weight.end) < 0 or weight.start == weight.end == 0):
        raise UserError('method.penalty_weight', f'{c.penalty!r} needs a positive one, not {c.penalty_weight}')
    half_life = annealed('ema_kimg', c.ema_kimg)
    if min(half_life.start, half_life.end) < 0:
        raise UserError('method.ema_kimg', f'a half-life must not be negative, got {c.ema_kimg}')
    optim = {
        name: build(OptimConfig, choose(config['optim'], name, 'optim'), f'optim.{name}')
        for name in ('generator', 'discriminator')
    }
    if c.clip_weights and optim['discriminator'].freeze:
        raise UserError('method.clip_weights', 'would move what optim.discriminator.freeze holds', 'set it to 0')
    # In discriminator steps, as the optimiser counts.
    lazy = c.penalty_interval * c.critic_steps if penalty and c.penalty_interval > 1 else None
    return cls(
        config=c,
        problem=problem,
        pair=pair,
        g_tx=make_optimizer(optim['generator'], problem.steps, fields.get('path_interval')),
        d_tx=make_optimizer(optim['discriminator'], problem.steps and problem.steps * c.critic_steps, lazy),
        loss=ADVERSARIAL[c.loss],
        penalty=penalty,
        augment=make_augment(c.augment),
        penalty_weight=weight,
        half_life=half_life,
        augment_p=annealed('augment.p', c.augment.p),
        transition=parse_ramp(c.transition_kimg, 'method.transition_kimg') if c.transition_kimg else None,
        **fields,
    )
