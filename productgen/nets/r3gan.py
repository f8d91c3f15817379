"""Generator and discriminator of R3GAN.

Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline GAN", NeurIPS 2024, section 4 (configuration E):
two mirrored residual networks of inverted bottlenecks with grouped convolutions, bilinear resampling, and no
normalisation, noise, mapping network or minibatch statistics. Images are [B, H, W, 3] in about [-1, 1]; H x W is any
base x 2^n.

One difference: the discriminator projects its features on the label's embedding plus a learned vector, initially zero,
that does not depend on the label. Without it the logit of an image of unknown label would always be 0.
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

EXPANSION = 2  # inner width of a block over its outer width
SLOPE = 0.2  # of the leaky ReLU


def variance_scaling(gain: float = 1.0) -> nn.initializers.Initializer:
    """Normal initialiser of standard deviation gain / sqrt(fan-in) (He et al. 2015); zeros for gain 0."""
    return nn.initializers.variance_scaling(gain**2, 'fan_in', 'normal') if gain else nn.initializers.zeros


def linear(x: jax.Array, features: int, name: str, gain: float = 1.0) -> jax.Array:
    """Dense layer or 1x1 convolution without bias, [..., C] -> [..., features]."""
    return nn.Dense(features, use_bias=False, dtype=x.dtype, kernel_init=variance_scaling(gain), name=name)(x)


class Block(nn.Module):
    """Residual block, [B, H, W, C] -> [B, H, W, C]: 1x1, grouped 3x3 and 1x1 convolution, the last initially zero.

    Attributes:
      group: channels per group of the 3x3 convolution; divides twice the width.
      depth: number of blocks L of the network. Initial weights are scaled by L^(-1 / (2m - 2)) for the m = 3 layers of
        a block (Fixup, Zhang et al. 2019), so that an update changes the output equally at any depth.
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
    """Base class of both networks.

    Attributes:
      base: size (h, w) of the coarsest level.
      widths: channels and precision of each level.
      blocks: residual blocks per level, 2 in the paper.
      group: channels per group of their 3x3 convolutions.
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
    """Latent [B, Z] and one-hot label [B, N] (None where unconditional) -> image [B, H, W, 3].

    `keys` and `train` are part of the common interface of generators and are ignored.
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
    """Image [B, H, W, 3] and one-hot label [B, N] (None where unconditional) -> `Judgement`.

    Conditional by projection (Miyato and Koyama 2018), without its unconditional term. `keys` and `train` are ignored,
    as in the generator.

    Attributes:
      plain_head: add an unconditional logit.
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
        # In the paper a depthwise convolution of the size of the image: a weighted sum of each channel.
        basis = self.param('basis', nn.initializers.normal(1 / np.sqrt(np.prod(self.base))), (*self.base, width))
        x = jnp.einsum('bhwc,hwc->bc', x, basis)
        plain = linear(x, 1, 'plain')[:, 0] if self.plain_head else None
        if label is None:
            return Judgement(linear(x, 1, 'logit')[:, 0], plain)
        embed = Embed(width, 1 / np.sqrt(label.shape[-1] * width), name='label')
        direction = embed(label) + self.param('direction', nn.initializers.zeros, (width,))
        return Judgement(jnp.sum(linear(x, width, 'features') * direction, -1), plain)
