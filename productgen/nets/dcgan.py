"""Generator and discriminator of DCGAN.

Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", ICLR
2016: 4x4 convolutions of stride 2 and their transposes, batch norm except at the image, ReLU in the generator, leaky
ReLU of slope 0.2 in the discriminator, weights from N(0, 0.02). z is normal, not uniform; H x W is any base x 2^n.
Layers followed by a norm have no bias: the norm would cancel it (after z it would be a learned mean image).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conditioning import Embed, Head, Judgement, join
from productgen.nets.layers import dropout
from productgen.nets.norms import BatchNorm, LayerNorm, Linear
from productgen.nets.strided import conv_double, conv_halve

WEIGHTS = nn.initializers.normal(0.02)


def gains(key, shape, dtype=jnp.float32):
    """Initialises the gains of batch norm from N(1, 0.02), as in the authors' code."""
    return 1 + WEIGHTS(key, shape, dtype)


class Generator(nn.Module):
    """z [B, Z] and one-hot label [B, N] -> images [B, H, W, 3] in [-1, 1].

    Attributes:
      base: (h, w) = (H, W) / 2^n.
      widths: channels of the n levels below the image, coarsest first; 1024, 512, 256, 128 in the paper (64 x 64).
      condition: `concat` appends the label's embedding to z; `batch_norm` makes every norm conditional.
      embed: width of the embedding.
    """

    base: tuple[int, int]
    widths: tuple[int, ...]
    condition: str = 'concat'
    embed: int = 0

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        if label is not None and self.condition == 'concat':
            z, label = join(z, Embed(self.embed, name='label')(label, label_weight)), None
        (h, w), width = self.base, self.widths[0]
        x = Linear(h * w * width, bias=False, kernel_init=WEIGHTS, name='dense')(z).reshape(-1, h, w, width)
        for i, width in enumerate(self.widths):
            if i:
                x = Linear(width, (4, 4), conv_double, bias=False, kernel_init=WEIGHTS, name=f'conv{i}')(x)
            x = jax.nn.relu(BatchNorm(gain=gains, name=f'norm{i}')(x, train, label, label_weight))
        return jnp.tanh(Linear(3, (4, 4), conv_double, kernel_init=WEIGHTS, name='image')(x))


class Discriminator(nn.Module):
    """Image [B, H, W, 3] and one-hot label [B, N] -> `Judgement`.

    Attributes:
      widths: channels of the levels below the image, finest first; 128, 256, 512, 1024 in the paper (64 x 64).
      condition: `concat` appends the label's embedding to the image as constant channels; for others see `Head`.
      sizes: number of values of each attribute, for `classes`.
      embed: width of the embedding, for `concat`.
      norm: `batch`, `layer` or `none`; the first layer has none.
      spectral: apply spectral normalisation to every layer.
      dropout: dropout rate of every hidden layer.
      plain_head: add an unconditional logit.
    """

    widths: tuple[int, ...]
    condition: str = 'concat'
    sizes: tuple[int, ...] = ()
    embed: int = 0
    norm: str = 'batch'
    spectral: bool = False
    dropout: float = 0.0
    plain_head: bool = False

    @nn.compact
    def __call__(
        self, image: jax.Array, label: jax.Array | None, keys: jax.Array | None = None, train: bool = False
    ) -> Judgement:
        x = image
        if label is not None and self.condition == 'concat':
            x = join(x, Embed(self.embed, name='label')(label))
        for i, width in enumerate(self.widths):
            norm = self.norm if i else 'none'
            layer = {'bias': norm == 'none', 'spectral': self.spectral, 'kernel_init': WEIGHTS, 'name': f'conv{i}'}
            x = Linear(width, (4, 4), conv_halve, **layer)(x, train)
            if norm == 'batch':
                x = BatchNorm(running=False, gain=gains, name=f'norm{i}')(x, train)
            elif norm == 'layer':
                x = LayerNorm(name=f'norm{i}')(x)
            x = jax.nn.leaky_relu(x, 0.2)
            if train and self.dropout:
                x = dropout(x, self.dropout, streams(keys, f'dropout{i}'))
        head = Head(self.condition, self.sizes, self.plain_head, self.spectral, WEIGHTS, name='head')
        return head(x.reshape(x.shape[0], -1), label, train)  # [B, h w C]
