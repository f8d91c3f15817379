"""Restoration that pleases: a restoring network trained against a discriminator and a perceptual distance.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network" (SRGAN), CVPR 2017;
Wang et al., "Real-ESRGAN", ICCVW 2021, whose weights (pixels 1, maps 1, discriminator 0.1), U-Net discriminator and
order (pixels alone first: `train.init_from` a run of `restoration`) are the defaults. It draws detail that the input
does not hold: sharper to look at, and less faithful by every distance of pixels.

An iteration takes a step of the network against the discriminator, then one of the discriminator, on the same pictures,
as in the authors' code.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.sharding import replicate
from productgen.core.state import PyTree, State, create_net
from productgen.core.step import average, ema_decay, step_net
from productgen.methods.base import Batch, Family, Frozen, Metrics, Problem, Sections, weighted
from productgen.methods.models.restoration import RESTORERS
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import Context, Critic, CriticConfig, Pictures, make_critic
from productgen.methods.restoration import Restoration, RestorationConfig, turned
from productgen.methods.restoration import make as make_restoration
from productgen.nets.unet_critic import UNetCritic
from productgen.published.perceptual import Perceptual

PERCEPTUAL = 'perceptual'  # its entry in `State.frozen`


@dataclasses.dataclass(frozen=True)
class RestorationGanConfig(RestorationConfig, CriticConfig):
    """The `method` section: those of `RestorationConfig` and `CriticConfig`, and these.

    Attributes:
      name: `restoration_gan`.
      pixel_weight: weight of the distance of pixels.
      perceptual: weight of the distance of maps of VGG-16; 0 does without its weights.
      adversarial: weight of the discriminator.
      critic_width: channels of the discriminator at full size.
    """

    name: str = 'restoration_gan'
    pixel: str = 'l1'
    pixel_weight: float = 1.0
    perceptual: float = 1.0
    adversarial: float = 0.1
    critic_width: int = 64

    def __post_init__(self):
        RestorationConfig.__post_init__(self)
        CriticConfig.__post_init__(self)
        check_not_negative(self, 'pixel_weight', 'perceptual', 'adversarial')
        if self.critic_width < 1:
            raise UserError('method.critic_width', 'must be at least 1')


@dataclasses.dataclass(frozen=True)
class RestorationGan(Restoration):
    """See the module; built by `make`."""

    critic: Critic
    perceptual: Perceptual

    def frozen(self) -> dict[str, Frozen]:
        """The weights of VGG-16, which training alone reads."""
        if not self.config.perceptual:
            return {}
        source = self.perceptual.source
        return {PERCEPTUAL: Frozen(source.shapes(), lambda: source.load()[0], training_only=True)}

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        state = super().init(rng, batch, frozen)
        d = self.critic.network.init(stream(rng, 'discriminator'), to_float(batch['image'][:2]), train=True)
        nets = {**state.nets, 'discriminator': create_net(d['params'], self.critic.tx, d.get('stats'))}
        return state.replace(nets=nets, extra=self.critic.initial())

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        c, problem, critic = self.config, self.problem, self.critic
        g, d, phase = state.nets['restorer'], state.nets['discriminator'], critic.phase(state)
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        image = to_float(batch['image'])
        image = turned(image, streams(keys, 'flips')) if c.flips else image
        rows = {'image': image, 'key': keys, **self.pairs(image, keys)}
        fixed = replicate(d.params)

        def show(params: PyTree, batch: Batch, name: str) -> Pictures:
            return Pictures(batch['image'], self.restored(params, batch), Context(streams(batch['key'], name)))

        def loss(params, stats, batch):
            pictures = show(params, batch, 'restorer')
            adversarial, value = critic.generator_loss(d.replace(params=fixed), pictures, phase)
            pixel = jnp.mean(self.distance(pictures.fake, batch['image']))
            total = c.pixel_weight * pixel + c.adversarial * adversarial
            metrics = {'loss/pixel': pixel, 'loss/adversarial': value}
            if c.perceptual:
                distance = self.perceptual(state.frozen[PERCEPTUAL], pictures.fake, batch['image'])
                metrics['loss/perceptual'] = jnp.mean(distance)
                total += c.perceptual * metrics['loss/perceptual']
            return total, (stats, metrics | {'loss': total})

        options = {'accumulate': problem.accumulate, 'devices': problem.devices}
        new, metrics = step_net(g, self.tx, loss, rows, **options)
        decay = ema_decay(state.step, problem.batch_size, c.ema_kimg, c.ema_rampup, problem.images_before)
        new = average(new, decay)
        shown = lambda batch: show(replicate(g.params), batch, 'discriminator')
        d, extra, d_metrics = critic.turn(d, rows, shown, phase, problem, state)
        metrics['grad_norm/restorer'] = metrics.pop('grad_norm')
        state = state.replace(step=state.step + 1, nets={'restorer': new, 'discriminator': d}, extra=extra)
        return state, weighted(metrics) | d_metrics


def make(sections: Sections, problem: Problem) -> RestorationGan:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c = sections.method
    base = make_restoration(sections, problem)
    network = UNetCritic(c.critic_width)
    for side in problem.resolution:
        if side % network.stride:
            near = max(round(side / network.stride), 1) * network.stride
            reason = f'the discriminator takes crops of multiples of {network.stride} pixels, not {side}'
            raise UserError('data.resolution', reason, f'use {near}')
    critic = make_critic(c, network, sections.optim['discriminator'], problem)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return RestorationGan(**fields, critic=critic, perceptual=Perceptual())


FAMILY = Family(method=RestorationGanConfig, model=RESTORERS, networks=('restorer', 'discriminator'), make=make)
