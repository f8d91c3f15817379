"""Denoising diffusion of pictures, with labels and classifier-free guidance.

Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020; loss, sampler and further references are in
`productgen.methods.parts.denoiser`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from productgen.core.optim import make_optimizer
from productgen.core.rng import sample_keys, stream
from productgen.core.state import PyTree, State, create_net
from productgen.methods.base import Batch, Family, Knob, Knobs, Method, Metrics, Problem, Sections, weighted
from productgen.methods.models.unet import UNetModel
from productgen.methods.parts.averaging import keyed, step_averaged
from productgen.methods.parts.denoiser import Denoiser, DenoiserConfig


@dataclasses.dataclass(frozen=True)
class DiffusionConfig(DenoiserConfig):
    """The `method` section: the fields of `DenoiserConfig`."""

    name: str = 'diffusion'


@dataclasses.dataclass(frozen=True)
class Diffusion(Method):
    """See the module; built by `make`."""

    config: DiffusionConfig
    problem: Problem
    denoiser: Denoiser
    tx: optax.GradientTransformation

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        params = self.denoiser.init(stream(rng, 'unet'), batch['image'].shape[1:])
        net = create_net(params, self.tx, ema=True)
        return State(step=jnp.zeros((), jnp.int32), nets={'unet': net}, extra={}, frozen=frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration (DDPM, algorithm 1)."""
        c, problem = self.config, self.problem
        batch = keyed(batch, rng, jnp.arange(problem.batch_size))

        def loss(params, stats, batch):
            value = jnp.mean(self.denoiser.losses(params, batch['image'], batch['label'], batch['key'], train=True))
            return value, (stats, {'loss': value})

        net, metrics = step_averaged(
            state.nets['unet'], self.tx, loss, batch, problem=problem, section=c, step=state.step
        )
        return state.replace(step=state.step + 1, nets={'unet': net}), weighted(metrics)

    # From the averaged weights.

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Those of the sampler; diffusion has no truncation."""
        return self.denoiser.knobs

    def generate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Images [B, H, W, 3] in [-1, 1] of `seed` int32 [B] and `label` int32 [B, A]."""
        keys, shape = sample_keys(rng, batch['seed']), (*self.problem.resolution, 3)
        image = self.denoiser.draw(state.nets['unet'].ema, shape, batch['label'], keys, knobs)
        return jnp.clip(image, -1, 1)

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss` of each picture, [B]: that of training, at times spread evenly, without dropout."""
        batch = keyed(batch, rng, batch['seed'])
        return {'loss': self.denoiser.evaluate(state.nets['unet'].ema, batch['image'], batch['label'], batch['key'])}


def make(sections: Sections, problem: Problem) -> Diffusion:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    unet = sections.model.net(problem.resolution)
    denoiser = Denoiser(sections.method, unet, problem.labels, bounded=True)
    return Diffusion(sections.method, problem, denoiser, make_optimizer(sections.optim['unet'], problem.steps))


FAMILY = Family(method=DiffusionConfig, model=UNetModel, networks=('unet',), make=make)
