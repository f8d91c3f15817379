"""Features of pictures learnt without labels: two augmented views of a picture attract, views of others repel.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (SimCLR). Deviations:
the network has group normalisation and averaged weights, the optimiser is the config's, and the views are made by this
project's augmentations, of which zoom and shift take the place of the paper's crops. With `train.accumulate` each part
contrasts only its own pictures.
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
from productgen.losses.classification import nt_xent
from productgen.methods.base import Batch, Family, Method, Metrics, Problem, Sections, weighted
from productgen.methods.classifier import check_fixed
from productgen.methods.models.resnet import ResNetModel
from productgen.methods.parts.averaging import check_not_negative, keyed, step_averaged
from productgen.nets import resnet as nets


@dataclasses.dataclass(frozen=True)
class SimCLRConfig:
    """The `method` section.

    Attributes:
      name: `simclr`.
      temperature: tau; 0.5 in the paper for small pictures, 0.1 for ImageNet.
      projection: width of the projections that are contrasted, 128 in the paper.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
      augment: augmentation that makes the views.
    """

    name: str = 'simclr'
    temperature: float = 0.2
    projection: int = 64
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)

    def __post_init__(self):
        if self.temperature <= 0:
            raise UserError('method.temperature', f'{self.temperature} is not above 0')
        if self.projection < 1:
            raise UserError('method.projection', 'must be at least 1')
        check_not_negative(self, 'ema_kimg', 'ema_rampup')
        check_fixed(self.augment)
        if self.augment.name == 'none':
            raise UserError('method.augment.name', 'without augmentation both views of a picture are the same')


@dataclasses.dataclass(frozen=True)
class SimCLR(Method):
    """See the module; built by `make`."""

    config: SimCLRConfig
    problem: Problem
    net: nets.Projector
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    augment_p: Annealed
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.net.init(stream(rng, 'encoder'), to_float(batch['image'][:1]))['params']
        return State(jnp.zeros((), jnp.int32), {'encoder': create_net(params, self.tx, ema=True)}, {}, frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration (algorithm 1 of the paper)."""
        c, problem, p = self.config, self.problem, self.augment_p(state.step)
        batch = keyed(batch, rng, jnp.arange(problem.batch_size))

        def loss(params, stats, batch):
            views = [self.augment(batch['image'], p, streams(batch['key'], name)) for name in ('first', 'second')]
            projected = self.net.apply({'params': params}, jnp.concatenate(views))[1]
            value = jnp.mean(nt_xent(*jnp.split(projected, 2), c.temperature))
            return value, (stats, {'loss': value})

        net = state.nets['encoder']
        net, metrics = step_averaged(net, self.tx, loss, batch, problem=problem, section=c, step=state.step)
        return state.replace(step=state.step + 1, nets={'encoder': net}), weighted(metrics)

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Features [B, D] of `image` uint8 [B, H, W, 3], from the averaged weights, before the projection (section
        4.2)."""
        return self.net.apply({'params': state.nets['encoder'].ema}, to_float(batch['image']))[0]


def make(sections: Sections, problem: Problem) -> SimCLR:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, m = sections.method, sections.model
    if m.dropout:
        raise UserError('model.dropout', 'only a classifier has dropout', 'set it to 0')
    least = problem.accumulate * problem.devices
    if problem.batch_size < 2 * least:
        raise UserError('train.batch_size', f'two pictures a part are needed, {2 * least} in all')
    net = nets.Projector(m.body(problem.resolution), c.projection)
    p = parse_annealed(c.augment.p, 'method.augment.p', problem.steps, 1.0)
    tx = make_optimizer(sections.optim['encoder'], problem.steps)
    return SimCLR(c, problem, net, make_augment(c.augment), p, tx)


FAMILY = Family(method=SimCLRConfig, model=ResNetModel, networks=('encoder',), make=make)
