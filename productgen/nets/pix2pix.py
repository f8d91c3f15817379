"""The U-Net generator and the PatchGAN discriminator of pix2pix.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, appendix 6.1: 4x4
convolutions of stride 2 and their transposes, leaky ReLUs of slope 0.2 on the way down, ReLUs on the way up, weights
from N(0, 0.02). A layer that a norm follows has no bias, which the norm would cancel.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conditioning import Judgement
from productgen.nets.conv import conv
from productgen.nets.dcgan import WEIGHTS
from productgen.nets.norms import Linear
from productgen.nets.strided import conv_double, conv_halve
from productgen.nets.translation import Norm, blur_halve, varied

DEEPEST = 8  # halvings of `unet_256`
WIDEST = 8  # times the channels next to the image


class UNet(nn.Module):
    """Image [B, H, W, C] -> image [B, H, W, outputs] in [-1, 1]; H and W are multiples of 2^depth.

    Attributes:
      depth: halvings, at least 2; 8 in `unet_256`, 7 in `unet_128`.
      width: channels next to the image (64), doubled at each level, 8 times as many at most.
      outputs: channels of the result.
      norm: see `Norm`; the first and the innermost level have none on the way down, the last none on the way up.
      dropout: fraction of the activations dropped on the way up, in the levels between the innermost and the four next
        to the image, whenever there are keys: it is the network's only source of randomness (section 3.2 of the paper).
      kernel_init: initialiser of every kernel.
    """

    depth: int
    width: int = 64
    outputs: int = 3
    norm: str = 'batch'
    dropout: float = 0.5
    kernel_init: Callable = WEIGHTS

    @property
    def random(self) -> bool:
        """Whether the result depends on the keys."""
        return self.dropout > 0 and self.depth > 5

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        keys: jax.Array | None = None,
        train: bool = False,
        strength: jax.Array | float = 1.0,
    ) -> jax.Array:
        """`keys` [B] are the samples' own; `strength`, 0 to 1, a number or [B], scales the effect of dropout."""
        widths = [self.width * min(2**i, WIDEST) for i in range(self.depth)]
        last = self.depth - 1

        def layer(name, width, product, x, bias):
            return Linear(width, (4, 4), product, bias=bias, kernel_init=self.kernel_init, name=name)(x)

        maps, x = [], image
        for i, width in enumerate(widths):
            bare = i in (0, last)
            x = layer(f'down{i}', width, conv_halve, jax.nn.leaky_relu(x, 0.2) if i else x, bare and self._biased)
            x = x if bare else Norm(self.norm, name=f'down_norm{i}')(x, train)
            maps.append(x)
        for i in reversed(range(1, self.depth)):
            x = layer(f'up{i}', widths[i - 1], conv_double, jax.nn.relu(x), self.norm == 'none')
            x = Norm(self.norm, name=f'up_norm{i}')(x, train)
            if 4 <= i < last:
                x = varied(x, self.dropout, None if keys is None else streams(keys, f'up{i}'), strength)
            x = jnp.concatenate([maps[i - 1], x], -1)
        return jnp.tanh(layer('up0', self.outputs, conv_double, jax.nn.relu(x), True))

    @property
    def _biased(self) -> bool:
        # The authors' code leaves biases out wherever the norm has some of its own.
        return self.norm not in ('batch', 'own')


class PatchGAN(nn.Module):
    """Image [B, H, W, C] and an image condition, or none -> `Judgement` of overlapping patches, logits [B, P].

    Attributes:
      layers: convolutions of stride 2; 3 gives patches of 70 x 70 pixels.
      width: channels after the first (64), doubled by each, 8 times as many at most.
      norm: see `Norm`; statistics of `batch` are always those of the batch. The first layer has none.
      antialias: filter before subsampling (CUT) instead of convolving with stride 2.
      kernel_init: initialiser of every kernel.
    """

    layers: int = 3
    width: int = 64
    norm: str = 'batch'
    antialias: bool = False
    kernel_init: Callable = WEIGHTS

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        condition: jax.Array | None = None,
        keys: jax.Array | None = None,
        train: bool = False,
    ) -> Judgement:
        x = image if condition is None else jnp.concatenate([condition, image], -1)
        for i in range(self.layers + 1):
            bias = i == 0 or self.norm == 'none'
            product = _flat if self.antialias or i == self.layers else conv_halve
            width = self.width * min(2**i, WIDEST)
            x = Linear(width, (4, 4), product, bias=bias, kernel_init=self.kernel_init, name=f'conv{i}')(x)
            if i:
                x = Norm(self.norm, running=False, name=f'norm{i}')(x, train)
            x = jax.nn.leaky_relu(x, 0.2)
            if self.antialias and i < self.layers:
                x = blur_halve(x)
        x = Linear(1, (4, 4), _flat, kernel_init=self.kernel_init, name='logit')(x)
        return Judgement(x.reshape(x.shape[0], -1))


def _flat(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 convolution of stride 1 and padding 1, [B, H, W, C] -> [B, H - 1, W - 1, D]."""
    return conv(x, kernel, (1, 1))


def patches(size: tuple[int, int], layers: int) -> int:
    """Number of patches that a `PatchGAN` judges of an image of (H, W); 0 where it is too small."""
    height, width = (max((side >> layers) - 2, 0) for side in size)
    return height * width
