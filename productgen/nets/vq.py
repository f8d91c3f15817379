"""Encoder, decoder and codebook of a VQ-VAE.

van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017 (section 4.1 for the networks, appendix A.1
for the codebook as a running mean), in the widths and layer order of DeepMind's later reference settings (Sonnet 2017;
Razavi et al., "Generating Diverse High-Fidelity Images with VQ-VAE-2", NeurIPS 2019). Codes that fall out of use are
revived with vectors of the batch, which the paper does not do, after Dhariwal et al., "Jukebox", 2020, section 3.1.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from productgen.nets.layers import Conv
from productgen.nets.vae import Resize

EPSILON = 1e-8  # of the Laplace smoothing, as a share of all vectors (1e-5 vectors of some thousand, as published)
EXACT = jax.lax.Precision.HIGHEST  # what accelerators round away would give other nearest codes


# Networks.


class Residuals(nn.Module):
    """Residual blocks of ReLU, 3x3 convolution, ReLU, 1x1 convolution, and a ReLU behind them; keeps the shape.

    Attributes:
      blocks: their number.
      width: channels between the two convolutions.
    """

    blocks: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.blocks):
            y = Conv(self.width)(nn.relu(x))
            x = x + Conv(x.shape[-1], kernel=1)(nn.relu(y))
        return nn.relu(x)


class Encoder(nn.Module):
    """Images to vectors, [B, H, W, 3] -> [B, H / 2^levels, W / 2^levels, features].

    Attributes:
      levels: convolutions of stride 2.
      width: channels; half of them after the first convolution.
      blocks: residual blocks at the lowest size.
      residual_width: channels inside them.
      features: width of a vector.
    """

    levels: int
    width: int
    blocks: int
    residual_width: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for level in range(self.levels):
            x = nn.relu(Resize(self.width if level else self.width // 2)(x))
        x = Residuals(self.blocks, self.residual_width)(Conv(self.width)(x))
        return Conv(self.features, kernel=1)(x)


class Decoder(nn.Module):
    """Vectors to images, [B, h, w, D] -> [B, h 2^levels, w 2^levels, 3]; the mirror of `Encoder`, with its fields."""

    levels: int
    width: int
    blocks: int
    residual_width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Residuals(self.blocks, self.residual_width)(Conv(self.width)(x))
        for level in range(self.levels - 1, 0, -1):
            x = nn.relu(Resize(self.width // 2 if level == 1 else self.width, up=True)(x))
        return Resize(3, up=True)(x)


# The codebook.


@struct.dataclass
class Codebook:
    """Code vectors as running means of the vectors they stand for.

    Counts are shares of all vectors, so that nothing depends on the size of a batch.

    Attributes:
      usage: N, running share of the vectors that are nearest to each code, [K].
      total: m, running sum of these vectors, over the number of all vectors, [K, D].
    """

    usage: jax.Array
    total: jax.Array

    @property
    def vectors(self) -> jax.Array:
        """The codes e = m / N, [K, D], with Laplace smoothing of N."""
        n, k = jnp.sum(self.usage), self.usage.size
        smooth = (self.usage + EPSILON) / (n + k * EPSILON) * n
        return self.total / smooth[:, None]


def create_codebook(key: jax.Array, size: int, width: int) -> Codebook:
    """A codebook of normal vectors that weigh next to nothing: means are those of what comes, without bias."""
    usage = jnp.full((size,), EPSILON, jnp.float32)
    return Codebook(usage, usage[:, None] * jax.random.normal(key, (size, width)))


def quantize(z: jax.Array, vectors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Replaces vectors by the nearest codes (equations 1 and 2).

    Args:
      z: [B, ..., D].
      vectors: [K, D].

    Returns:
      codes int32 [B, ...]; their vectors [B, ..., D], whose gradient goes straight to `z`; the commitment term [B],
      mean of (z - sg[e])^2 over positions and channels (the third term of equation 3).
    """
    # |z - e|^2 without |z|^2, which all codes share.
    distance = jnp.sum(jnp.square(vectors), -1) - 2 * jnp.einsum('...d,kd->...k', z, vectors, precision=EXACT)
    codes = jnp.argmin(distance, -1).astype(jnp.int32)
    nearest = vectors[codes]
    commitment = jnp.mean(jnp.square(z - jax.lax.stop_gradient(nearest)), range(1, z.ndim))
    return codes, z + jax.lax.stop_gradient(nearest - z), commitment


def tally(z: jax.Array, member: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Shares and sums of the vectors that belong to each code, both over the number of vectors.

    Args:
      z: [..., D].
      member: bool [..., K].

    Returns:
      [K] and [K, D]; those of a batch are the means of those of its equal parts.
    """
    member = member.reshape(-1, member.shape[-1]).astype(z.dtype)  # [n, K]
    total = jnp.einsum('nk,nd->kd', member, z.reshape(len(member), -1), precision=EXACT)
    return jnp.mean(member, 0), total / len(member)


def move(codebook: Codebook, share: jax.Array, total: jax.Array, decay: float) -> Codebook:
    """Moves the running means by a batch's `tally` (equations 6 to 8, appendix A.1)."""
    toward = lambda old, new: decay * old + (1 - decay) * new
    return Codebook(toward(codebook.usage, share), toward(codebook.total, total))


def revive(codebook: Codebook, candidates: jax.Array, threshold: float) -> tuple[Codebook, jax.Array]:
    """Gives codes that are hardly used new vectors, and twice the usage of a dead one, so that they are soon judged.

    Args:
      codebook: the codebook.
      candidates: a vector for each code, in case, [K, D].
      threshold: codes used less than this share of even use are dead; 0 leaves all as they are.

    Returns:
      the codebook; which codes were dead, bool [K].
    """
    least = threshold / codebook.usage.size
    dead = codebook.usage < least
    usage = jnp.where(dead, 2 * least, codebook.usage)
    return Codebook(usage, jnp.where(dead[:, None], 2 * least * candidates, codebook.total)), dead


def perplexity(share: jax.Array) -> jax.Array:
    """exp of the entropy of shares [K]: how many codes are in use, K where all are used evenly."""
    return jnp.exp(jnp.sum(jax.scipy.special.entr(share)))
