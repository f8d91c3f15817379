"""CUT and FastCUT: translation between two sets of pictures, in one direction, learned without pairs.

Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, arXiv 2007.15651. A generator
plays a least-squares game with a discriminator (equation 1), and each patch of its output has to be told from the other
patches of the input by its features, which the first half of the generator and small perceptrons compute (PatchNCE,
equations 3 and 4); the same holds for pictures of the wanted kind, which are to stay as they are (equation 5).

An iteration takes a discriminator step, then a step of generator and perceptrons, as in the authors' code. What is
added to it: averaged weights. What differs: the places of the patches are drawn for each picture, not for each batch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.sharding import replicate
from productgen.core.state import Net, PyTree, State, create_net
from productgen.core.step import apply_gradients, gradients
from productgen.losses.contrastive import patch_nce
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, Shapes, weighted
from productgen.methods.models.translation import CUTModel
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Context, Critic, Phase, Pictures, make_critic
from productgen.methods.parts.translator import (
    Translator,
    TranslatorConfig,
    average_translator,
    check_sizes,
    jittered,
)
from productgen.nets.cyclegan import Projector


@dataclasses.dataclass(frozen=True)
class CUTConfig(TranslatorConfig):
    """The `method` section: see `TranslatorConfig`, and these.

    Attributes:
      name: `cut`.
      nce: weight of PatchNCE: 1 (CUT), 10 (FastCUT).
      keep: PatchNCE also of targets, which are to stay as they are, both with half of the weight (CUT, not FastCUT); it
        needs inputs and targets of as many channels.
      flip: mirror half of the generator's inputs and compare mirrored features (FastCUT).
      patches: patches of each map (256).
      temperature: tau (0.07).
    """

    name: str = 'cut'
    loss: str = 'least_squares'
    adversarial: float = 2.0
    nce: float = 1.0
    keep: bool = True
    flip: bool = False
    patches: int = 256
    temperature: float = 0.07

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'nce')
        if self.patches < 2:
            raise UserError('method.patches', f'{self.patches} leaves nothing to tell a patch from', '256 is usual')
        if self.temperature <= 0:
            raise UserError('method.temperature', f'{self.temperature} is not above 0', '0.07 is usual')


def take(image: jax.Array, keys: jax.Array, count: int) -> jax.Array:
    """Features [B, S, C] at S different places of maps [B, H, W, C], of all where there are no more than `count`.

    The places are drawn from the samples' own keys [B]: maps of one size have the same ones.
    """
    x = image.reshape(len(image), -1, image.shape[-1])
    places = x.shape[1]
    if places <= count:
        return x
    chosen = jax.vmap(lambda key: jax.random.permutation(key, places)[:count])(keys)
    return jnp.take_along_axis(x, chosen[:, :, None], 1)


def _mirrored(image: jax.Array, turn: jax.Array) -> jax.Array:
    """Images [B, H, W, C], those mirrored where `turn`, bool [B], says so."""
    return jnp.where(turn[:, None, None, None], image[:, :, ::-1], image)


@dataclasses.dataclass(frozen=True)
class CUT(Method):
    """See the module; built by `make`.

    Attributes:
      config: the `method` section.
      problem: what it is built for.
      generator: from input to target.
      projector: features of patches as unit vectors.
      critic: judges targets.
      txs: optimisers of generator and projector.
    """

    config: CUTConfig
    problem: Problem
    generator: Translator
    projector: Projector
    critic: Critic
    txs: dict[str, optax.GradientTransformation]

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`noise` where the generator has dropout."""
        return self.generator.knobs

    def inputs(self) -> Shapes:
        """See `Method.inputs`."""
        return {name: self.problem.shape(name) for name in ('input', 'target')}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        given, target = (to_float(batch[name][:2]) for name in ('input', 'target'))
        g = self.generator.init(stream(rng, 'generator'), given)
        maps = self._maps(g['params'], g.get('stats', {}), given)
        p = self.projector.init(stream(rng, 'projector'), [x.reshape(len(x), -1, x.shape[-1]) for x in maps])
        d = self.critic.network.init(stream(rng, 'discriminator'), target, train=True)
        nets = {
            'generator': create_net(g['params'], self.txs['generator'], g.get('stats'), ema=True),
            'projector': create_net(p['params'], self.txs['projector']),
            'discriminator': create_net(d['params'], self.critic.tx, d.get('stats')),
        }
        return State(step=jnp.zeros((), jnp.int32), nets=nets, extra=self.critic.initial(), frozen=frozen)

    # One iteration.

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem, critic = self.config, self.problem, self.critic
        nets, phase = dict(state.nets), critic.phase(state)
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        rows = {'key': keys}
        for side in ('input', 'target'):  # no pairs
            own = streams(keys, f'jitter_{side}')
            (rows[side],) = jittered([to_float(batch[side])], own, c.enlarge, c.mirror)
        g, d = nets['generator'], nets['discriminator']

        def show(rows):
            made, _ = self._translated(g.params, g.stats, rows, 'input')
            return Pictures(rows['target'], made, Context(streams(rows['key'], 'discriminator')))

        nets['discriminator'], extra, d_metrics = critic.turn(d, rows, show, phase, problem, state)
        fixed = nets['discriminator'].replace(params=replicate(nets['discriminator'].params))
        metrics = self._generator_step(state, nets, fixed, rows, phase)
        return state.replace(step=state.step + 1, nets=nets, extra=extra), weighted(metrics) | d_metrics

    def _turn(self, rows: Batch) -> jax.Array:
        """Which rows are translated mirrored, bool [B]."""
        return jax.vmap(jax.random.bernoulli)(streams(rows['key'], 'flip'))

    def _translated(self, params: PyTree, stats: PyTree, rows: Batch, side: str) -> tuple[jax.Array, PyTree]:
        """The translation of a side of the batch in training, mirrored where `flip` says so, and the new statistics."""
        image = _mirrored(rows[side], self._turn(rows)) if self.config.flip else rows[side]
        return self.generator.train(params, stats, image, streams(rows['key'], f'dropout_{side}'))

    def _maps(self, params: PyTree, stats: PyTree, image: jax.Array) -> list[jax.Array]:
        """The maps of images [B, H, W, C] in the first half of the generator."""
        network, variables = self.generator.network, {'params': params, 'stats': stats}
        maps, _ = network.apply(variables, self.generator.padded(image), train=True, taps=True, mutable=['stats'])
        return maps

    def _nce(
        self, params: PyTree, stats: PyTree, rows: Batch, source: jax.Array, made: jax.Array, name: str
    ) -> jax.Array:
        """Mean PatchNCE of translations of `source`, over maps and images (equation 4)."""
        c = self.config
        queries, keys = (self._maps(params['generator'], stats, image) for image in (made, source))
        if c.flip:
            queries = [_mirrored(x, self._turn(rows)) for x in queries]
        places = [streams(rows['key'], f'{name}{i}') for i in range(len(keys))]
        chosen = lambda maps: [take(x, where, c.patches) for x, where in zip(maps, places, strict=True)]
        vectors = lambda maps: self.projector.apply({'params': params['projector']}, chosen(maps))
        pairs = zip(vectors(queries), vectors(keys), strict=True)
        return jnp.mean(jnp.stack([jnp.mean(patch_nce(q, k, c.temperature)) for q, k in pairs]))

    def _generator_step(self, state: State, nets: dict, d: Net, rows: Batch, phase: Phase) -> dict[str, jax.Array]:
        """A step of generator and projector on their common loss, and of the average; returns metrics."""
        c, problem, stats = self.config, self.problem, state.nets['generator'].stats

        def loss(params, stats, rows):
            # The same random numbers as in the discriminator's step, so that XLA computes the translations once.
            made, _ = self._translated(params['generator'], stats, rows, 'input')
            context = Context(streams(rows['key'], 'generator'))
            judged, value = self.critic.generator_loss(d, Pictures(rows['target'], made, context), phase)
            nce = self._nce(params, stats, rows, rows['input'], made, 'nce')
            found = {'loss/generator': value, 'loss/nce': nce}
            if c.keep:
                kept, _ = self._translated(params['generator'], stats, rows, 'target')
                found['loss/nce_target'] = self._nce(params, stats, rows, rows['target'], kept, 'nce_target')
                nce = 0.5 * (nce + found['loss/nce_target'])
            return c.adversarial * judged + c.nce * nce, (stats, found)

        names = ('generator', 'projector')
        params = {name: nets[name].params for name in names}
        grads, _, metrics = gradients(loss, params, stats, rows, problem.accumulate, problem.devices)
        for name in names:
            nets[name] = apply_gradients(nets[name], self.txs[name], grads[name])
            metrics[f'grad_norm/{name}'] = optax.tree.norm(grads[name])
        batch = {'image': rows['input'], 'key': rows['key']}
        nets['generator'] = average_translator(nets['generator'], self.generator, batch, c, problem, state)
        return metrics

    # From the averaged weights.

    def translate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """See `Translates`."""
        return self.generator.translate(state.nets['generator'], batch, rng, knobs)


