"""Generator and discriminator of StyleGAN2.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020 (configuration F: skip generator,
residual discriminator), with the conditioning and mixed precision of Karras et al., "Training Generative Adversarial
Networks with Limited Data", NeurIPS 2020. Images are [B, H, W, 3] in about [-1, 1]; H x W is any base x 2^n.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.core.rng import streams
from productgen.nets import resample
from productgen.nets.conditioning import Judgement
from productgen.nets.conv import add_bias, conv_same
from productgen.nets.layers import (
    EqualDense,
    equal_kernel,
    leaky_relu,
    minibatch_stddev,
    normalize_second_moment,
    recomputed,
)


@dataclasses.dataclass(frozen=True)
class Widths:
    """Channels and precision of each level; level l has size base x 2^l.

    Attributes:
      channel_base: level l has channel_base / (4 x 2^l) channels ...
      channel_max: ... but at most this many.
      levels: number of doublings.
      bf16_levels: number of finest levels that compute in bfloat16, with clamped activations.
      remat: recompute the activations inside a level in the backward pass instead of storing them.
    """

    channel_base: int
    channel_max: int
    levels: int
    bf16_levels: int
    remat: bool = False

    @property
    def num_latents(self) -> int:
        """Number of w vectors of an image: one per style layer, which ToRGB layers share."""
        return 2 * self.levels + 2

    def channels(self, level: int) -> int:
        # Level 0 counts as size 4 for any base, as in the square networks of the paper.
        return min(self.channel_base // (4 << level), self.channel_max)

    def dtype(self, level: int):
        return jnp.bfloat16 if level > self.levels - self.bf16_levels else jnp.float32


def _clamp(x: jax.Array) -> jax.Array:
    """Clamps bfloat16 activations to +-256 (as in StyleGAN2-ADA)."""
    return jnp.clip(x, -256, 256) if x.dtype == jnp.bfloat16 else x


class Mapping(nn.Module):
    """Latent [B, Z] and one-hot label [B, N] -> intermediate latent w [B, W].

    Attributes:
      features: width of w and of the hidden layers.
      layers: number of fully connected layers.
      embed: width of the label embedding.
      lr_multiplier: relative learning rate of the layers, 0.01 in the paper; the embedding's is 1.
    """

    features: int
    layers: int
    embed: int
    lr_multiplier: float = 0.01

    @nn.compact
    def __call__(
        self, z: jax.Array | None, label: jax.Array | None, label_weight: jax.Array | float = 1.0
    ) -> jax.Array:
        parts = [] if z is None else [normalize_second_moment(z)]
        if label is not None:
            embedding = normalize_second_moment(EqualDense(self.embed, name='embed')(label))
            parts.append(embedding * jnp.asarray(label_weight, embedding.dtype))
        x = jnp.concatenate(parts, -1)
        for i in range(self.layers):
            x = leaky_relu(EqualDense(self.features, lr_multiplier=self.lr_multiplier, name=f'dense{i}')(x))
        return x


class ModulatedConv(nn.Module):
    """Convolution modulated by a style, x [B, H, W, C] and w [B, W] (StyleGAN2, section 2.2).

    Scaling the inputs and normalising the outputs of one dense convolution equals modulating and demodulating the
    weights of each sample (equations 1 and 3), without a grouped convolution.

    Attributes:
      features: output channels.
      kernel: side of the kernel.
      up: double H and W.
      demodulate: normalise the expected output to unit variance.
    """

    features: int
    kernel: int = 3
    up: bool = False
    demodulate: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        style = EqualDense(x.shape[-1], bias=1.0, name='style')(w)  # [B, C]
        kernel = equal_kernel(self, (self.kernel, self.kernel, x.shape[-1], self.features))
        y = x * style[:, None, None].astype(x.dtype)
        y = (resample.conv_up if self.up else conv_same)(y, kernel.astype(x.dtype))
        if self.demodulate:
            # sigma_j^2 = sum_ik (s_i w_ijk)^2: the style's square times the kernel's power.
            power = jnp.square(style) @ jnp.sum(jnp.square(kernel), (0, 1))  # [B, D]
            y = y * jax.lax.rsqrt(power + 1e-8)[:, None, None].astype(x.dtype)
        return y


class StyleLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation, [B, H, W, C] -> [B, H, W, features] or twice the size."""

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array, keys: jax.Array) -> jax.Array:
        x = ModulatedConv(self.features, up=self.up, name='conv')(x, w)
        strength = self.param('noise_strength', nn.initializers.zeros, ())
        noise = jax.vmap(lambda key: jax.random.normal(key, (*x.shape[1:3], 1)))(streams(keys, self.name))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        return _clamp(leaky_relu(add_bias(x + (strength * noise).astype(x.dtype), bias)))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB without demodulation, [B, H, W, C] -> float32 [B, H, W, 3]."""

    @nn.compact
    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        x = ModulatedConv(3, kernel=1, demodulate=False, name='conv')(x, w)
        bias = self.param('bias', nn.initializers.zeros, (3,))
        return _clamp(add_bias(x, bias)).astype(jnp.float32)


class Synthesis(nn.Module):
    """Intermediate latents [B, L, W], L = `widths.num_latents`, -> image [B, H, W, 3].

    Attributes:
      base: size (h, w) of the learned constant.
      widths: channels and precision of each level.
    """

    base: tuple[int, int]
    widths: Widths

    @nn.compact
    def __call__(self, ws: jax.Array, keys: jax.Array) -> jax.Array:
        width = self.widths.channels(0)
        x = self.param('constant', nn.initializers.normal(1.0), (*self.base, width))
        x = jnp.broadcast_to(x, (ws.shape[0], *x.shape))  # [B, h, w, C]
        x = StyleLayer(width, name='conv0_1')(x, ws[:, 0], keys)
        image = ToRGB(name='rgb0')(x, ws[:, 1])
        for level in range(1, self.widths.levels + 1):
            double = lambda net, *args, level=level: net._double(level, *args)
            x, image = recomputed(self, double, self.widths.remat, x, image, ws, keys)
        return image

    def _double(
        self, level: int, x: jax.Array, image: jax.Array, ws: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Computes features and image of a level from those of the next coarser one."""
        width, i = self.widths.channels(level), 2 * level - 1
        x = x.astype(self.widths.dtype(level))
        x = StyleLayer(width, up=True, name=f'conv{level}_0')(x, ws[:, i], keys)
        x = StyleLayer(width, name=f'conv{level}_1')(x, ws[:, i + 1], keys)
        return x, resample.upsample(image) + ToRGB(name=f'rgb{level}')(x, ws[:, i + 2])


