"""What methods that translate pictures share: a generator for any size, jitter of training pictures, averages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.config import UserError
from productgen.core.pixels import to_float
from productgen.core.rng import sample_keys, streams
from productgen.core.sharding import replicate, split_rows
from productgen.core.state import Net, PyTree, State
from productgen.core.step import average, ema_decay
from productgen.losses.adversarial import AdversarialLoss
from productgen.methods.base import Batch, Knob, Knobs, Problem
from productgen.methods.parts.averaging import check_not_negative
from productgen.methods.parts.critic import CriticConfig

NOISE = Knob('noise', 1.0, 0.0, 1.0, remedy='it scales the effect of dropout: 0 for none, 1 as in training')


@dataclasses.dataclass(frozen=True)
class TranslatorConfig(CriticConfig):
    """The fields of a `method` section that methods which translate share: those of the critic and these.

    Attributes:
      adversarial: weight of the generator's adversarial term. The least-squares loss has a factor of 1/2 here that the
        authors' code lacks, so 2 with `least_squares` is their 1.
      enlarge: training pictures are enlarged by this ratio, 1 or more, and cropped back at a random place: 286 / 256 in
        the papers.
      mirror: mirror half of the training pictures.
      ema_kimg: half-life of the averaged weights, thousands of images; 0 translates with the last weights (as
        published).
      ema_rampup: the half-life is at most this fraction of the images seen; 0 for no limit.
    """

    adversarial: float = 1.0
    enlarge: float = 1.0
    mirror: bool = False
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, 'adversarial', 'ema_kimg', 'ema_rampup')
        if not 1 <= self.enlarge <= 4:
            raise UserError('method.enlarge', f'{self.enlarge} is not from 1 to 4', '1 for none; 1.12 is usual')


@dataclasses.dataclass(frozen=True)
class Translator:
    """A generator for pictures of any height and width.

    Pictures whose sides are no multiples of what the network needs are padded by reflection, and the result is cropped.

    Attributes:
      network: (image [B, H, W, C], keys, train, strength) -> image [B, H, W, C']; `random` says whether it uses keys.
      unit: sides of its pictures are multiples of this ...
      least: ... and at least this.
    """

    network: nn.Module
    unit: int
    least: int

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """`noise`, where a translation has random parts."""
        return (NOISE,) if self.network.random else ()

    def padded(self, image: jax.Array) -> jax.Array:
        """[B, H, W, C] with sides that the network takes."""
        sides = [max(-(-side // self.unit) * self.unit, self.least) for side in image.shape[1:3]]
        margin = [(0, to - side) for to, side in zip(sides, image.shape[1:3], strict=True)]
        return jnp.pad(image, [(0, 0), *margin, (0, 0)], mode='symmetric') if any(m[1] for m in margin) else image

    def init(self, rng: jax.Array, image: jax.Array) -> PyTree:
        """Initial variables, `params` and maybe `stats`."""
        return self.network.init(rng, self.padded(image), train=True)

    def train(self, params: PyTree, stats: PyTree, image: jax.Array, keys: jax.Array) -> tuple[jax.Array, PyTree]:
        """A translation in training, [B, H, W, C'], and the new statistics."""
        variables, (_, height, width, _) = {'params': params, 'stats': stats}, image.shape
        made, new = self.network.apply(variables, self.padded(image), keys, train=True, mutable=['stats'])
        return made[:, :height, :width], new.get('stats', stats)

    def translate(self, net: Net, batch: Batch, rng: jax.Array, knobs: Knobs) -> jax.Array:
        """Translations of `input` uint8 [B, H, W, C] with `seed` int32 [B] by the averaged weights, in [-1, 1]."""
        image, keys = to_float(batch['input']), sample_keys(rng, batch['seed'])
        variables = {'params': net.ema, 'stats': net.stats}
        made = self.network.apply(variables, self.padded(image), keys, strength=knobs.get('noise', NOISE.default))
        return made[:, : image.shape[1], : image.shape[2]]


def halved(loss: AdversarialLoss) -> AdversarialLoss:
    """The loss with half of the discriminator's objective, which slows it down relative to the generator."""
    part = loss.discriminator
    return dataclasses.replace(loss, discriminator=lambda real, fake: 0.5 * part(real, fake))


def average_translator(
    net: Net, translator: Translator, batch: Batch, section: TranslatorConfig, problem: Problem, state: State
) -> Net:
    """A step of the moving average of a generator, and of the running statistics that it is used with.

    Args:
      net: the generator after its step; its statistics are still those before.
      translator: what it belongs to.
      batch: `image` [B, H, W, C], what is translated, and `key` [B].
      section: half-life of the average.
      problem: batch size, number of parts and of devices.
      state: before the update.
    """
    decay = ema_decay(state.step, problem.batch_size, section.ema_kimg, section.ema_rampup, problem.images_before)
    net = average(net, decay)
    if not jax.tree.leaves(net.stats):
        return net
    part = jax.tree.map(lambda x: split_rows(x, problem.accumulate, problem.devices)[0], batch)
    return net.replace(stats=translator.train(replicate(net.ema), net.stats, part['image'], part['key'])[1])


def jittered(images: Sequence[jax.Array], keys: jax.Array, enlarge: float, mirror: bool) -> list[jax.Array]:
    """Training pictures enlarged and cropped back at a random place, and half of them mirrored.

    Args:
      images: [B, H, W, C] each, of the same size; row i of all of them is changed alike.
      keys: the samples' own, [B].
      enlarge: ratio, 1 or more.
      mirror: whether to mirror.
    """
    if enlarge > 1:
        height, width = images[0].shape[1:3]
        larger = round(height * enlarge), round(width * enlarge)
        place = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(streams(keys, 'place'))
        room = jnp.asarray([larger[0] - height + 1, larger[1] - width + 1], jnp.float32)
        corner = jnp.floor(place * room).astype(jnp.int32)

        def crop(image):
            image = jax.image.resize(image, (len(image), *larger, image.shape[-1]), 'cubic', antialias=False)
            cut = lambda x, at: jax.lax.dynamic_slice(x, (at[0], at[1], 0), (height, width, x.shape[-1]))
            return jnp.clip(jax.vmap(cut)(image, corner), -1, 1)

        images = [crop(image) for image in images]
    if mirror:
        turn = jax.vmap(jax.random.bernoulli)(streams(keys, 'mirror'))[:, None, None, None]
        images = [jnp.where(turn, image[:, :, ::-1], image) for image in images]
    return list(images)


def check_sizes(problem: Problem) -> None:
    """Raises a UserError where inputs and targets are of different sizes, or are missing."""
    shapes = [problem.shape(name).shape[1:3] for name in ('input', 'target')]
    if shapes[0] != shapes[1]:
        sizes = ' and '.join(f'{width}x{height}' for height, width in shapes)
        raise UserError('data.input', f'inputs and targets have different sizes, {sizes}', 'choose other columns')
