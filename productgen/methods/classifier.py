"""A residual network that tells what a picture shows; its features measure other pictures.

He et al. 2016 (see `productgen.nets.resnet`), trained by cross entropy with label smoothing (Szegedy et al. 2016) on
augmented pictures, and averaged. Every attribute that the data are labelled with has a classifier of its own on the
same features. An augmentation is applied to each picture with the probability `augment.p`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.augment import AugmentConfig, make_augment
from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.schedule import Annealed, parse_annealed
from productgen.core.state import State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.losses.classification import cross_entropy
from productgen.methods.base import Batch, Problem
from productgen.methods.models.resnet import ResNetModel
from productgen.nets import resnet as nets


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """The `method` section.

    Attributes:
      name: `classifier`.
      label_smoothing: share of the target that is spread over all values, 0 to below 1.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
      augment: what pictures go through in training.
    """

    name: str = 'classifier'
    label_smoothing: float = 0.1
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise UserError('method.label_smoothing', f'{self.label_smoothing} is not a share, 0 to below 1')
        check_common(self)


def check_common(config: Any) -> None:
    """Checks what both methods that recognise have.

    Raises:
      UserError: naming the field.
    """
    for field in ('ema_kimg', 'ema_rampup'):
        if getattr(config, field) < 0:
            raise UserError(f'method.{field}', 'must not be negative')
    if config.augment.adaptive:
        raise UserError('method.augment.target', 'there is no discriminator to adapt to', 'set it to 0')


@dataclasses.dataclass(frozen=True)
class Classifier:
    """See the module; built by `make`."""

    config: ClassifierConfig
    problem: Problem
    net: nets.Classifier
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    augment_p: Annealed
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.net.init(stream(rng, 'classifier'), to_float(batch['image'][:1]))['params']
        return State(jnp.zeros((), jnp.int32), {'classifier': create_net(params, self.tx, ema=True)}, {}, {})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration."""
        c, problem = self.config, self.problem
        keys, p = sample_keys(rng, jnp.arange(problem.batch_size)), self.augment_p(state.step)
        batch = {'image': to_float(batch['image']), 'label': batch['label'], 'key': keys}

        def loss(params, stats, batch):
            image = self.augment(batch['image'], p, streams(batch['key'], 'augment'))
            _, logits = self.net.apply({'params': params}, image, streams(batch['key'], 'dropout'))
            value = jnp.mean(cross_entropy(logits, batch['label'], c.label_smoothing))
            return value, (stats, {'loss': value, 'error': jnp.mean(_error(logits, batch['label']))})

        net = state.nets['classifier']
        net, metrics = step_net(net, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        net = average(net, ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup))
        return State(state.step + 1, {'classifier': net}, state.extra, state.frozen), metrics

    def classify(self, state: State, batch: Batch, rng: jax.Array) -> list[jax.Array]:
        """Logits [B, n] of every attribute of `image` [B, H, W, 3], uint8."""
        return self.net.apply({'params': state.nets['classifier'].ema}, to_float(batch['image']))[1]

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Features [B, D] of `image` [B, H, W, 3], uint8."""
        return self.net.apply({'params': state.nets['classifier'].ema}, to_float(batch['image']))[0]

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss`, without smoothing, and `error`, the share of wrong answers over the known attributes, [B] each.

        NaN of a picture of which no attribute is known.
        """
        logits = self.classify(state, batch, rng)
        figures = {'loss': cross_entropy(logits, batch['label']), 'error': _error(logits, batch['label'])}
        known = jnp.any(batch['label'] >= 0, -1)
        return {name: jnp.where(known, value, jnp.nan) for name, value in figures.items()}


def _error(logits: list[jax.Array], label: jax.Array) -> jax.Array:
    """Share of wrong answers of each picture, [B]; 0 where nothing is known."""
    answers = jnp.stack([jnp.argmax(x, -1) for x in logits], -1)  # [B, A]
    known = label >= 0
    return jnp.sum(known & (answers != label), -1) / jnp.maximum(jnp.sum(known, -1), 1)


def make(config: Mapping[str, Any], problem: Problem) -> Classifier:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(ClassifierConfig, config['method'], 'method')
    m = build(ResNetModel, config['model'], 'model')
    if not problem.labels:
        raise UserError(
            'data.labels', 'a classifier needs labels', 'use data with some, or configs/classifier.py:simclr'
        )
    net = nets.Classifier(m.body(problem.resolution), problem.labels, m.dropout)
    optim = build(OptimConfig, choose(config['optim'], 'classifier', 'optim'), 'optim.classifier')
    p = parse_annealed(c.augment.p, 'method.augment.p', problem.steps, 1.0)
    return Classifier(c, problem, net, make_augment(c.augment), p, make_optimizer(optim, problem.steps))
