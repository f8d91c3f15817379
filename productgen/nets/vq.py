"""Encoder, decoder and codebook of a VQ-VAE.

van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017 (section 4.1 for the networks, appendix A.1
for the exponential moving averages of the codebook), with widths and layer order of DeepMind's later reference settings
(Sonnet 2017; Razavi et al., "Generating Diverse High-Fidelity Images with VQ-VAE-2", NeurIPS 2019). Unlike in the
paper, unused codes are reset to vectors of the batch (Dhariwal et al., "Jukebox", 2020, section 3.1).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from productgen.nets.layers import Conv
from productgen.nets.vae import Resize

EPSILON = 1e-8  # of the Laplace smoothing, as a fraction of all vectors (in the paper 1e-5 of some thousand vectors)
EXACT = jax.lax.Precision.HIGHEST  # the rounding of accelerators would change which code is nearest


# Networks.


class Residuals(nn.Module):
    """Residual blocks of ReLU, 3x3 convolution, ReLU and 1x1 convolution, then a ReLU; keeps the shape.

    Attributes:
      blocks: number of blocks.
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
    """Images -> vectors, [B, H, W, 3] -> [B, H / 2^levels, W / 2^levels, features].

    Attributes:
      levels: number of convolutions of stride 2.
      width: channels; half as many after the first convolution.
      blocks: number of residual blocks at the lowest resolution.
      residual_width: channels inside residual blocks.
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
    """Vectors -> images, [B, h, w, D] -> [B, h 2^levels, w 2^levels, 3]; mirrors `Encoder`, whose fields it has."""

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
    """Codes as exponential moving averages of the vectors assigned to them.

    Counts are fractions of all vectors, so that nothing depends on the batch size.

    Attributes:
      usage: N, moving average of the fraction of vectors assigned to each code, [K].
      total: m, moving average of the sum of these vectors divided by the number of all vectors, [K, D].
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
    """Creates a codebook of normal vectors with negligible usage, so that the averages are unbiased from the start."""
    usage = jnp.full((size,), EPSILON, jnp.float32)
    return Codebook(usage, usage[:, None] * jax.random.normal(key, (size, width)))


def quantize(z: jax.Array, vectors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Replaces vectors by their nearest codes (equations 1 and 2).

    Args:
      z: [B, ..., D].
      vectors: [K, D].

    Returns:
      codes int32 [B, ...]; their vectors [B, ..., D], with the straight-through gradient to `z`; the commitment loss
      [B], the mean of (z - sg[e])^2 over positions and channels (third term of equation 3).
    """
    # |z - e|^2 without |z|^2, which is the same for all codes.
    distance = jnp.sum(jnp.square(vectors), -1) - 2 * jnp.einsum('...d,kd->...k', z, vectors, precision=EXACT)
    codes = jnp.argmin(distance, -1).astype(jnp.int32)
    nearest = vectors[codes]
    commitment = jnp.mean(jnp.square(z - jax.lax.stop_gradient(nearest)), range(1, z.ndim))
    return codes, z + jax.lax.stop_gradient(nearest - z), commitment


def tally(z: jax.Array, member: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts and sums the vectors assigned to each code, both divided by the number of vectors.

    Args:
      z: [..., D].
      member: bool [..., K].

    Returns:
      [K] and [K, D]; the mean over equal parts of a batch is the result for the batch.
    """
    member = member.reshape(-1, member.shape[-1]).astype(z.dtype)  # [n, K]
    total = jnp.einsum('nk,nd->kd', member, z.reshape(len(member), -1), precision=EXACT)
    return jnp.mean(member, 0), total / len(member)


def move(codebook: Codebook, usage: jax.Array, total: jax.Array, decay: float) -> Codebook:
    """Updates the moving averages with the `tally` of a batch (equations 6 to 8, appendix A.1)."""
    average = lambda old, new: decay * old + (1 - decay) * new
    return Codebook(average(codebook.usage, usage), average(codebook.total, total))


def revive(codebook: Codebook, candidates: jax.Array, threshold: float) -> tuple[Codebook, jax.Array]:
    """Resets dead codes to candidate vectors, with twice the usage at which a code counts as dead.

    Args:
      codebook: the codebook.
      candidates: a replacement vector per code, [K, D].
      threshold: codes whose usage is below this fraction of uniform usage are dead; 0 disables resets.

    Returns:
      the codebook; which codes were dead, bool [K].
    """
    least = threshold / codebook.usage.size
    dead = codebook.usage < least
    usage = jnp.where(dead, 2 * least, codebook.usage)
    return Codebook(usage, jnp.where(dead[:, None], 2 * least * candidates, codebook.total)), dead


def perplexity(usage: jax.Array) -> jax.Array:
    """Perplexity of usage fractions [K], exp of their entropy: the effective number of codes, K if used uniformly."""
    return jnp.exp(jnp.sum(jax.scipy.special.entr(usage)))
