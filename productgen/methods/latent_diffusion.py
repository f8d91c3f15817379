"""Diffusion of the codes of a variational autoencoder.

Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022. The autoencoder is the method
`vae` with a map of a few channels as its latent and without labels; its `beta` is the slight weight of the divergence
in the paper. The paper's adversarial and perceptual losses are left out: only the likelihood trains the autoencoder.

As published, the autoencoder is trained first and then kept. Both can also be trained together, which gives pictures
from the beginning; diffusion then follows the averaged encoder, which moves slowly, and never trains it. Or the
autoencoder is taken from a run of the method `vae`, whose network has the same name here, and never trained.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError
from productgen.core.optim import make_optimizer
from productgen.core.rng import normal, sample_keys, stream, streams
from productgen.core.sharding import replicate
from productgen.core.state import Net, PyTree, State, create_net
from productgen.methods import vae
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, Stage, weighted
from productgen.methods.models.unet import UNetModel
from productgen.methods.models.vae import VAEModel
from productgen.methods.parts.averaging import keyed, step_averaged
from productgen.methods.parts.denoiser import Denoiser, DenoiserConfig
from productgen.methods.parts.stages import first_stage_steps, of_own_stage, when

SCALE_DECAY = 0.99  # weight of the old value in the running variance of the codes
FROZEN = -1.0


@dataclasses.dataclass(frozen=True)
class LatentDiffusionConfig(DenoiserConfig):
    """The `method` section: the fields of `DenoiserConfig`, and two more.

    Attributes:
      autoencoder_share: fraction of the training in which only the autoencoder is trained, before diffusion begins; 0
        trains both from beginning to end, -1 never trains the autoencoder (take it from another run, with
        `train.init_from`).
      vae: the `method` section of the autoencoder, which does not see labels.
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
                    f'{self.autoencoder_share} is neither a fraction of the training, 0 to below 1, nor {FROZEN:g} for '
                    'an autoencoder that is never trained'
                ),
            )
        if self.schedule == 'cosine' and self.prediction == 'epsilon':
            raise UserError(
                'method.prediction',
                (
                    'at the end of a cosine schedule epsilon says nothing about the data, and codes have no bounds to '
                    'clip them to'
                ),
                "choose 'v', or schedule='linear'",
            )


@dataclasses.dataclass(frozen=True)
class LatentDiffusionModel:
    """The `model` section.

    Attributes:
      unet: the U-Net on the codes.
      vae: the autoencoder; its `latent` is `map`.
    """

    unet: UNetModel = dataclasses.field(default_factory=lambda: UNetModel(patch=1, channels=64, attention='0'))
    vae: VAEModel = dataclasses.field(
        default_factory=lambda: VAEModel(latent='map', z_dim=4, downsampling=4, channels=16, channel_max=64, blocks=1)
    )

    def __post_init__(self):
        if self.vae.latent != 'map':
            raise UserError('model.vae.latent', f"the U-Net needs a 'map', not a {self.vae.latent!r}")


