"""A residual classifier of pictures, whose features measure other pictures.

He et al. 2016 (see `productgen.nets.resnet`), trained by cross entropy with label smoothing (Szegedy et al. 2016) on
augmented pictures, with averaged weights. Every attribute of the labels has its own linear classifier on the same
features. Each augmentation is applied to each picture with the probability `augment.p`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from productgen.augment import AugmentConfig, make_augment
from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import stream, streams
from productgen.core.schedule import Annealed, parse_annealed
from productgen.core.state import PyTree, State, create_net
from productgen.losses.classification import cross_entropy
from productgen.methods.base import Batch, Family, Method, Metrics, Problem, Sections, weighted
from productgen.methods.models.resnet import ResNetModel
from productgen.methods.parts.averaging import check_not_negative, keyed, step_averaged
from productgen.nets import resnet as nets


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """The `method` section.

    Attributes:
      name: `classifier`.
      label_smoothing: fraction of the target that is spread over all values, 0 to below 1.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
      augment: augmentation of the training pictures.
    """

    name: str = 'classifier'
    label_smoothing: float = 0.1
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        if not 0 <= self.label_smoothing < 1:
            raise UserError('method.label_smoothing', f'{self.label_smoothing} is not a fraction, 0 to below 1')
        check_not_negative(self, 'ema_kimg', 'ema_rampup')
        check_fixed(self.augment)


def check_fixed(augment: AugmentConfig) -> None:
    """Raises a UserError where the probability of the augmentation adapts to a discriminator."""
    if augment.adaptive:
        raise UserError('method.augment.target', 'there is no discriminator to adapt to', 'set it to 0')


@dataclasses.dataclass(frozen=True)
class Classifier(Method):
    """See the module; built by `make`."""

    config: ClassifierConfig
    problem: Problem
    net: nets.Classifier
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    augment_p: Annealed
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.net.init(stream(rng, 'classifier'), to_float(batch['image'][:1]))['params']
        return State(jnp.zeros((), jnp.int32), {'classifier': create_net(params, self.tx, ema=True)}, {}, frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem, p = self.config, self.problem, self.augment_p(state.step)
        batch = keyed(batch, rng, jnp.arange(problem.batch_size))

        def loss(params, stats, batch):
            image = self.augment(batch['image'], p, streams(batch['key'], 'augment'))
            _, logits = self.net.apply({'params': params}, image, streams(batch['key'], 'dropout'))
            value = jnp.mean(cross_entropy(logits, batch['label'], c.label_smoothing))
            return value, (stats, {'loss': value, 'error': jnp.mean(_error(logits, batch['label']))})

        net = state.nets['classifier']
        net, metrics = step_averaged(net, self.tx, loss, batch, problem=problem, section=c, step=state.step)
        return state.replace(step=state.step + 1, nets={'classifier': net}), weighted(metrics)

    # From the averaged weights.

    def classify(self, state: State, batch: Batch, rng: jax.Array) -> list[jax.Array]:
        """Logits [B, n] of every attribute, of `image` uint8 [B, H, W, 3]."""
        return self.net.apply({'params': state.nets['classifier'].ema}, to_float(batch['image']))[1]

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Features [B, D] of `image` uint8 [B, H, W, 3]."""
        return self.net.apply({'params': state.nets['classifier'].ema}, to_float(batch['image']))[0]

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss`, without smoothing, and `error`, the fraction of the known attributes predicted wrongly, [B] each.

        NaN for a picture without known attributes.
        """
        logits = self.classify(state, batch, rng)
        figures = {'loss': cross_entropy(logits, batch['label']), 'error': _error(logits, batch['label'])}
        known = jnp.any(batch['label'] >= 0, -1)
        return {name: jnp.where(known, value, jnp.nan) for name, value in figures.items()}


def _error(logits: list[jax.Array], label: jax.Array) -> jax.Array:
    """Fraction of the known attributes that are predicted wrongly, [B]; 0 where none is known."""
    predicted = jnp.stack([jnp.argmax(x, -1) for x in logits], -1)  # [B, A]
    known = label >= 0
    return jnp.sum(known & (predicted != label), -1) / jnp.maximum(jnp.sum(known, -1), 1)


def make(sections: Sections, problem: Problem) -> Classifier:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, m = sections.method, sections.model
    if not problem.labels:
        raise UserError(
            'data.labels', 'a classifier needs labels', 'use data with some, or configs/classifier.py:simclr'
        )
    net = nets.Classifier(m.body(problem.resolution), problem.labels, m.dropout)
    p = parse_annealed(c.augment.p, 'method.augment.p', problem.steps, 1.0)
    tx = make_optimizer(sections.optim['classifier'], problem.steps)
    return Classifier(c, problem, net, make_augment(c.augment), p, tx)


FAMILY = Family(method=ClassifierConfig, model=ResNetModel, networks=('classifier',), make=make)
