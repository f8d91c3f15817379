"""Restoration of photos by a network that is trained on what it undoes: noise, blur, low resolution, JPEG, holes.

Every update degrades crops of clean photos and compares what the network makes of them with the crops (`degrade`). The
loss is a distance of pixels, whose minimum is the faithful answer: the mean of the photos that could have been, sharp
where these agree.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from productgen.config import UserError, choose
from productgen.core.optim import make_optimizer
from productgen.core.pixels import to_float, to_uint8
from productgen.core.rng import sample_keys, stream, streams
from productgen.core.state import PyTree, State, create_net
from productgen.degrade.tasks import SCALES, Degradation, DegradeConfig, make_degradation
from productgen.losses.pixel import RECONSTRUCTION, Distance, ssim_index
from productgen.methods.base import Batch, Family, Knobs, Method, Metrics, Problem, Sections, Shapes, weighted
from productgen.methods.models.restoration import RESTORERS
from productgen.methods.parts.averaging import check_not_negative, step_averaged
from productgen.metrics.pairwise import psnr
from productgen.nets.filling import filled


@dataclasses.dataclass(frozen=True)
class RestorationConfig:
    """The `method` section.

    Attributes:
      name: `restoration`.
      task: `denoise`, `deblur`, `sr2` and `sr4` (super-resolution by 2 and 4), `jpeg` or `inpaint`.
      pixel: distance of the restored picture from the clean one, by name (`losses.pixel`).
      flips: mirror and transpose the crops at random.
      degrade: what the network undoes.
      ema_kimg: half-life of the averaged weights, thousands of images.
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    name: str = 'restoration'
    task: str = 'denoise'
    pixel: str = 'charbonnier'
    flips: bool = True
    degrade: DegradeConfig = dataclasses.field(default_factory=DegradeConfig)
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        choose(SCALES, self.task, 'method.task')
        choose(RECONSTRUCTION, self.pixel, 'method.pixel')
        check_not_negative(self, 'ema_kimg', 'ema_rampup')