@dataclasses.dataclass(frozen=True)
class LatentDiffusion(Method):
    """See the module; built by `make`.

    Codes are divided by their standard deviation over all components (Rombach et al., appendix G), a running mean.

    `first` is the update at which the diffusion begins; 0 where there is one stage only.
    """

    config: LatentDiffusionConfig
    problem: Problem
    autoencoder: vae.VAE
    denoiser: Denoiser
    tx: optax.GradientTransformation
    first: int

    @property
    def first_stage(self) -> Stage:
        """The updates in which only the autoencoder is trained."""
        return Stage(self.first, 'method.autoencoder_share')

    @property
    def untrained(self) -> tuple[str, ...]:
        """The autoencoder, where it comes from another run."""
        return ('vae',) if self.config.autoencoder_share == FROZEN else ()

    def conventions(self) -> dict[str, dict[str, Any]]:
        """Those of the autoencoder."""
        return self.autoencoder.conventions()

    def in_one_part(self) -> LatentDiffusion:
        """The same method with each batch taken in one part, by both networks."""
        return dataclasses.replace(super().in_one_part(), autoencoder=self.autoencoder.in_one_part())

    def _encode(self, params: Any, image: jax.Array, keys: jax.Array) -> jax.Array:
        """A code [B, h, w, c] drawn for each image [B, H, W, 3] in [-1, 1]."""
        mean, log_variance = self.autoencoder.encoder.apply({'params': params['encoder']}, image, None)
        return mean + jnp.exp(0.5 * log_variance) * normal(streams(keys, 'posterior'), mean.shape[1:])

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        state = self.autoencoder.init(stream(rng, 'vae'), batch, frozen)
        params = self.denoiser.init(stream(rng, 'unet'), self.autoencoder.latent)
        unet = create_net(params, self.tx, {'code_variance': jnp.ones(())}, ema=True)
        return state.replace(nets=state.nets | {'unet': unet})

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration: a step of the autoencoder and one of the diffusion, those that are due."""
        fraction, net, metrics = self.config.autoencoder_share, state.nets['vae'], {}
        if fraction != FROZEN:
            train = lambda: self._autoencoder_step(state, batch, stream(rng, 'vae'))
            net, found = when(state.step < self.first if fraction else True, train, net)
            metrics |= {f'{name}/vae': metric for name, metric in found.items()}
        diffuse = lambda: self._diffusion_step(state, net, batch, stream(rng, 'unet'))
        unet, found = when(state.step >= self.first if fraction > 0 else True, diffuse, state.nets['unet'])
        metrics |= {f'{name}/unet': metric for name, metric in found.items()}
        metrics |= weighted({'code_std': jnp.sqrt(unet.stats['code_variance'])})
        return state.replace(step=state.step + 1, nets={'vae': net, 'unet': unet}), metrics

    def _autoencoder_step(self, state: State, batch: Batch, rng: jax.Array) -> tuple[Net, Metrics]:
        own = State(state.step, {'vae': state.nets['vae']}, {}, {})
        own, metrics = self.autoencoder.update(own, batch, rng)
        return own.nets['vae'], metrics

    def _diffusion_step(self, state: State, autoencoder: Net, batch: Batch, rng: jax.Array) -> tuple[Net, Metrics]:
        """A step of the U-Net on codes of the averaged encoder."""
        problem, step, variance = self.problem, state.step - self.first, self._variance(state)
        batch = keyed(batch, rng, jnp.arange(problem.batch_size))

        def loss(params, stats, batch):
            code = self._encode(replicate(autoencoder.ema), batch['image'], batch['key'])
            x0 = code * jax.lax.rsqrt(variance)
            value = jnp.mean(self.denoiser.losses(params, x0, batch['label'], batch['key'], train=True))
            return value, (stats, {'loss': value, 'mean': jnp.mean(code), 'square': jnp.mean(jnp.square(code))})

        own = of_own_stage(problem, self.first)
        net, metrics = step_averaged(
            state.nets['unet'], self.tx, loss, batch, problem=own, section=self.config, step=step
        )
        new = metrics.pop('square') - jnp.square(metrics.pop('mean'))
        variance = jnp.where(step == 0, new, SCALE_DECAY * variance + (1 - SCALE_DECAY) * new)
        return net.replace(stats={'code_variance': variance}), weighted(metrics)

    def _variance(self, state: State) -> jax.Array:
        """Of the codes."""
        return state.nets['unet'].stats['code_variance']

    # From the averaged weights.

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of the sampler; diffusion has no truncation."""
        return self.denoiser.knobs

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A]."""
        keys = sample_keys(rng, batch['seed'])
        code = self.denoiser.draw(state.nets['unet'].ema, self.autoencoder.latent, batch['label'], keys, knobs)
        code = code * jnp.sqrt(self._variance(state))
        params = {'params': state.nets['vae'].ema['decoder']}
        image = self.autoencoder.likelihood.mean(self.autoencoder.decoder.apply(params, code, None))
        return jnp.clip(image, -1, 1)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss` of the diffusion at times spread evenly, and the figures of the autoencoder as `vae_...`, [B] each."""
        rows = keyed(batch, rng, batch['seed'])
        code = self._encode(state.nets['vae'].ema, rows['image'], rows['key'])
        x0 = code * jax.lax.rsqrt(self._variance(state))
        loss = self.denoiser.evaluate(state.nets['unet'].ema, x0, rows['label'], rows['key'])
        figures = self.autoencoder.evaluate(state, batch, rng)
        return {'loss': loss} | {f'vae_{name}': value for name, value in figures.items()}

    def reconstruct(self, state: State, batch: Batch, rng: jax.Array) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1], decoded from the mean codes of `image` uint8 [B, H, W, 3]."""
        return self.autoencoder.reconstruct(state, batch, rng)


def make(sections: Sections, problem: Problem) -> LatentDiffusion:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c, m = sections.method, sections.model
    first = first_stage_steps(max(c.autoencoder_share, 0.0), problem, 'method.autoencoder_share')
    # Schedules run over the updates of the network's own stage.
    own = dataclasses.replace(problem, labels=(), steps=first or problem.steps)
    autoencoder = vae.make(Sections(c.vae, m.vae, sections.optim), own)
    if c.autoencoder_share == FROZEN:
        autoencoder = dataclasses.replace(autoencoder, tx=optax.set_to_zero())  # which keeps no state
    unet = m.unet.net(problem.resolution, outputs=m.vae.z_dim, halvings=m.vae.sizes(problem.resolution)[1])
    denoiser = Denoiser(c, unet, problem.labels, bounded=False)
    tx = make_optimizer(sections.optim['unet'], problem.steps - first if first else problem.steps)
    return LatentDiffusion(c, problem, autoencoder, denoiser, tx, first)


FAMILY = Family(method=LatentDiffusionConfig, model=LatentDiffusionModel, networks=('unet', 'vae'), make=make)
