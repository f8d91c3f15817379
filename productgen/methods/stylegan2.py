"""StyleGAN2 with adaptive discriminator augmentation.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020; Karras et al., "Training Generative
Adversarial Networks with Limited Data", NeurIPS 2020.

What it has beyond other GANs (`methods.gan`): style mixing, path-length regularisation, a running mean of w, and
pictures made from an intermediate latent. As published, an iteration takes a generator step, every `path_interval`
iterations a path-length step, a discriminator step, every `penalty_interval` an R1 step, each on samples of its own and
with an optimiser step of its own. Four things differ: fake images take the labels of the real ones beside them (the
same distribution); so that a batch in parts gives what the whole gives, the path-length mean is the one from before the
batch, and whether and from which layer on styles are mixed is drawn for each sample (there once for the batch); and the
mean of w moves once an iteration (there at every mapping pass of training).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from productgen.config import UserError, build
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.state import Net, PyTree, State
from productgen.losses.penalties import path_lengths
from productgen.methods.base import Batch, Problem
from productgen.methods.gan import Gan, assemble
from productgen.methods.gan_config import GanConfig
from productgen.nets import stylegan2 as nets


@dataclasses.dataclass(frozen=True)
class StyleGAN2Config(GanConfig):
    """The `method` section: that of every GAN and these.

    Attributes:
      path_weight: weight of the path-length penalty (2 in the paper); 0 switches it off.
      path_interval: iterations between path-length steps.
      path_shrink: a path-length step uses one sample in so many (2 in the paper).
      path_decay: share of the old value in the running mean of path lengths (0.99).
      mixing: share of fake images mixed from two latents (0.9 in the paper).
      w_decay: share of the old value in the running mean of w (0.995), the centre of truncation.
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
        if self.path_weight < 0:
            raise UserError('method.path_weight', 'must not be negative')
        for field in ('path_interval', 'path_shrink') if self.path_weight else ():
            if getattr(self, field) < 1:
                raise UserError(f'method.{field}', 'must be at least 1')
        for field in ('mixing', 'path_decay', 'w_decay'):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f'method.{field}', f'{getattr(self, field)} is not a share, 0 to 1')


