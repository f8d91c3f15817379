"""The residual generator of CycleGAN, with the antialiased resampling of CUT, and CUT's projection heads.

Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", ICCV 2017, appendix 7.2,
after Johnson et al. 2016: `c7s1-64,d128,d256,R256 x 9,u128,u64,c7s1-3` with instance norm and reflection padding.
Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, appendix C.2.
A layer that a norm follows has no bias, which the norm would cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conv import conv, conv_same
from productgen.nets.dcgan import WEIGHTS
from productgen.nets.norms import Linear
from productgen.nets.strided import double_padded, halve_padded
from productgen.nets.translation import Norm, blur_double, blur_halve, mirrored, varied

TAPPED = (1, 5)  # residual blocks whose output CUT compares; besides these the image and the two downsampling layers


def _around(margin: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A convolution of stride 1 whose padding is a reflection."""
    return lambda x, kernel: conv(mirrored(x, margin), kernel)


class ResNet(nn.Module):
    """Image [B, H, W, C] -> image [B, H, W, outputs] in [-1, 1]; H and W are multiples of 4, at least 8.

    Attributes:
      blocks: residual blocks; 9 in the papers, 6 for images of 128 x 128 and smaller.
      width: channels next to the image (64); four times as many in the blocks.
      outputs: channels of the result.
      norm: see `Norm`.
      dropout: fraction of the activations inside a residual block dropped where there are keys.
      antialias: filter before subsampling and interpolate before convolving (CUT), instead of convolutions of stride 2
        and their transposes (CycleGAN).
      kernel_init: initialiser of every kernel.
    """

    blocks: int = 9
    width: int = 64
    outputs: int = 3
    norm: str = 'instance'
    dropout: float = 0.0
    antialias: bool = False
    kernel_init: Callable = WEIGHTS

    @property
    def random(self) -> bool:
        """Whether the result depends on the keys."""
        return self.dropout > 0

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        keys: jax.Array | None = None,
        train: bool = False,
        strength: jax.Array | float = 1.0,
        taps: bool = False,
    ) -> jax.Array | list[jax.Array]:
        """The image; with `taps` the maps that CUT compares, and nothing after the last of them is computed.

        Args:
          image: [B, H, W, C].
          keys: the samples' own, [B], for dropout.
          train: use the statistics of the batch.
          strength: scales the effect of dropout, 0 to 1, a number or [B].
          taps: return the image itself, the outputs of the two downsampling convolutions, and those of the first and
            the fifth block, or of the last where there are fewer.
        """

        def layer(name, width, size, product, x, bias=self.norm == 'none'):
            return Linear(width, (size, size), product, bias=bias, kernel_init=self.kernel_init, name=name)(x)

        def normed(name, x):
            return Norm(self.norm, name=name)(x, train)

        maps = [image]
        x = jax.nn.relu(normed('norm_in', layer('in', self.width, 7, _around(3), image)))
        for i in (1, 2):
            x = layer(f'down{i}', self.width << i, 3, conv_same if self.antialias else halve_padded, x)
            maps.append(x)
            x = jax.nn.relu(normed(f'down_norm{i}', x))
            x = blur_halve(x) if self.antialias else x
        last = min(TAPPED[-1], self.blocks)
        for i in range(1, self.blocks + 1):
            y = layer(f'block{i}a', self.width * 4, 3, _around(1), x)
            y = jax.nn.relu(normed(f'block_norm{i}a', y))
            y = varied(y, self.dropout, None if keys is None else streams(keys, f'block{i}'), strength)
            y = layer(f'block{i}b', self.width * 4, 3, _around(1), y)
            x = x + normed(f'block_norm{i}b', y)
            if i in (TAPPED[0], last):
                maps.append(x)
            if taps and i == last:
                return maps
        for i in (2, 1):
            x = blur_double(x) if self.antialias else x
            x = layer(f'up{i}', self.width << i - 1, 3, conv_same if self.antialias else double_padded, x)
            x = jax.nn.relu(normed(f'up_norm{i}', x))
        return jnp.tanh(layer('image', self.outputs, 7, _around(3), x, bias=True))


class Projector(nn.Module):
    """Unit vectors of features of patches: a multilayer perceptron of two layers for each map.

    Attributes:
      features: width of both layers (256).
      kernel_init: initialiser of every matrix.
    """

    features: int = 256
    kernel_init: Callable = WEIGHTS

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> list[jax.Array]:
        """Features [B, S, C] of S patches of each map -> unit vectors [B, S, features] each."""
        found = []
        for i, x in enumerate(maps):
            for j in (0, 1):
                x = Linear(self.features, kernel_init=self.kernel_init, name=f'map{i}_{j}')(x)
                x = x if j else jax.nn.relu(x)
            # Not divided by the norm, whose gradient is not finite at 0, where all units of the first layer are off.
            found.append(x * jax.lax.rsqrt(jnp.sum(jnp.square(x), -1, keepdims=True) + 1e-14))
        return found