def make(sections: Sections, problem: Problem) -> CUT:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, model = sections.method, sections.model
    check_sizes(problem)
    channels = {side: problem.shape(side).shape[-1] for side in ('input', 'target')}
    if channels['input'] != channels['target']:
        raise UserError(
            'data.input',
            f'inputs of {channels["input"]} and targets of {channels["target"]} channels: CUT compares the features of '
            'both by one network',
            'choose columns of as many channels, or another method, such as cyclegan',
        )
    generator = model.translator(problem, channels['target'])
    if c.flip and any(side % generator.unit or side < generator.least for side in problem.resolution):
        # Its maps would be padded at one end only, and mirrored ones could not be compared.
        reason = f'it needs pictures whose sides are multiples of {generator.unit}, at least {generator.least}'
        raise UserError('method.flip', reason, 'choose such a data.resolution, or set it to False')
    return CUT(
        config=c,
        problem=problem,
        generator=generator,
        projector=Projector(model.features, model.kernel_init),
        critic=make_critic(
            c,
            model.discriminator(problem),
            sections.optim['discriminator'],
            problem,
            couples_images=model.norm == 'batch',
        ),
        txs={name: make_optimizer(sections.optim[name], problem.steps) for name in ('generator', 'projector')},
    )


FAMILY = Family(method=CUTConfig, model=CUTModel, networks=('generator', 'projector', 'discriminator'), make=make)
