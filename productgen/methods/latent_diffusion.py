"""Diffusion of the codes of a variational autoencoder.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022. The autoencoder is the whole
method `vae` with a map of a few channels as its latent and no labels; its `beta` is the slight weight of the divergence
in the paper. The paper's adversarial and perceptual losses are not here: the likelihood is all that trains it.

As published the autoencoder is trained first and stays. It may also be trained beside the diffusion all along, which
shows pictures from the beginning; diffusion then follows the averaged encoder, which moves slowly, and never trains it.
Or it is taken from a run of method `vae`, whose network has the same name here, and never trained.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError, build, choose
from productgen.core.optim import OptimConfig, make_optimizer
from productgen.core.pixels import to_float
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.sharding import whole
from productgen.core.state import Net, State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.methods import vae
from productgen.methods.base import Batch, Problem
from productgen.methods.diffusion import Denoiser, DiffusionConfig
from productgen.methods.models.unet import UNetModel
from productgen.methods.models.vae import VAEModel

SCALE_DECAY = 0.99  # share of the old value in the running variance of the codes
FROZEN = -1.0


@dataclasses.dataclass(frozen=True)
class LatentDiffusionConfig(DiffusionConfig):
    """The `method` section: the fields of `DiffusionConfig` (`name` is `latent_diffusion`), and two more.

    Attributes:
      autoencoder_share: share of the training that is the autoencoder's, before that of the diffusion begins; 0 trains
        both all along, -1 never trains the autoencoder (take it from another run, with `train.init_from`).
      vae: the `method` section of the autoencoder; labels are for the diffusion alone.
    """

    name: str = 'latent_diffusion'
    autoencoder_share: float = 0.0
    vae: vae.VAEConfig = dataclasses.field(default_factory=vae.VAEConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.autoencoder_share != FROZEN and not 0 <= self.autoencoder_share < 1:
            raise UserError(
                'method.autoencoder_share',
                (
                    f'{self.autoencoder_share} is not a share of the training, 0 to below 1, nor {FROZEN:g} for an '
                    'autoencoder that is never trained'
                ),
            )
        if self.schedule == 'cosine' and self.prediction == 'epsilon':
            raise UserError(
                'method.prediction',
                (
                    'at the end of a cosine schedule epsilon says nothing of the data, and codes have no bounds to '
                    'clip them to'
                ),
                "choose 'v', or schedule='linear'",
            )


@dataclasses.dataclass(frozen=True)
class LatentDiffusionModel:
    """The `model` section: the U-Net on the codes, and the autoencoder with `latent` a map."""

    unet: UNetModel = dataclasses.field(default_factory=lambda: UNetModel(patch=1, channels=64, attention='0'))
    vae: VAEModel = dataclasses.field(default_factory=lambda: VAEModel(latent='map', z_dim=4, downsampling=4, channels=16, channel_max=64, blocks=1))

    def __post_init__(self):
        if self.vae.latent != 'map':
            raise UserError('model.vae.latent', f"the U-Net wants a 'map', not a {self.vae.latent!r}")


@dataclasses.dataclass(frozen=True)
class LatentDiffusion:
    """See the module; built by `make`.

    Codes are divided by their standard deviation over all components (Rombach et al., appendix G), kept up to date.
    """

    config: LatentDiffusionConfig
    problem: Problem
    autoencoder: vae.VAE
    denoiser: Denoiser
    tx: optax.GradientTransformation
    first: int  # update of the diffusion

    @property
    def first_stage(self) -> int:
        """Updates of the autoencoder alone."""
        return self.first

    @property
    def untrained(self) -> tuple[str, ...]:
        """Networks that have to come from another run."""
        return ('vae',) if self.config.autoencoder_share == FROZEN else ()

    def _encode(self, params: Any, image: jax.Array, keys: jax.Array) -> jax.Array:
        """A code [B, h, w, c] drawn for each image [B, H, W, 3] in [-1, 1]."""
        mean, log_variance = self.autoencoder.encoder.apply({'params': params['encoder']}, image, None)
        return mean + jnp.exp(0.5 * log_variance) * normal(streams(keys, 'posterior'), mean.shape[1:])

    def init(self, rng: jax.Array, batch: Batch) -> State:
        """State at step 0; of `batch` only shapes matter."""
        state = self.autoencoder.init(stream(rng, 'vae'), batch)
        params = self.denoiser.init(stream(rng, 'unet'), self.autoencoder.latent)
        unet = create_net(params, self.tx, {'code_variance': jnp.ones(())}, ema=True)
        return state.replace(nets=state.nets | {'unet': unet})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        """One iteration; figures of a network that rests are 0."""
        share, net = self.config.autoencoder_share, state.nets['vae']
        metrics = {}
        if share != FROZEN:
            train = lambda: self._autoencoder_step(state, batch, stream(rng, 'vae'))
            (net,), figures = _when(state.step < self.first if share else True, train, (net,))
            metrics |= {f'{name}/vae': value for name, value in figures.items()}
        diffuse = lambda: self._diffusion_step(state, net, batch, stream(rng, 'unet'))
        due = state.step >= self.first if share > 0 else True
        (unet,), figures = _when(due, diffuse, (state.nets['unet'],))
        metrics |= {f'{name}/unet': value for name, value in figures.items()}
        metrics |= {'code_std': jnp.sqrt(unet.stats['code_variance'])}
        return State(state.step + 1, {'vae': net, 'unet': unet}, state.extra, state.frozen), metrics

    def _autoencoder_step(self, state: State, batch: Batch, rng: jax.Array) -> tuple[tuple[Net], dict]:
        own = State(state.step, {'vae': state.nets['vae']}, {}, {})
        own, metrics = self.autoencoder.update(own, batch, rng)
        return (own.nets['vae'],), metrics

    def _diffusion_step(self, state: State, autoencoder: Net, batch: Batch, rng: jax.Array) -> tuple[tuple[Net], dict]:
        c, problem, step = self.config, self.problem, state.step - self.first
        variance = self._variance(state)
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        batch = {'image': to_float(batch['image']), 'label': batch['label'], 'key': keys}

        def loss(params, stats, batch):
            code = self._encode(whole(autoencoder.ema), batch['image'], batch['key'])
            x0 = code * jax.lax.rsqrt(variance)
            value = jnp.mean(self.denoiser.losses(params, x0, batch['label'], batch['key'], train=True))
            return value, (stats, {'loss': value, 'mean': jnp.mean(code), 'square': jnp.mean(jnp.square(code))})

        net = state.nets['unet']
        net, metrics = step_net(net, self.tx, loss, batch, accumulate=problem.accumulate, devices=problem.devices)
        net = average(net, ema_decay(step, problem.batch_size, c.ema_kimg, c.ema_rampup))
        new = metrics.pop('square') - jnp.square(metrics.pop('mean'))
        variance = jnp.where(step == 0, new, SCALE_DECAY * variance + (1 - SCALE_DECAY) * new)
        return (net.replace(stats={'code_variance': variance}),), metrics

    def _variance(self, state: State) -> jax.Array:
        """Of the codes."""
        return state.nets['unet'].stats['code_variance']

    # From the averaged weights.

    def sample(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`image` [B, H, W, 3] of `seed` [B] and `label` [B, A]."""
        keys = sample_keys(rng, batch['seed'])
        code = self.denoiser.draw(state.nets['unet'].ema, self.autoencoder.latent, batch['label'], keys)
        code = code * jnp.sqrt(self._variance(state))
        params = {'params': state.nets['vae'].ema['decoder']}
        image = self.autoencoder.likelihood.mean(self.autoencoder.decoder.apply(params, code, None))
        return {'image': jnp.clip(image, -1, 1)}

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss` of the diffusion over times spread evenly, the figures of the autoencoder as `vae_...`, [B] each."""
        keys = sample_keys(rng, batch['seed'])
        code = self._encode(state.nets['vae'].ema, to_float(batch['image']), keys)
        x0 = code * jax.lax.rsqrt(self._variance(state))
        loss = self.denoiser.evaluate(state.nets['unet'].ema, x0, batch['label'], keys)
        figures = self.autoencoder.evaluate(state, batch, rng)
        return {'loss': loss} | {f'vae_{name}': value for name, value in figures.items()}

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """The autoencoder's pictures [B, H, W, 3] of the mean codes of `image` uint8 [B, H, W, 3]."""
        return self.autoencoder.reconstruct(state, batch, rng)


def _when(due: jax.Array | bool, step: Callable, rest: tuple) -> tuple[tuple, dict[str, jax.Array]]:
    """`step()` if it is due; otherwise what `rest` has, and zeros for the figures."""
    if due is True:
        return step()
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(step)[1])
    return jax.lax.cond(due, step, lambda: (rest, zeros))


def make(config: Mapping[str, Any], problem: Problem) -> LatentDiffusion:
    """Builds the method from the sections `method`, `model`, `optim` and `sample` of a config.

    Raises:
      UserError: a value that cannot be used, alone or with the others.
    """
    c = build(LatentDiffusionConfig, config['method'], 'method')
    m = build(LatentDiffusionModel, config['model'], 'model')
    optim = build(OptimConfig, choose(config['optim'], 'unet', 'optim'), 'optim.unet')
    if c.autoencoder_share == FROZEN and config.get('train', {}).get('init_from') == '':
        raise UserError(
            'train.init_from',
            'an autoencoder that is never trained (method.autoencoder_share=-1) must come from another run',
            'give its workdir, with train.init_nets=vae',
        )
    first, rest = 0, problem.steps
    if c.autoencoder_share > 0:
        if problem.steps is None:
            raise UserError(
                'method.autoencoder_share',
                'a share of the training needs a train.duration in images, steps or epochs, not in time',
                'or set it to 0.0',
            )
        first = min(max(round(c.autoencoder_share * problem.steps), 1), problem.steps - 1)
        rest = problem.steps - first
    sections = {'method': config['method']['vae'], 'model': config['model']['vae'], 'optim': config['optim']}
    autoencoder = vae.make(sections, dataclasses.replace(problem, labels=(), steps=first or problem.steps))
    if c.autoencoder_share == FROZEN:
        autoencoder = dataclasses.replace(autoencoder, tx=optax.set_to_zero())  # which keeps no state
    unet = m.unet.net(problem.resolution, outputs=m.vae.z_dim, halvings=m.vae.sizes(problem.resolution)[1])
    guidance, steps = (config['sample'][field] for field in ('guidance', 'denoising_steps'))
    denoiser = Denoiser(c, unet, problem.labels, guidance, steps, bounded=False)
    return LatentDiffusion(c, problem, autoencoder, denoiser, make_optimizer(optim, rest), first)
