"""pix2pix: a conditional GAN that translates pictures, learned from pairs.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017. The generator minimises its
adversarial loss plus lambda times the L1 distance to the target (equation 4); the discriminator judges patches of input
and picture together (PatchGAN). Dropout, active in translation too, makes translations random.

An iteration takes a discriminator step, whose loss is halved, then a generator step against the new discriminator, as
in the authors' code. What is added to it: averaged weights.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.sharding import replicate
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import step_net
from productgen.losses.pixel import l1
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, Shapes, weighted
from productgen.methods.models.translation import Pix2PixModel
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Context, Critic, Phase, Pictures, make_critic
from productgen.methods.parts.translator import (
    Translator,
    TranslatorConfig,
    average_translator,
    check_sizes,
    halved,
    jittered,
)


@dataclasses.dataclass(frozen=True)
class Pix2PixConfig(TranslatorConfig):
    """The `method` section: see `TranslatorConfig`, and these.

    Attributes:
      name: `pix2pix`.
      l1: lambda, weight of the L1 distance to the target (100 in the paper).
    """

    name: str = 'pix2pix'
    l1: float = 100.0

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'l1')


@dataclasses.dataclass(frozen=True)
class Pix2Pix(Method):
    """See the module; built by `make`.

    Attributes:
      config: the `method` section.
      problem: what it is built for.
      generator: from input to target.
      critic: judges targets given their inputs.
      tx: the generator's optimiser.
    """

    config: Pix2PixConfig
    problem: Problem
    generator: Translator
    critic: Critic
    tx: optax.GradientTransformation

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`noise`, the strength of dropout, where the generator has some."""
        return self.generator.knobs

    def inputs(self) -> Shapes:
        """See `Method.inputs`."""
        return {name: self.problem.shape(name) for name in ('input', 'target')}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        given, target = (to_float(batch[name][:2]) for name in ('input', 'target'))
        g = self.generator.init(stream(rng, 'generator'), given)
        d = self.critic.network.init(stream(rng, 'discriminator'), target, given, train=True)
        nets = {
            'generator': create_net(g['params'], self.tx, g.get('stats'), ema=True),
            'discriminator': create_net(d['params'], self.critic.tx, d.get('stats')),
        }
        return State(step=jnp.zeros((), jnp.int32), nets=nets, extra=self.critic.initial(), frozen=frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem, critic = self.config, self.problem, self.critic
        g, d = state.nets['generator'], state.nets['discriminator']
        phase = critic.phase(state)
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        pair = to_float(batch['input']), to_float(batch['target'])
        given, target = jittered(pair, streams(keys, 'jitter'), c.enlarge, c.mirror)
        rows = {'input': given, 'target': target, 'key': keys}

        def show(batch):
            made, _ = self.generator.train(g.params, g.stats, batch['input'], streams(batch['key'], 'dropout'))
            return Pictures(batch['target'], made, Context(streams(batch['key'], 'discriminator'), batch['input']))

        d, extra, d_metrics = critic.turn(d, rows, show, phase, problem, state)
        g, g_metrics = self._generator_step(g, d.replace(params=replicate(d.params)), rows, phase)
        g = average_translator(g, self.generator, {'image': given, 'key': keys}, c, problem, state)
        metrics = {
            'loss/generator': g_metrics['loss'],
            'loss/l1': g_metrics['l1'],
            'grad_norm/generator': g_metrics['grad_norm'],
        }
        state = state.replace(step=state.step + 1, nets={'generator': g, 'discriminator': d}, extra=extra)
        return state, weighted(metrics) | d_metrics

    def _generator_step(self, g: Net, d: Net, batch: Batch, phase: Phase) -> tuple[Net, dict[str, jax.Array]]:
        def loss(params, stats, batch):
            # The same dropout as in the discriminator's step, so that XLA computes the translations once.
            made, stats = self.generator.train(params, stats, batch['input'], streams(batch['key'], 'dropout'))
            context = Context(streams(batch['key'], 'generator'), batch['input'])
            total, value = self.critic.generator_loss(d, Pictures(batch['target'], made, context), phase)
            distance = jnp.mean(l1(made, batch['target']))
            total = self.config.adversarial * total + self.config.l1 * distance
            return total, (stats, {'loss': value, 'l1': distance})

        problem = self.problem
        new, metrics = step_net(g, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        # Training uses the batch's own statistics; the running ones belong to the averaged weights.
        return new.replace(stats=g.stats), metrics

    # From the averaged weights.

    def translate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """See `Translates`; `noise` scales the effect of dropout."""
        return self.generator.translate(state.nets['generator'], batch, rng, knobs)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """L1 distance to the targets, in [0, 2], without dropout: see `Evaluable`."""
        made = self.generator.translate(state.nets['generator'], batch, rng, {'noise': 0.0})
        return {'loss': l1(made, to_float(batch['target']))}


def make(sections: Sections, problem: Problem) -> Pix2Pix:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, model = sections.method, sections.model
    check_sizes(problem)
    critic = make_critic(
        c,
        model.discriminator(problem),
        sections.optim['discriminator'],
        problem,
        couples_images=model.norm == 'batch',
    )
    if c.loss != 'least_squares':  # which has the factor
        critic = dataclasses.replace(critic, loss=halved(critic.loss))
    return Pix2Pix(
        config=c,
        problem=problem,
        generator=model.translator(problem, problem.shape('target').shape[-1]),
        critic=critic,
        tx=make_optimizer(sections.optim['generator'], problem.steps),
    )


FAMILY = Family(method=Pix2PixConfig, model=Pix2PixModel, networks=('generator', 'discriminator'), make=make)