@dataclasses.dataclass(frozen=True)
class Restoration(Method):
    """See the module; built by `make`."""

    config: RestorationConfig
    problem: Problem
    net: nn.Module
    degradation: Degradation
    distance: Distance
    tx: optax.GradientTransformation

    knobs = ()

    @property
    def scale(self) -> int:
        """Sides of a restored picture, as multiples of the input's."""
        return SCALES[self.config.task]

    @property
    def stride(self) -> int:
        """Of tiles; see `Restores`."""
        return self.net.stride

    @property
    def reach(self) -> int:
        """See `Restores`."""
        return self.net.reach

    @property
    def takes_mask(self) -> bool:
        """Whether missing pixels are marked by `mask`."""
        return self.config.task == 'inpaint'

    def inputs(self) -> Shapes:
        """Clean pictures only."""
        return {'image': self.problem.shape('image')}

    # Forward passes.

    def restored(self, params: PyTree, batch: Batch) -> jax.Array:
        """Pictures [B, s H, s W, 3] of `input` [B, H, W, 3] and `mask` [B, H, W, 1] in [-1, 1], of any size.

        Sides that the network cannot take are extended by mirroring. For `inpaint` the network goes on from the first
        guess of `filled`, and known pixels are those of the input.
        """
        image, unit = batch['input'], self.net.stride
        x = image
        if self.takes_mask:
            hole = batch['mask']
            x = jnp.concatenate([filled(image, hole), hole], -1)
        height, width = x.shape[1:3]
        x = jnp.pad(x, [(0, 0), (0, -height % unit), (0, -width % unit), (0, 0)], mode='symmetric')
        y = self.net.apply({'params': params}, x)[:, : self.scale * height, : self.scale * width]
        return jnp.where(hole > 0.5, y, image) if self.takes_mask else y

    def pairs(self, image: jax.Array, keys: jax.Array) -> Batch:
        """Degraded pictures of clean ones [B, H, W, 3] in [-1, 1]: `input` in [-1, 1], and `mask` of 0 and 1."""
        found = self.degradation((image + 1) / 2, streams(keys, 'degrade'))
        return found | {'input': found['input'] * 2 - 1}

    # The method.

    def init(self, rng: jax.Array, batch: Batch, frozen: dict[str, PyTree]) -> State:
        """State at step 0; of `batch` only shapes matter."""
        side = 4 * self.net.stride
        x = jnp.zeros((1, side, side, 3 + self.takes_mask))
        params = self.net.init(stream(rng, 'restorer'), x)['params']
        return State(jnp.zeros((), jnp.int32), {'restorer': create_net(params, self.tx, ema=True)}, {}, frozen)

    def update(self, state: State, batch: Batch, rng: jax.Array) -> tuple[State, Metrics]:
        """One iteration."""
        problem = self.problem
        keys = sample_keys(rng, jnp.arange(problem.batch_size))
        image = to_float(batch['image'])
        image = turned(image, streams(keys, 'flips')) if self.config.flips else image
        batch = {'image': image, **self.pairs(image, keys)}

        def loss(params, stats, batch):
            made = self.restored(params, batch)
            value = jnp.mean(self.distance(made, batch['image']))
            figure = capped_psnr(jnp.clip(made, -1, 1), batch['image'])
            return value, (stats, {'loss': value, 'psnr': jnp.mean(figure)})

        net = state.nets['restorer']
        net, metrics = step_averaged(net, self.tx, loss, batch, problem=problem, section=self.config, step=state.step)
        return state.replace(step=state.step + 1, nets={'restorer': net}), weighted(metrics)

    # From the averaged weights.

    def translate(self, state: State, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Restored pictures [B, s H, s W, 3] in [-1, 1] of `input` [B, H, W, 3], uint8 or float in [-1, 1].

        For `inpaint` the batch has `mask` uint8 [B, H, W, 1], above 0 where a pixel is missing.
        """
        image = batch['input']
        image = to_float(image) if image.dtype == jnp.uint8 else image  # photos may have more than 8 bits
        mask = (batch['mask'] > 0).astype(jnp.float32) if self.takes_mask else None
        return jnp.clip(self.restored(state.nets['restorer'].ema, {'input': image, 'mask': mask}), -1, 1)

    def degrade(self, state: State, batch: Batch, rng: jax.Array) -> Batch:
        """What evaluation restores: `input` uint8 [B, h, w, 3] of `image` uint8 [B, H, W, 3] and `seed` int32 [B].

        Also `mask` uint8 [B, H, W, 1], 255 where a pixel is missing, for `inpaint`.
        """
        found = self.pairs(to_float(batch['image']), sample_keys(rng, batch['seed']))
        return {n: to_uint8(x) if n == 'input' else (255 * x).astype(jnp.uint8) for n, x in found.items()}

    def evaluate(self, state: State, batch: Batch, rng: jax.Array) -> dict[str, jax.Array]:
        """`loss` of each picture, [B], and `psnr` and `ssim`, larger where better, of 8-bit results."""
        pairs = self.degrade(state, batch, rng)
        made, image = self.translate(state, pairs, rng, {}), to_float(batch['image'])
        shown = jnp.round((made + 1) * 127.5) / 127.5 - 1
        return {
            'loss': self.distance(made, image),
            'psnr': capped_psnr(shown, image),
            'ssim': ssim_index(shown, image),
        }


def capped_psnr(a: jax.Array, b: jax.Array) -> jax.Array:
    """`psnr` of each picture, [B], at most 100: a mean over pictures may have equal pairs."""
    return jnp.minimum(psnr(a, b), 100.0)


def turned(x: jax.Array, keys: jax.Array) -> jax.Array:
    """Each picture in one of the eight positions of a square; where [B, H, W, C] is not square, of the four flips."""
    bits = jax.vmap(lambda key: jax.random.bernoulli(key, shape=(3,)))(keys)
    pick = lambda i, a, b: jnp.where(bits[:, i].reshape(-1, 1, 1, 1), a, b)
    x = pick(0, jnp.flip(x, 1), x)
    x = pick(1, jnp.flip(x, 2), x)
    return pick(2, x.swapaxes(1, 2), x) if x.shape[1] == x.shape[2] else x


def make(sections: Sections, problem: Problem) -> Restoration:
    """Builds the method.

    Raises:
      UserError: a value that cannot be used, by itself or with the others.
    """
    c = sections.method
    if sections.model.name == 'gated' and c.task != 'inpaint':
        raise UserError('model.name', "'gated' fills holes: it needs a mask", 'use it with method.task=inpaint')
    net = sections.model.net(SCALES[c.task])
    unit = SCALES[c.task] * net.stride
    for side in problem.resolution:
        if side % unit:
            reason = f'sides of crops must be multiples of {unit} for method.task={c.task} and this network, not {side}'
            raise UserError('data.resolution', reason, f'use {max(round(side / unit), 1) * unit}')
    return Restoration(
        config=c,
        problem=problem,
        net=net,
        degradation=make_degradation(c.task, c.degrade),
        distance=RECONSTRUCTION[c.pixel],
        tx=make_optimizer(sections.optim['restorer'], problem.steps),
    )


FAMILY = Family(method=RestorationConfig, model=RESTORERS, networks=('restorer',), make=make)
