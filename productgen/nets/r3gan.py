"""Generator and discriminator of R3GAN.

Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline GAN", NeurIPS 2024, section 4 (configuration E):
two mirrored residual networks of inverted bottlenecks with grouped convolutions, bilinear resampling, and no
normalisation, noise, mapping network or minibatch statistics. Images are [B, H, W, 3] in about [-1, 1]; any H x W that
is a base times 2^n.

One thing is added: the vector that the discriminator's features are projected on has a part that belongs to no label,
zero at first. Without it an image of unknown label would always be given the logit 0.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets import resample
from productgen.nets.conditioning import Embed, Judgement
from productgen.nets.conv import add_bias
from productgen.nets.grouped import grouped_conv
from productgen.nets.layers import recomputed
from productgen.nets.stylegan2 import Widths

EXPANSION = 2  # width inside a block over that of its ends
SLOPE = 0.2  # of the leaky ReLU


def variance_scaling(gain: float = 1.0) -> nn.initializers.Initializer:
    """Normal values of standard deviation gain / sqrt(fan-in) (He et al. 2015)."""
    return nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal') if gain else nn.initializers.zeros


def linear(x: jax.Array, features: int, name: str, gain: float = 1.0) -> jax.Array:
    """Fully connected or 1x1 convolution without bias, [..., C] -> [..., features]."""
    return nn.Dense(features, use_bias=False, dtype=x.dtype, kernel_init=variance_scaling(gain), name=name)(x)


class Block(nn.Module):
    """x + f(x), [B, H, W, C] -> [B, H, W, C], f being 1x1, grouped 3x3 and 1x1 convolution; the last starts at zero.

    Attributes:
      group: channels a group of the 3x3 convolution; divides twice the width.
      depth: number of blocks L of the whole network. Initial weights are scaled by L^(-1 / (2m - 2)) for the m = 3
        layers of a block (Fixup, Zhang et al. 2019), so that a step moves networks of any depth alike.
    """

    group: int
    depth: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, inner = x.shape[-1], EXPANSION * x.shape[-1]
        gain = np.sqrt(2 / (1 + SLOPE**2)) * self.depth**-0.25
        y = self._activate(linear(x, inner, 'expand', gain), 'bias0')
        kernel = self.param('kernel', variance_scaling(gain), (3, 3, self.group, inner))
        y = self._activate(grouped_conv(y, kernel.astype(x.dtype)), 'bias1')
        return x + linear(y, width, 'project', gain=0.0)

    def _activate(self, x: jax.Array, name: str) -> jax.Array:
        bias = self.param(name, nn.initializers.zeros, (x.shape[-1],))
        return jax.nn.leaky_relu(add_bias(x, bias), SLOPE)


class Stages(nn.Module):
    """What both networks are made of.

    Attributes:
      base: size (h, w) of the coarsest level.
      widths: channels and precision by level.
      blocks: residual blocks a level, 2 in the paper.
      group: channels a group of their 3x3 convolutions.
    """

    base: tuple[int, int]
    widths: Widths
    blocks: int
    group: int

    def _blocks(self, x: jax.Array, level: int) -> jax.Array:
        depth = self.blocks * (self.widths.levels + 1)

        def blocks(net, x):
            for i in range(net.blocks):
                x = Block(net.group, depth, name=f'block{level}_{i}')(x)
            return x

        return recomputed(self, blocks, self.widths.remat, x)

    def _to_width(self, x: jax.Array, width: int, name: str) -> jax.Array:
        return x if x.shape[-1] == width else linear(x, width, name)


class Generator(Stages):
    """Latent and label to image, [B, Z] and one-hot [B, N] (None where unconditional) -> [B, H, W, 3].

    `keys` and `train` are those of every generator; nothing here is random or differs in training.
    """

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = True,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        if label is not None:
            embed = Embed(z.shape[-1], 1 / np.sqrt(label.shape[-1]), name='label')
            z = jnp.concatenate([z, embed(label, label_weight)], -1)
        width = self.widths.channels(0)
        basis = self.param('basis', nn.initializers.normal(1.0), (*self.base, width))
        x = basis * linear(z, width, 'latent')[:, None, None]  # [B, h, w, C]
        for level in range(self.widths.levels + 1):
            x = x.astype(self.widths.dtype(level))
            if level:
                x = resample.upsample(self._to_width(x, self.widths.channels(level), f'width{level}'))
            x = self._blocks(x, level)
        return linear(x.astype(jnp.float32), 3, 'to_rgb')


class Discriminator(Stages):
    """Image and label to judgement, [B, H, W, 3] and one-hot [B, N] (None where unconditional).

    Labels act by projection (Miyato and Koyama 2018), without a term of the image alone. `keys` and `train` are unused,
    as in the generator.

    Attributes:
      plain_head: whether there is a further logit that ignores the label.
    """

    plain_head: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = True
    ) -> Judgement:
        top = self.widths.levels
        x = linear(image.astype(self.widths.dtype(top)), self.widths.channels(top), 'from_rgb')
        for level in range(top, -1, -1):
            x = self._blocks(x.astype(self.widths.dtype(level)), level)
            if level:
                x = self._to_width(resample.downsample(x), self.widths.channels(level - 1), f'width{level}')
        x = x.astype(jnp.float32)
        width = x.shape[-1]
        # Published as a depthwise convolution as large as the image: a weighted mean of each channel.
        basis = self.param('basis', nn.initializers.normal(1 / np.sqrt(np.prod(self.base))), (*self.base, width))
        x = jnp.einsum('bhwc,hwc->bc', x, basis)
        plain = linear(x, 1, 'plain')[:, 0] if self.plain_head else None
        if label is None:
            return Judgement(linear(x, 1, 'logit')[:, 0], plain)
        embed = Embed(width, 1 / np.sqrt(label.shape[-1] * width), name='label')
        direction = embed(label) + self.param('direction', nn.initializers.zeros, (width,))
        return Judgement(jnp.sum(linear(x, width, 'features') * direction, -1), plain)
