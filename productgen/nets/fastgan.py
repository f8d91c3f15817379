"""The generator of FastGAN, as Projected GAN uses it.

Liu et al., "Towards Faster and Stabilized GAN Training for High-fidelity Few-shot Image Synthesis", ICLR 2021; Sauer et
al., "Projected GANs Converge Faster", NeurIPS 2021, whose version scales z to a sphere and leaves the image without
tanh. H x W is any base x 2^n.

Labels are additional gains and biases of batch norm, one row per value, as in `nets.norms.BatchNorm`. In the authors'
code they are linear functions, with spectral normalisation, of an embedding of the class, whose standard deviation is
about 0.5 at the start; here they start as random and as large, but an image may have several attributes, and an unknown
one changes nothing. Each noise has its own strength (there the two of a conditional block share one).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from productgen.core.rng import streams
from productgen.nets.conv import conv_same
from productgen.nets.layers import normalize_second_moment
from productgen.nets.norms import TORCH_INIT, BatchNorm, Linear
from productgen.nets.strided import up_conv

LABELS = 0.5  # standard deviation of the initial gains and biases of labels


def glu(x: jax.Array) -> jax.Array:
    """Gated linear unit (Dauphin et al. 2017), [..., 2C] -> [..., C]."""
    x, gate = jnp.split(x, 2, -1)
    return x * jax.nn.sigmoid(gate)


class Layer(nn.Module):
    """Convolution, noise, batch norm and GLU, [B, H, W, C] -> [B, H, W, features] or twice the size.

    Attributes:
      features: output channels.
      up: upsample first.
      noise: add noise, of a strength that starts at 0.
    """

    features: int
    up: bool
    noise: bool

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        label: jax.Array | None,
        keys: jax.Array | None,
        label_weight: jax.Array | float,
    ) -> jax.Array:
        product = up_conv if self.up else conv_same
        layer = Linear(
            2 * self.features, (3, 3), product, bias=False, spectral=True, kernel_init=TORCH_INIT, name='conv'
        )
        x = layer(x, train)
        if self.noise:
            strength = self.param('noise_strength', nn.initializers.zeros, ())
            noise = jax.vmap(lambda key: jax.random.normal(key, (*x.shape[1:3], 1)))(streams(keys, self.name))
            x = x + (strength * noise).astype(x.dtype)
        norm = BatchNorm(label_init=nn.initializers.normal(LABELS), name='norm')
        return glu(norm(x, train, label, label_weight))


class Excitation(nn.Module):
    """Skip-layer excitation (FastGAN, section 3.1): a coarse map scales the channels of a fine one.

    Attributes:
      base: (h, w) that the coarse map is pooled to.
    """

    base: tuple[int, int]

    @nn.compact
    def __call__(self, coarse: jax.Array, fine: jax.Array, train: bool) -> jax.Array:
        """Coarse [B, 2^i h, 2^i w, C] and fine [B, H, W, D] -> [B, H, W, D]."""
        (h, w), (b, height, width, channels) = self.base, coarse.shape
        x = jnp.mean(coarse.reshape(b, h, height // h, w, width // w, channels), (2, 4))  # [B, h, w, C]
        shared = {'bias': False, 'spectral': True, 'kernel_init': TORCH_INIT}
        everywhere = lambda x, kernel: jnp.einsum('bhwc,hwcd->bd', x, kernel)
        x = nn.silu(Linear(fine.shape[-1], self.base, everywhere, name='conv', **shared)(x, train))
        x = nn.sigmoid(Linear(fine.shape[-1], name='dense', **shared)(x, train))  # [B, D]
        return fine * x[:, None, None]


class Generator(nn.Module):
    """z [B, Z] and one-hot label [B, N] -> images [B, H, W, 3], about in [-1, 1].

    Attributes:
      base: (h, w) = (H, W) / 2^n.
      widths: channels of the n + 1 levels, coarsest first; 16, 8, 4, 2, 2, 1 and 0.5 times 128 in the paper (256 x
        256).
      reach: levels from a map to the one that it excites: 4 in the paper, a map 16 times as large.
      layers: convolutions per level: 2, or 1 without noise (the paper's smaller version).
    """

    base: tuple[int, int]
    widths: tuple[int, ...]
    reach: int = 4
    layers: int = 2

    @nn.compact
    def __call__(
        self,
        z: jax.Array,
        label: jax.Array | None,
        keys: jax.Array | None = None,
        train: bool = False,
        label_weight: jax.Array | float = 1.0,
    ) -> jax.Array:
        spread = lambda z, kernel: jnp.einsum('bz,hwzc->bhwc', z, kernel)  # a transposed convolution of one pixel
        first = Linear(
            2 * self.widths[0], self.base, spread, bias=False, spectral=True, kernel_init=TORCH_INIT, name='z'
        )
        x = glu(BatchNorm(name='norm')(first(normalize_second_moment(z), train), train))
        maps = [x]  # [B, h, w, C]
        for level, width in enumerate(self.widths[1:], 1):
            for i in range(self.layers):
                layer = Layer(width, up=not i, noise=self.layers > 1, name=f'level{level}_{i}')
                x = layer(x, train, label, keys, label_weight)
            if level >= self.reach:
                x = Excitation(self.base, name=f'excitation{level}')(maps[level - self.reach], x, train)
            maps.append(x)
        return Linear(3, (3, 3), conv_same, spectral=True, kernel_init=TORCH_INIT, name='image')(x, train)
