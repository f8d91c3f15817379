"""Features of pictures learnt without labels: two augmented views of a picture are to be alike, others not.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020 (SimCLR). Three things
differ: the network has group normalisation and is averaged, the optimiser is whatever the config says, and the views
are made by this project's augmentations, of which zoom and shift stand for the paper's crops. With `train.accumulate`
each part contrasts its own pictures only.
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
from productgen.losses.classification import nt_xent
from productgen.methods.base import Batch, Problem
from productgen.methods.classifier import check_common
from productgen.methods.models.resnet import ResNetModel
from productgen.nets import resnet as nets


@dataclasses.dataclass(frozen=True)
class SimCLRConfig:
    """The `method` section.

    Attributes:
      name: `simclr`.
      temperature: tau; 0.5 in the paper for small pictures, 0.1 for ImageNet.
      projection: width of the projection that is contrasted, 128 in the paper.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this share of the images seen; 0 for no limit.
      augment: how the views are made.
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
        check_common(self)
        if self.augment.name == 'none':
            raise UserError('method.augment.name', 'without augmentation both views of a picture are the same')


@dataclasses.dataclass(frozen=True)
class SimCLR:
    """See the module; built by `make`."""

    config: SimCLRConfig
    problem: Problem
    net: nets.Projector
    augment: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    augment_p: Annealed
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.net.init(stream(rng, 'encoder'), to_float(batch['image'][:1]))['params']
        return State(jnp.zeros((), jnp.int32), {'encoder': create_net(params, self.tx, ema=True)}, {}, {})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration (algorithm 1 of the paper)."""
        c, problem = self.config, self.problem
        p = self.augment_p(state.step)
        batch = {'image': to_float(batch['image']), 'key': sample_keys(rng, jnp.arange(problem.batch_size))}

        def loss(params, stats, batch):
            views = [self.augment(batch['image'], p, streams(batch['key'], name)) for name in ('first', 'second')]
            projected = self.net.apply({'params': params}, jnp.concatenate(views))[1]
            value = jnp.mean(nt_xent(*jnp.split(projected, 2), c.temperature))
            return value, (stats, {'loss': value})

        net = state.nets['encoder']
        net, metrics = step_net(net, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        net = average(net, ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup))
        return State(state.step + 1, {'encoder': net}, state.extra, state.frozen), metrics

    def represent(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Features [B, D] of `image` [B, H, W, 3], uint8, before the projection (section 4.2)."""
        return self.net.apply({'params': state.nets['encoder'].ema}, to_float(batch['image']))[0]


def make(config: Mapping[str, Any], problem: Problem) -> SimCLR:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(SimCLRConfig, config['method'], 'method')
    m = build(ResNetModel, config['model'], 'model')
    if m.dropout:
        raise UserError('model.dropout', 'it is for classifiers', 'set it to 0')
    least = problem.accumulate * problem.devices
    if problem.batch_size < 2 * least:
        raise UserError('train.batch_size', f'two pictures a part are needed, {2 * least} in all')
    net = nets.Projector(m.body(problem.resolution), c.projection)
    optim = build(OptimConfig, choose(config['optim'], 'encoder', 'optim'), 'optim.encoder')
    p = parse_annealed(c.augment.p, 'method.augment.p', problem.steps, 1.0)
    return SimCLR(c, problem, net, make_augment(c.augment), p, make_optimizer(optim, problem.steps))