@dataclasses.dataclass(frozen=True)
class StyleGAN2(Gan):
    """See the module; built by `make`."""

    path_interval: int | None  # None where the penalty is off

    @property
    def num_latents(self) -> int:
        return self.pair.generator.widths.num_latents

    # Forward passes.

    def _map(self, params: PyTree, z: jax.Array, label: jax.Array, share: jax.Array | float = 1.0) -> jax.Array:
        return self.pair.generator.apply({'params': params}, z, self.one_hot(label), share, method='map')

    def _synthesize(self, params: PyTree, ws: jax.Array, keys: jax.Array) -> jax.Array:
        return self.pair.generator.apply({'params': params}, ws, keys, method='synthesize')

    def _fake(self, params: PyTree, batch: Batch, share: jax.Array | float) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Images [B, H, W, 3], their latents [B, L, W], and the unmixed w [B, W]; `batch` has `key` and `label`."""
        keys, label = batch['key'], batch['label']
        w = self._map(params, self.draw(keys), label, share)
        ws = jnp.repeat(w[:, None], self.num_latents, 1)
        if self.config.mixing:
            other = self._map(params, self.draw(streams(keys, 'other')), label, share)
            ws = jnp.where(self._crossover(keys)[:, :, None], other[:, None], ws)
        return self._synthesize(params, ws, keys), ws, w

    def _crossover(self, keys: jax.Array) -> jax.Array:
        """Layers that take the second latent, bool [B, L]: those from a random layer on, in a share of the samples."""

        def one(key):
            layer = jax.random.randint(stream(key, 'layer'), (), 1, self.num_latents)
            mixed = jax.random.bernoulli(stream(key, 'mixed'), self.config.mixing)
            return jnp.where(mixed, layer, self.num_latents)

        return jnp.arange(self.num_latents) >= jax.vmap(one)(keys)[:, None]

    # What differs from other GANs.

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        state = super().init(rng, batch)
        g, zero = state.nets['generator'], jnp.zeros(())
        # Last value of the lazy term, for the log, and the running mean of path lengths.
        extra = {'path': zero, 'path_mean': zero} if self.path_interval else {}
        w = self._map(g.params, jnp.zeros((1, self.pair.z_dim)), batch['label'][:1])
        g = g.replace(stats={'w_mean': jnp.zeros(w.shape[1:])})
        return state.replace(nets=state.nets | {'generator': g}, extra=state.extra | extra)

    def generate(
        self, params: PyTree, stats: PyTree, batch: Batch, share: jax.Array
    ) -> tuple[jax.Array, PyTree, dict[str, jax.Array]]:
        """Images for `key` and `label` of a batch, some of them mixed."""
        image, _, w = self._fake(params, batch, share)
        return image, stats, {'w_mean': jnp.mean(w, 0)}

    def track(self, stats: PyTree, means: Mapping[str, jax.Array]) -> PyTree:
        """The running mean of w."""
        decay = self.config.w_decay
        return jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, stats, dict(means))

    def regularise(
        self, step: jax.Array, g: Net, batch: Batch, extra: dict, share: jax.Array
    ) -> tuple[Net, dict, dict[str, jax.Array]]:
        """The path-length step where it is due."""
        if not self.path_interval:
            return g, extra, {}
        lazy = lambda: self._path_step(g, batch, extra['path_mean'], share)
        skip = lambda: (g, extra['path_mean'], extra['path'])
        g, mean, value = jax.lax.cond(step % self.path_interval == 0, lazy, skip)
        return g, extra | {'path_mean': mean, 'path': value}, {'loss/path': value, 'path_mean': mean}

    def _path_step(
        self, g: Net, batch: Batch, mean: jax.Array, share: jax.Array | float = 1.0
    ) -> tuple[Net, jax.Array, jax.Array]:
        c = self.config

        def loss(params, stats, batch):
            keys = batch['key']
            _, ws, _ = self._fake(params, batch, share)
            noise = normal(streams(keys, 'path'), (*self.problem.resolution, 3))
            lengths = path_lengths(lambda ws: self._synthesize(params, ws, keys), ws, noise)
            value = jnp.mean(jnp.square(lengths - mean))
            return c.path_weight * c.path_interval * value, (stats, {'loss': value, 'length': jnp.mean(lengths)})

        batch = jax.tree.map(lambda x: x[:: c.path_shrink], {k: batch[k] for k in ('key', 'label')})
        g, metrics = self._step(g, self.g_tx, loss, batch)
        return g, c.path_decay * mean + (1 - c.path_decay) * metrics['length'], metrics['loss']

    # Sampling, from the averaged weights.

    def latents(self, state: State, z: jax.Array, label: jax.Array, truncation: jax.Array) -> jax.Array:
        """Latents [B, L, W] of z [B, Z], drawn towards the mean w as psi [B] falls from 1 to 0 (truncation trick)."""
        g = state.nets['generator']
        w, mean = self._map(g.ema, z, label, self.label_share(state.step)), g.stats['w_mean']
        w = mean + truncation[:, None] * (w - mean)
        return jnp.repeat(w[:, None], self.num_latents, 1)

    def synthesize(self, state: State, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] of latents [B, L, W] with the noise of `keys`."""
        return jnp.clip(self._synthesize(state.nets['generator'].ema, ws, keys), -1, 1)

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B], `label` [B, A] and, optionally, `truncation` [B] (1 without)."""
        keys = sample_keys(rng, batch['seed'])
        truncation = batch.get('truncation', jnp.ones(keys.shape))
        return {'image': self.synthesize(state, self.latents(state, self.draw(keys), batch['label'], truncation), keys)}


def make(config: Mapping[str, Any], problem: Problem) -> StyleGAN2:
    """Builds the method from the sections `method`, `model` and `optim` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(StyleGAN2Config, config['method'], 'method')
    method = assemble(StyleGAN2, c, config, problem, path_interval=c.path_interval if c.path_weight else None)
    if not isinstance(method.pair.generator, nets.Generator):
        raise UserError(
            'model.name', f'{config["model"]["name"]!r} has no styles', "use 'stylegan2', or method.name=gan"
        )
    part = method.size // (problem.accumulate * (problem.devices if problem.accumulate > 1 else 1))
    if c.path_weight and part % c.path_shrink:
        raise UserError('method.path_shrink', f'{c.path_shrink} does not divide the {part} images of a forward pass')
    return method