class Generator(nn.Module):
    """Mapping and synthesis network.

    Attributes:
      base: size of the learned constant.
      widths: channels and precision of each level.
      w_dim: width of w and of the label embedding.
      mapping_layers: number of layers of the mapping network.
      mapping_lr: their relative learning rate.
    """

    base: tuple[int, int]
    widths: Widths
    w_dim: int
    mapping_layers: int
    mapping_lr: float = 0.01

    def setup(self):
        self.mapping = Mapping(self.w_dim, self.mapping_layers, self.w_dim, self.mapping_lr)
        self.synthesis = Synthesis(self.base, self.widths)

    def map(self, z: jax.Array, label: jax.Array | None, label_weight: jax.Array | float = 1.0) -> jax.Array:
        """Maps z [B, Z] and one-hot labels [B, N] (None where unconditional) to w [B, W]."""
        return self.mapping(z, label, label_weight)

    def synthesize(self, ws: jax.Array, keys: jax.Array) -> jax.Array:
        """Synthesizes images [B, H, W, 3] from ws [B, L, W] and noise keys [B]."""
        return self.synthesis(ws, keys)

    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        """z [B, Z], labels and noise keys [B] -> images [B, H, W, 3]; `train` is ignored."""
        w = self.map(z, label, label_weight)
        return self.synthesize(jnp.repeat(w[:, None], self.widths.num_latents, 1), keys)


class DownLayer(nn.Module):
    """Discriminator layer: convolution, bias and activation.

    `down` filters and halves H and W; skip connections set `activate` to False.
    """

    features: int
    kernel: int = 3
    down: bool = False
    activate: bool = True
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = equal_kernel(self, (self.kernel, self.kernel, x.shape[-1], self.features)).astype(x.dtype)
        if self.down and self.kernel == 1:
            x = conv_same(resample.downsample(x), kernel)
        else:
            x = (resample.conv_down if self.down else conv_same)(x, kernel)
        if self.activate:
            x = leaky_relu(add_bias(x, self.param('bias', nn.initializers.zeros, (self.features,))))
        return _clamp(x * jnp.asarray(self.gain, x.dtype))


class Discriminator(nn.Module):
    """Image [B, H, W, 3] and one-hot label [B, N] -> `Judgement`.

    Conditional by projection (Miyato and Koyama 2018) on the output of a mapping network of the label (StyleGAN2-ADA).

    Attributes:
      widths: channels and precision of each level.
      stddev_group: samples per group of the minibatch standard deviation; 0 omits the layer.
      label_layers: number of layers of the label's mapping network.
      plain_head: add an unconditional logit.
    """

    widths: Widths
    stddev_group: int
    label_layers: int
    plain_head: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = False
    ) -> Judgement:
        top = self.widths.levels
        x = image.astype(self.widths.dtype(top))
        x = DownLayer(self.widths.channels(top), kernel=1, name='from_rgb')(x)
        for level in range(top, 0, -1):
            x = recomputed(self, lambda net, x, level=level: net._halve(level, x), self.widths.remat, x)
        x = x.astype(jnp.float32)
        width = self.widths.channels(0)
        if self.stddev_group:
            x = minibatch_stddev(x, self.stddev_group)
        x = DownLayer(width, name='conv0')(x)
        x = leaky_relu(EqualDense(width, name='dense')(x.reshape(x.shape[0], -1)))  # [B, C]
        plain = EqualDense(1, name='plain')(x)[:, 0] if self.plain_head else None
        if label is None:
            return Judgement(EqualDense(1, name='logit')(x)[:, 0], plain)
        x = EqualDense(width, name='logit')(x)
        embedding = Mapping(width, self.label_layers, width, name='label')(None, label)
        return Judgement(jnp.sum(x * embedding, -1) / np.sqrt(width), plain)

    def _halve(self, level: int, x: jax.Array) -> jax.Array:
        """Residual block, from a level to the next coarser one."""
        x = x.astype(self.widths.dtype(level))
        width, half = self.widths.channels(level - 1), np.sqrt(0.5)
        skip = DownLayer(width, kernel=1, down=True, activate=False, gain=half, name=f'skip{level}')(x)
        x = DownLayer(self.widths.channels(level), name=f'conv{level}_0')(x)
        return DownLayer(width, down=True, gain=half, name=f'conv{level}_1')(x) + skip
