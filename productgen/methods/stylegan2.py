"""StyleGAN2 with adaptive discriminator augmentation.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; Karras et al., "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020.

It adds to other GANs (`methods.gan`) style mixing, path-length regularisation, a running mean of w, and generation from
an intermediate latent. As published, an iteration takes a generator step, every `path_interval` iterations a
path-length step, a discriminator step, and every `penalty_interval` an R1 step, each on its own samples and with its
own optimiser step. Deviations:

- Row by row, fake images have the labels of the real ones; their distribution is the same.
- So that a batch in parts gives the same result as in one part, the path-length mean is the one from before the batch,
  and whether styles are mixed, and from which layer on, is drawn for each sample (there once for the batch).
- The mean of w moves once per iteration (there at every mapping pass of training).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from productgen.config import UserError
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import Net, PyTree, State
from productgen.core.step import step_net
from productgen.losses.penalties import path_lengths
from productgen.methods.base import Batch, Family, Knobs, Metrics, Problem, Sections, scaled, weighted
from productgen.methods.gan import Gan, GanConfig, assemble
from productgen.methods.models import PAIRS
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Phase
from productgen.nets import stylegan2 as nets


@dataclasses.dataclass(frozen=True)
class StyleGAN2Config(GanConfig):
    """The `method` section: that of every GAN (`GanConfig`) and these.

    Attributes:
      name: `stylegan2`.
      path_weight: weight of the path-length penalty (2 in the paper); 0 switches it off.
      path_interval: iterations between path-length steps.
      path_shrink: a path-length step uses every so-many-th sample (2 in the paper).
      path_decay: decay of the running mean of path lengths (0.99).
      mixing: fraction of fake images whose styles come from two latents (0.9 in the paper).
      w_decay: decay of the running mean of w (0.995), the centre of truncation.
    """

    name: str = 'stylegan2'
    path_weight: float = 0.0
    path_interval: int = 4
    path_shrink: int = 2
    path_decay: float = 0.99
    mixing: float = 0.0
    w_decay: float = 0.995

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'path_weight')
        for field in ('path_interval', 'path_shrink') if self.path_weight else ():
            if getattr(self, field) < 1:
                raise UserError(f'method.{field}', 'must be at least 1')
        for field in ('mixing', 'path_decay', 'w_decay'):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is not a fraction, 0 to 1')


@dataclasses.dataclass(frozen=True)
class StyleGAN2(Gan):
    """See the module; built by `make`."""

    @property
    def num_latents(self) -> int:
        """Layers that take a latent, L."""
        return self.generator.widths.num_latents

    # Forward passes.

    def _map(self, params: PyTree, z: jax.Array, label: jax.Array, label_weight: jax.Array | float = 1.0) -> jax.Array:
        """w [B, W] of z [B, Z] and label int32 [B, A]."""
        return self.generator.apply({'params': params}, z, self.one_hot(label), label_weight, method='map')

    def _synthesize(self, params: PyTree, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] of latents [B, L, W] with the noise of `keys` [B]."""
        return self.generator.apply({'params': params}, ws, keys, method='synthesize')

    def _fake(
        self, params: PyTree, batch: Batch, label_weight: jax.Array | float
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images [B, H, W, 3], their latents [B, L, W], and the unmixed w [B, W]; `batch` has `key` and `label`."""
        keys, label = batch['key'], batch['label']
        w = self._map(params, self.draw(keys), label, label_weight)
        ws = jnp.repeat(w[:, None], self.num_latents, 1)
        if self.config.mixing:
            other = self._map(params, self.draw(streams(keys, 'other')), label, label_weight)
            ws = jnp.where(self._crossover(keys)[:, :, None], other[:, None], ws)
        return self._synthesize(params, ws, keys), ws, w

    def _crossover(self, keys: jax.Array) -> jax.Array:
        """Layers that take the second latent, bool [B, L]: in a fraction of the samples, those from a random one on."""

        def one(key):
            layer = jax.random.randint(stream(key, 'layer'), (), 1, self.num_latents)
            mixed = jax.random.bernoulli(stream(key, 'mixed'), self.config.mixing)
            return jnp.where(mixed, layer, self.num_latents)

        return jnp.arange(self.num_latents) >= jax.vmap(one)(keys)[:, None]

    # What differs from other GANs.

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        state = super().init(rng, batch, frozen)
        g = state.nets['generator']
        w = self._map(g.params, jnp.zeros((1, self.z_dim)), batch['label'][:1])
        g = g.replace(stats={'w_mean': jnp.zeros(w.shape[1:])})
        extra = {'path_mean': jnp.zeros(())} if self.config.path_weight else {}
        return state.replace(nets=state.nets | {'generator': g}, extra=state.extra | extra)

    def forward(
        self, params: PyTree, stats: PyTree, batch: Batch, label_weight: jax.Array | float
    ) -> tuple[jax.Array, PyTree, dict[str, jax.Array]]:
        """The generator in training, some of the images mixed; the mean of w is for `track`."""
        image, _, w = self._fake(params, batch, label_weight)
        return image, stats, {'w_mean': jnp.mean(w, 0)}

    def track(self, stats: PyTree, means: Mapping[str, jax.Array]) -> PyTree:
        """The running mean of w."""
        decay = self.config.w_decay
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, stats, dict(means))

    def regularise(
        self, g: Net, batch: Batch, extra: dict[str, PyTree], phase: Phase
    ) -> tuple[Net, dict[str, PyTree], Metrics]:
        """The path-length step where it is due."""
        if not self.config.path_weight:
            return g, extra, {}
        due = phase.step % self.config.path_interval == 0
        step = lambda: self._path_step(g, batch, extra['path_mean'], phase.label_weight)
        g, mean, value = jax.lax.cond(due, step, lambda: (g, extra['path_mean'], jnp.zeros(())))
        return g, extra | {'path_mean': mean}, weighted({'loss/path': value}, due) | weighted({'path_mean': mean})

    def _path_step(
        self, g: Net, batch: Batch, mean: jax.Array, label_weight: jax.Array | float = 1.0
    ) -> tuple[Net, jax.Array, jax.Array]:
        """A generator step on the path-length penalty (StyleGAN2, equation 4); returns the new mean and the penalty."""
        c, problem = self.config, self.problem

        def loss(params, stats, batch):
            keys = batch['key']
            _, ws, _ = self._fake(params, batch, label_weight)
            noise = normal(streams(keys, 'path'), (*problem.resolution, 3))
            lengths = path_lengths(lambda ws: self._synthesize(params, ws, keys), ws, noise)
            value = jnp.mean(jnp.square(lengths - mean))
            return c.path_weight * c.path_interval * value, (stats, {'loss': value, 'length': jnp.mean(lengths)})

        batch = jax.tree.map(lambda x: x[:: c.path_shrink], {k: batch[k] for k in ('key', 'label')})
        g, metrics = step_net(g, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        return g, c.path_decay * mean + (1 - c.path_decay) * metrics['length'], metrics['loss']

    # From the averaged weights.

    def latents(self, state: State, z: jax.Array, label: jax.Array, truncation: jax.Array | float) -> jax.Array:
        """Latents [B, L, W] of z [B, Z], moved towards the mean w as psi, [B] or a number, falls from 1 to 0."""
        g = state.nets['generator']
        w, mean = self._map(g.ema, z, label, self.label_weight(state.step)), g.stats['w_mean']
        w = mean + scaled(w - mean, truncation)
        return jnp.repeat(w[:, None], self.num_latents, 1)

    def synthesize(self, state: State, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of latents [B, L, W] with the noise of `keys` [B]."""
        return jnp.clip(self._synthesize(state.nets['generator'].ema, ws, keys), -1, 1)

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A]; `truncation` is psi."""
        keys = sample_keys(rng, batch['seed'])
        ws = self.latents(state, self.draw(keys), batch['label'], knobs.get('truncation', 1.0))
        return self.synthesize(state, ws, keys)


def make(sections: Sections, problem: Problem) -> StyleGAN2:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c: StyleGAN2Config = sections.method
    method = assemble(StyleGAN2, sections, problem, c.path_interval if c.path_weight else None)
    if not isinstance(method.generator, nets.Generator):
        raise UserError('model.name', f'{sections.model.name!r} has no styles', "use 'stylegan2', or method.name=gan")
    part = method.size // (problem.accumulate * (problem.devices if problem.accumulate > 1 else 1))
    if c.path_weight and part % c.path_shrink:
        raise UserError('method.path_shrink', f'{c.path_shrink} does not divide the {part} images of a forward pass')
    return method


FAMILY = Family(method=StyleGAN2Config, model=PAIRS, networks=('generator', 'discriminator'), make=make)
