"""Inception-v3 for the Frechet Inception distance.

The network is that of Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, in the
TensorFlow graph of 2015-12-05 that Heusel et al. (2017) used. It differs from later releases: average pools exclude the
padding, the last block has a max pool, and there are 1008 classes. Tensors are named as in pytorch-fid's conversion,
`pt_inception-2015-12-05-6726825d.pth`; torch-fidelity's has the same names.

The resizing of images to 299 x 299 is part of the protocol, of which two are in use; see `PROTOCOLS`.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.features.layers import Conv, Published, max_pool
from productgen.nets.norms import BatchNorm

SIZE = 299
CLASSES = 1008


def resize_bilinear(image: jax.Array, size: int, half_pixel: bool) -> jax.Array:
    """Bilinear interpolation without antialiasing, [B, H, W, C] -> [B, size, size, C].

    Args:
      image: float.
      size: side of the result.
      half_pixel: if True, pixel i is read at (i + 1/2) N / size - 1/2, clamped at 0 (PyTorch's `bilinear` with
        align_corners=False); if False, at i N / size (TensorFlow 1's `resize_bilinear` with align_corners=False).
    """
    for axis in (2, 1):
        length = image.shape[axis]
        half = np.float32(0.5 if half_pixel else 0)
        source = (np.arange(size, dtype=np.float32) + half) * np.float32(length / size) - half
        source = np.clip(source, 0, length - 1)
        low = source.astype(int)
        fraction = jnp.asarray((source - low).reshape(-1, *[1] * (3 - axis)), image.dtype)
        below, above = (jnp.take(image, i, axis) for i in (low, np.minimum(low + 1, length - 1)))
        image = below + (above - below) * fraction
    return image


def torch_fidelity(image: jax.Array) -> jax.Array:
    """Resizes as TensorFlow 1 does, then (x - 128) / 128."""
    return (resize_bilinear(image.astype(jnp.float32), SIZE, half_pixel=False) - 128) / 128


def pytorch_fid(image: jax.Array) -> jax.Array:
    """Resizes x / 255 as PyTorch does, then 2 x - 1."""
    return 2 * resize_bilinear(image.astype(jnp.float32) / 255, SIZE, half_pixel=True) - 1


# Images [B, H, W, 3] with values 0 to 255 -> input of the network [B, 299, 299, 3].
PROTOCOLS: dict[str, Callable[[jax.Array], jax.Array]] = {'torch-fidelity': torch_fidelity, 'pytorch-fid': pytorch_fid}


class Layer(nn.Module):
    """Convolution, batch norm and ReLU; keeps H and W if `stride` is 1 and `padded` is True."""

    features: int
    size: tuple[int, int] = (1, 1)
    stride: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h, w = self.size
        padding = (h // 2, w // 2) if self.padded and self.stride == 1 else (0, 0)
        x = Conv(self.features, self.size, self.stride, padding, bias=False, name='conv')(x)
        return nn.relu(BatchNorm(eps=1e-3, name='bn')(x, train=False))


def _avg_pool(x: jax.Array) -> jax.Array:
    """3 x 3 average pooling of stride 1 that excludes the padding."""
    return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=False)


def _chain(x: jax.Array, name: str, *layers: tuple) -> jax.Array:
    """Applies one `Layer` per tuple of fields in sequence, named `name_1`, `name_2`, ..."""
    for i, fields in enumerate(layers, 1):
        x = Layer(*fields, name=f'{name}_{i}')(x)
    return x


class MixedA(nn.Module):
    """Block at 35 x 35; `pool` is the width of the pooling branch."""

    pool: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            Layer(64, name='branch1x1')(x),
            _chain(x, 'branch5x5', (48,), (64, (5, 5))),
            _chain(x, 'branch3x3dbl', (64,), (96, (3, 3)), (96, (3, 3))),
            Layer(self.pool, name='branch_pool')(_avg_pool(x)),
        ]
        return jnp.concatenate(branches, -1)


class MixedB(nn.Module):
    """Block from 35 x 35 to 17 x 17."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            Layer(384, (3, 3), 2, name='branch3x3')(x),
            _chain(x, 'branch3x3dbl', (64,), (96, (3, 3)), (96, (3, 3), 2)),
            max_pool(x, 3, 2),
        ]
        return jnp.concatenate(branches, -1)


