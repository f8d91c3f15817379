"""The discriminators of Projected GAN, which judge the maps of a published network.

Sauer et al., "Projected GANs Converge Faster", NeurIPS 2021. Maps at four scales are mixed across channels and across
scales by random weights that never change (section 3.2), and each of the four results has a discriminator of its own
(section 3.3), whose logits, several an image, are averaged by the loss. The random weights are in the collection
`stats`, and so in checkpoints.

As in the authors' code the first discriminator sees the finest maps, all end at the same size, and labels enter by
projection at every logit. There the discriminators beside StyleGAN2's generator have separable convolutions, to save
time; here all are dense. The convolutions before a batch norm have no bias, which it would cancel.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.conditioning import Embed, Judgement
from productgen.nets.conv import conv
from productgen.nets.norms import TORCH_INIT, BatchNorm, Linear
from productgen.nets.strided import conv_halve

SCALES = 4
END = 4  # pixels at least of the maps that logits are computed from, the size of their kernel
PROJECTION = 64  # channels that the label is projected on
EMBEDDING = 128


def enlarged_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """The size at which the network sees pictures of (H, W): multiples of 32, the shorter side at least `side`."""
    factor = max(side / min(size), 1)
    height, width = (max(round(factor * length / 32), 1) * 32 for length in size)
    return height, width


def _corners(length: int) -> np.ndarray:
    """Matrix [2N, N] that interpolates N values linearly, the first and the last staying where they are."""
    at = np.linspace(0, length - 1, 2 * length)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(length)), 0)


def enlarge(x: jax.Array) -> jax.Array:
    """Bilinear upsampling, [B, H, W, C] -> [B, 2H, 2W, C], with aligned corners."""
    for axis in (1, 2):
        matrix = jnp.asarray(_corners(x.shape[axis]), x.dtype)
        x = jnp.moveaxis(jnp.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


class Mixing(nn.Module):
    """Random 1x1 convolution that is never trained, [B, H, W, C] -> [B, H, W, features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        fan_in = x.shape[-1]
        draw = lambda *shape: (
            jax.random.uniform(self.make_rng('params'), shape, jnp.float32, -1, 1) / np.sqrt(fan_in).astype(np.float32)
        )
        kernel = self.variable('stats', 'kernel', draw, fan_in, self.features).value
        bias = self.variable('stats', 'bias', draw, self.features).value
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


class Projector(nn.Module):
    """Maps at four scales, finest first -> as many mixed ones of twice the size.

    Attributes:
      width: channels of the finest (64 in the paper); the results have `width` times 1, 1, 2 and 4.
    """

    width: int

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        mixed: list[jax.Array] = []
        for i, x in reversed(list(enumerate(maps))):
            x = Mixing(self.width << i, name=f'channels{i}')(x)
            x = x + mixed[0] if mixed else x
            # A 1x1 convolution commutes with the interpolation, and costs a quarter before it.
            x = Mixing(self.width << max(i - 1, 0), name=f'scales{i}')(x)
            mixed.insert(0, enlarge(x))
        return mixed


class ScaleDiscriminator(nn.Module):
    """Judges maps of one scale, [B, H, W, C] and one-hot label [B, N] -> `Judgement` with logits [B, P].

    Attributes:
      widths: channels after each halving; 512 at the end in the paper.
      plain_head: add unconditional logits.
    """

    widths: tuple[int, ...]
    plain_head: bool

    @nn.compact
    def __call__(self, x: jax.Array, label: jax.Array | None, train: bool) -> Judgement:
        shared = {'bias': False, 'spectral': True, 'kernel_init': TORCH_INIT}
        for i, width in enumerate(self.widths):
            x = Linear(width, (4, 4), conv_halve, name=f'conv{i}', **shared)(x, train)
            x = nn.leaky_relu(BatchNorm(running=False, name=f'norm{i}')(x, train), 0.2)
        last = lambda name, features: Linear(features, (END, END), conv, name=name, **shared)(x, train)  # [B, h, w, D]
        flat = lambda x: x.reshape(x.shape[0], -1)
        plain = flat(last('plain', 1)) if self.plain_head else None
        if label is None:
            return Judgement(flat(last('logit', 1)), plain)
        embedded = Embed(EMBEDDING, name='label')(label)
        vector = nn.leaky_relu(Linear(PROJECTION, kernel_init=TORCH_INIT, name='dense')(embedded), 0.2)
        logit = jnp.einsum('bhwc,bc->bhw', last('projection', PROJECTION), vector)
        return Judgement(flat(logit / np.sqrt(PROJECTION).astype(np.float32)), plain)


def halvings(size: tuple[int, int], scale: int) -> int:
    """How often the maps of a scale are halved that have the size (H, W): to the size of the coarsest, and to `END`."""
    return max(min(SCALES - scale, int(np.log2(min(size) / END))), 0)


class Discriminator(nn.Module):
    """Maps at four scales, finest first, and one-hot label [B, N] -> `Judgement` with logits [B, P].

    Attributes:
      width: see `Projector`.
      plain_head: add unconditional logits.
    """

    width: int
    plain_head: bool = False

    @nn.compact
    def __call__(
        self,
        maps: Sequence[jax.Array],
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = False,
    ) -> Judgement:
        found = []
        for i, x in enumerate(Projector(self.width, name='projector')(maps)):
            count = halvings(x.shape[1:3], i)
            widths = tuple(max(8 * self.width >> left, self.width) for left in reversed(range(count)))
            found.append(ScaleDiscriminator(widths, self.plain_head, name=f'scale{i}')(x, label, train))
        join = lambda parts: jnp.concatenate(parts, 1)
        plain = join([judgement.plain for judgement in found]) if self.plain_head else None
        return Judgement(join([judgement.logit for judgement in found]), plain)
