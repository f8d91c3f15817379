"""CycleGAN: translation between two sets of pictures, in both directions, learned without pairs.

Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV 2017. Two generators
and two discriminators play least-squares games (section 4); a picture that is translated and translated back is to be
itself again (equation 2), and a picture of the wanted kind is to stay as it is (section 5.2). The discriminators are
shown pictures from pools of earlier translations.

An iteration takes a step of both generators, then one of each discriminator with the translations of before that step,
as in the authors' code. What is added to it: averaged weights.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.sharding import divide, join_rows, replicate, split_rows
from productgen.core.state import PyTree, State, create_net
from productgen.core.step import apply_gradients, gradients
from productgen.losses.pixel import l1
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, Shapes, weighted
from productgen.methods.models.translation import TranslationModel
from productgen.methods.parts import pool
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Context, Critic, Phase, Pictures, make_critic
from productgen.methods.parts.translator import (
    Translator,
    TranslatorConfig,
    average_translator,
    check_sizes,
    jittered,
)

REVERSE = Knob('reverse', 0, 0, 1, static=True)
# By side: the generator of its pictures from the other side, and the judge of them.
GENERATORS = {'target': 'forward', 'input': 'backward'}
CRITICS = {'target': 'discriminator_target', 'input': 'discriminator_input'}
OTHER = {'target': 'input', 'input': 'target'}


@dataclasses.dataclass(frozen=True)
class CycleGANConfig(TranslatorConfig):
    """The `method` section: see `TranslatorConfig`, and these.

    Attributes:
      name: `cyclegan`.
      cycle: weight of the L1 distance between a picture and its translation back (10 in the paper).
      identity: weight, relative to `cycle`, of the L1 distance between a picture of the wanted kind and its translation
        (0.5 in the paper where colours are to be kept, otherwise 0); it needs inputs and targets of as many channels.
      pool: pictures that each pool holds (50); 0 for none.
    """

    name: str = 'cyclegan'
    loss: str = 'least_squares'
    adversarial: float = 2.0
    cycle: float = 10.0
    identity: float = 0.5
    pool: int = 50

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'cycle', 'identity', 'pool')


@dataclasses.dataclass(frozen=True)
class CycleGAN(Method):
    """See the module; built by `make`.

    `State.extra` has, by side, the pool of its translations and what its critic adapts.

    Attributes:
      config: the `method` section.
      problem: what it is built for.
      generators: by the side that they make: `target` and `input`.
      critics: by the side that they judge.
      txs: the generators' optimisers by side.
    """

    config: CycleGANConfig
    problem: Problem
    generators: dict[str, Translator]
    critics: dict[str, Critic]
    txs: dict[str, optax.GradientTransformation]

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`reverse`, and `noise` where the generators have dropout."""
        return REVERSE, *self.generators['target'].knobs

    def inputs(self) -> Shapes:
        """See `Method.inputs`."""
        return {name: self.problem.shape(name) for name in ('input', 'target')}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        nets, extra = {}, {}
        for side, other in OTHER.items():
            ours, theirs = (to_float(batch[name][:2]) for name in (side, other))
            critic = self.critics[side]
            g = self.generators[side].init(stream(rng, GENERATORS[side]), theirs)
            d = critic.network.init(stream(rng, CRITICS[side]), ours, train=True)
            nets[GENERATORS[side]] = create_net(g['params'], self.txs[side], g.get('stats'), ema=True)
            nets[CRITICS[side]] = create_net(d['params'], critic.tx, d.get('stats'))
            extra[side] = critic.initial()
            if self.config.pool:
                extra[side] |= {'pool': pool.empty(self.config.pool, ours.shape[1:])}
        return State(step=jnp.zeros((), jnp.int32), nets=nets, extra=extra, frozen=frozen)

    # One iteration.

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        problem, nets = self.problem, dict(state.nets)
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        rows = {'key': keys}
        for side in OTHER:  # the two sides are no pairs
            own = streams(keys, f'jitter_{side}')
            (rows[side],) = jittered([to_float(batch[side])], own, self.config.enlarge, self.config.mirror)
        phases = {side: self.critics[side].phase(state.replace(extra=state.extra[side])) for side in OTHER}
        made = self._translations(state, rows)
        metrics = self._generators_step(state, nets, rows, phases)
        extra, penalties = {}, {}
        for side, critic in self.critics.items():
            own, name = dict(state.extra[side]), CRITICS[side]
            shown = {'real': rows[side], 'fake': made[side], 'key': streams(keys, name)}
            if 'pool' in own:
                offered = replicate((made[side], streams(keys, f'pool_{side}')))
                own['pool'], fake = pool.exchange(own['pool'], *offered)
                shown['fake'] = divide(fake)
            show = lambda rows: Pictures(rows['real'], rows['fake'], Context(rows['key']))
            nets[name], found = critic.step(nets[name], shown, show, phases[side], problem)
            nets[name], penalty = critic.lazy_penalty(nets[name], shown, show, phases[side], problem)
            sign = found.get('sign/real')
            extra[side] = own | critic.adapted(own, sign, state.step, problem.batch_size)
            metrics |= {
                f'loss/{name}': found.pop('loss'),
                f'grad_norm/{name}': found.pop('grad_norm'),
                **{f'{what}/{side}': value for what, value in (found | critic.logged(phases[side])).items()},
            }
            penalties |= {f'{what}/{side}': value for what, value in penalty.items()}
        return state.replace(step=state.step + 1, nets=nets, extra=extra), weighted(metrics) | penalties

    def _train(self, side: str, params: PyTree, stats: PyTree, rows: Batch, image: jax.Array, use: str):
        """The translation of images to a side in training, and the new statistics; `use` names its random numbers."""
        keys = streams(rows['key'], f'{GENERATORS[side]}_{use}')
        return self.generators[side].train(params, stats, image, keys)

    def _translations(self, state: State, rows: Batch) -> dict[str, jax.Array]:
        """The batch's translations by the weights before the update, by side."""

        def part(rows):
            nets = {side: state.nets[GENERATORS[side]] for side in OTHER}
            return {
                side: self._train(side, nets[side].params, nets[side].stats, rows, rows[other], 'translate')[0]
                for side, other in OTHER.items()
            }

        problem = self.problem
        if problem.accumulate == 1:
            return part(rows)
        return join_rows(jax.lax.map(part, split_rows(rows, problem.accumulate, problem.devices)), problem.devices)

    def _generators_step(self, state: State, nets: dict, rows: Batch, phases: dict[str, Phase]) -> dict[str, jax.Array]:
        """A step of both generators on their common loss, and of their averages; returns metrics."""
        c, problem, before = self.config, self.problem, state.nets
        same = rows['input'].shape == rows['target'].shape and c.identity > 0

        def loss(params, stats, rows):
            run = lambda side, image, use: self._train(side, params[side], stats[side], rows, image, use)[0]
            total, found = jnp.zeros(()), {}
            for side, other in OTHER.items():
                made = run(side, rows[other], 'translate')
                back = run(other, made, 'back')
                context = Context(streams(rows['key'], f'judge_{side}'))
                judged, value = self.critics[side].generator_loss(
                    before[CRITICS[side]], Pictures(rows[side], made, context), phases[side]
                )
                cycle = jnp.mean(l1(back, rows[other]))
                total += c.adversarial * judged + c.cycle * cycle
                found |= {f'loss/{GENERATORS[side]}': value, f'loss/cycle_{other}': cycle}
                if same:
                    kept = jnp.mean(l1(run(side, rows[side], 'keep'), rows[side]))
                    total += c.cycle * c.identity * kept
                    found[f'loss/identity_{side}'] = kept
            return total, (stats, found)

        params, stats = (
            {side: getattr(before[GENERATORS[side]], kind) for side in OTHER} for kind in ('params', 'stats')
        )
        grads, _, metrics = gradients(loss, params, stats, rows, problem.accumulate, problem.devices)
        for side, other in OTHER.items():
            name = GENERATORS[side]
            net = apply_gradients(before[name], self.txs[side], grads[side])
            batch = {'image': rows[other], 'key': rows['key']}
            nets[name] = average_translator(net, self.generators[side], batch, c, problem, state)
            metrics[f'grad_norm/{name}'] = optax.tree.norm(grads[side])
        return metrics

    # From the averaged weights.

    def translate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """See `Translates`; with `reverse`, `input` holds pictures of the kind of the targets."""
        side = 'input' if knobs.get('reverse', 0) else 'target'
        return self.generators[side].translate(state.nets[GENERATORS[side]], batch, rng, knobs)


def make(sections: Sections, problem: Problem) -> CycleGAN:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, model = sections.method, sections.model
    check_sizes(problem)
    network = model.discriminator(problem)
    couples = model.norm == 'batch'
    optim = sections.optim
    return CycleGAN(
        config=c,
        problem=problem,
        generators={side: model.translator(problem, problem.shape(side).shape[-1]) for side in OTHER},
        critics={
            side: make_critic(c, network, optim[CRITICS[side]], problem, couples_images=couples) for side in OTHER
        },
        txs={side: make_optimizer(optim[GENERATORS[side]], problem.steps) for side in OTHER},
    )


FAMILY = Family(
    method=CycleGANConfig,
    model=TranslationModel,
    networks=(*GENERATORS.values(), *CRITICS.values()),
    make=make,
)