class MixedC(nn.Module):
    """Block at 17 x 17; `width` is that of the factorised 7x7 convolutions."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, row, column = self.width, (1, 7), (7, 1)
        double = ((n,), (n, column), (n, row), (n, column), (192, row))
        branches = [
            Layer(192, name='branch1x1')(x),
            _chain(x, 'branch7x7', (n,), (n, row), (192, column)),
            _chain(x, 'branch7x7dbl', *double),
            Layer(192, name='branch_pool')(_avg_pool(x)),
        ]
        return jnp.concatenate(branches, -1)


class MixedD(nn.Module):
    """Block from 17 x 17 to 8 x 8."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            _chain(x, 'branch3x3', (192,), (320, (3, 3), 2)),
            _chain(x, 'branch7x7x3', (192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2)),
            max_pool(x, 3, 2),
        ]
        return jnp.concatenate(branches, -1)


class MixedE(nn.Module):
    """Block at 8 x 8; `max_pooled`, for the last block, replaces average by max pooling, as in the graph."""

    max_pooled: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def fork(y, name):
            return [Layer(384, (1, 3), name=f'{name}a')(y), Layer(384, (3, 1), name=f'{name}b')(y)]

        pooled = max_pool(x, 3, 1, padding=1) if self.max_pooled else _avg_pool(x)
        branches = [
            Layer(320, name='branch1x1')(x),
            *fork(_chain(x, 'branch3x3', (384,)), 'branch3x3_2'),
            *fork(_chain(x, 'branch3x3dbl', (448,), (384, (3, 3))), 'branch3x3dbl_3'),
            Layer(192, name='branch_pool')(pooled),
        ]
        return jnp.concatenate(branches, -1)


class Head(nn.Module):
    """Features [B, C] -> logits [B, classes], without and with the bias."""

    classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = x @ self.param('kernel', nn.initializers.lecun_normal(), (x.shape[-1], self.classes))
        return x, x + self.param('bias', nn.initializers.zeros, (self.classes,))


class InceptionV3(Published):
    """Inception-v3; see the module docstring."""

    @nn.compact
    def __call__(self, x: jax.Array) -> dict[str, jax.Array]:
        """Takes images [B, 299, 299, 3] in [-1, 1], as a function of `PROTOCOLS` returns them.

        Matrix products are computed in full float32 precision on all devices: a GPU's default precision changes FID.

        Returns:
          features `64`, `192`, `768` and `2048`, [B, 64] and so on, averaged over H and W: after the two pools, of the
          last 17 x 17 block and of the last block. FID uses `2048`. `logits` [B, 1008] and, for the Inception score,
          `logits_unbiased`, the logits without bias. Under `jit` only what is used is computed.
        """
        features = {}
        mean = lambda x: jnp.mean(x, (1, 2))
        with jax.default_matmul_precision('float32'):
            x = Layer(32, (3, 3), 2, name='Conv2d_1a_3x3')(x)  # [B, 149, 149, 32]
            x = Layer(32, (3, 3), padded=False, name='Conv2d_2a_3x3')(x)
            x = max_pool(Layer(64, (3, 3), name='Conv2d_2b_3x3')(x), 3, 2)  # [B, 73, 73, 64]
            features['64'] = mean(x)
            x = Layer(80, name='Conv2d_3b_1x1')(x)
            x = max_pool(Layer(192, (3, 3), padded=False, name='Conv2d_4a_3x3')(x), 3, 2)  # [B, 35, 35, 192]
            features['192'] = mean(x)
            for name, pool in (('b', 32), ('c', 64), ('d', 64)):
                x = MixedA(pool, name=f'Mixed_5{name}')(x)
            x = MixedB(name='Mixed_6a')(x)  # [B, 17, 17, 768]
            for name, width in (('b', 128), ('c', 160), ('d', 160), ('e', 192)):
                x = MixedC(width, name=f'Mixed_6{name}')(x)
            features['768'] = mean(x)
            x = MixedD(name='Mixed_7a')(x)  # [B, 8, 8, 1280]
            x = MixedE(False, name='Mixed_7b')(x)
            features['2048'] = mean(MixedE(True, name='Mixed_7c')(x))
            features['logits_unbiased'], features['logits'] = Head(CLASSES, name='fc')(features['2048'])
        return features

    def example(self) -> tuple[jax.Array, ...]:
        return (jnp.zeros((1, SIZE, SIZE, 3)),)
