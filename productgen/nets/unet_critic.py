"""The discriminator of Real-ESRGAN: a U-Net that judges every pixel."""

from __future__ import annotations

import flax.linen as nn
import jax

from productgen.nets.conditioning import Judgement
from productgen.nets.conv import conv_same
from productgen.nets.norms import TORCH_INIT, Linear
from productgen.nets.strided import conv_halve


class UNetCritic(nn.Module):
    """Image [B, H, W, C] -> `Judgement` of each pixel, logits [B, H W].

    Wang et al., "Real-ESRGAN", ICCVW 2021, section 3.4: spectral normalisation of all layers but the first and the
    last, skip connections, bilinear enlargement.

    Attributes:
      width: channels at full size, 64 in the paper; twice as many at each half.
    """

    width: int = 64

    stride = 8  # sides of images are multiples of this

    @nn.compact
    def __call__(
        self,
        image: jax.Array,
        condition: jax.Array | None = None,
        keys: jax.Array | None = None,
        train: bool = False,
    ) -> Judgement:
        def layer(x: jax.Array, i: int, features: int, size: int = 3, plain: bool = False) -> jax.Array:
            product = conv_halve if size == 4 else conv_same
            options = {'bias': plain, 'spectral': not plain, 'kernel_init': TORCH_INIT}
            return Linear(features, (size, size), product, name=f'conv{i}', **options)(x, train)

        active = lambda x: nn.leaky_relu(x, 0.2)
        maps = [active(layer(image, 0, self.width, plain=True))]
        for i in (1, 2, 3):
            maps.append(active(layer(maps[-1], i, self.width << i, 4)))
        x = maps.pop()
        for i in (4, 5, 6):
            skip = maps.pop()
            x = jax.image.resize(x, (*skip.shape[:3], x.shape[-1]), 'bilinear')
            x = active(layer(x, i, skip.shape[-1])) + skip
        for i in (7, 8):
            x = active(layer(x, i, self.width))
        return Judgement(layer(x, 9, 1, plain=True).reshape(len(image), -1))
