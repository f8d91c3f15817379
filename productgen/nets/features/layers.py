"""Base class and layers of the published networks: equivalents of PyTorch's layers, and conversion of weights.

Modules are named like the published tensors, including dots: the kernel `params['features.0']['kernel']` is the
published `features.0.weight`. So one function converts the weights of all networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from productgen.nets.conv import conv

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Linen's names -> PyTorch's; a gain is a `weight` too.
_LEAVES = {'kernel': 'weight', 'gain': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
_COUNTER = '.num_batches_tracked'  # of batch norms in newer files; not needed for inference


def normalize_imagenet(image: jax.Array) -> jax.Array:
    """Converts images [..., 3] in [-1, 1] to the normalisation of torchvision's networks."""
    return (image * 0.5 + 0.5 - jnp.asarray(IMAGENET_MEAN, image.dtype)) / jnp.asarray(IMAGENET_STD, image.dtype)


def strided_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: tuple[int, int]) -> jax.Array:
    """Strided convolution (cross-correlation), computed exactly as a stride-1 one over blocks of pixels.

    So its gradients need no `lhs_dilation`, which is slow.

    Args:
      x: [B, H, W, C].
      kernel: [h, w, C, D].
      stride: stride of both axes.
      padding: zeros on each side of H and of W.

    Returns:
      [B, (H + 2 padding - h) // stride + 1, ..., D].
    """
    if stride == 1:
        return conv(x, kernel, padding)
    if kernel.shape[:2] == (1, 1):
        return conv(x[:, ::stride, ::stride], kernel)
    zero, none = jnp.zeros((), x.dtype), (0, 0, 0)
    margins, grow, blocks = [], [], []
    for length, size, pad in zip(x.shape[1:3], kernel.shape[:2], padding, strict=True):
        count = -(-size // stride)  # blocks under the kernel
        total = stride * ((length + 2 * pad - size) // stride + count)
        margins.append((pad, total - length - pad, 0))  # negative where no window covers the last pixels
        grow.append((0, count * stride - size, 0))
        blocks.append(count)
    x = jax.lax.pad(x, zero, [none, *margins, none])
    kernel = jax.lax.pad(kernel, jnp.zeros((), kernel.dtype), [*grow, none, none])
    b, h, w, c = x.shape
    x = x.reshape(b, h // stride, stride, w // stride, stride, c).transpose(0, 1, 3, 2, 4, 5)  # [B, H, W, s, s, C]
    kernel = kernel.reshape(blocks[0], stride, blocks[1], stride, c, -1).transpose(0, 2, 1, 3, 4, 5)
    deep = stride * stride * c
    return conv(x.reshape(*x.shape[:3], deep), kernel.reshape(*blocks, deep, -1))


class Conv(nn.Module):
    """Convolution, [B, H, W, C] -> [B, H', W', features].

    Attributes:
      features: output channels.
      size: (h, w) of the kernel.
      stride: stride of both axes.
      padding: zeros on each side of H and of W.
      bias: whether to add a bias.
    """

    features: int
    size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.size, x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.he_normal(), shape)
        x = strided_conv(x, kernel, self.stride, self.padding)
        return x + self.param('bias', nn.initializers.zeros, (self.features,)) if self.bias else x


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0, ceil: bool = False) -> jax.Array:
    """Max pooling, as PyTorch's `MaxPool2d`.

    Args:
      x: [B, H, W, C].
      size: side of a window.
      stride: distance between windows.
      padding: padding on each side, which never is the maximum.
      ceil: PyTorch's `ceil_mode`: a last window may extend beyond the image.
    """
    margins = []
    for length in x.shape[1:3]:
        beyond = -(length + 2 * padding - size) % stride if ceil else 0
        if ceil and length + 2 * padding - size + beyond >= length + padding:
            beyond = 0  # that window would start outside the image
        margins.append((padding, padding + beyond))
    return nn.max_pool(x, (size, size), (stride, stride), margins)


def adaptive_avg_pool(x: jax.Array, size: int) -> jax.Array:
    """Average pooling to a fixed size, [B, H, W, C] -> [B, size, size, C], as PyTorch's `AdaptiveAvgPool2d`.

    Window i covers the pixels from floor(i N / size) to ceil((i + 1) N / size), exclusive; windows may overlap.
    """
    for axis in (1, 2):
        length, i = x.shape[axis], np.arange(size)[:, None]
        pixel = np.arange(length)
        inside = (pixel >= i * length // size) & (pixel < -(-(i + 1) * length // size))
        weights = jnp.asarray(inside / inside.sum(1, keepdims=True), x.dtype)  # [size, N]
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def flatten(x: jax.Array) -> jax.Array:
    """Flattens [B, H, W, C] -> [B, C H W], in PyTorch's order."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


class Published(nn.Module):
    """Network whose modules are named like its published tensors.

    `HEADS` are prefixes of tensors of a published file that are ignored where the network is built without them.
    """

    HEADS: ClassVar[tuple[str, ...]] = ()

    def convert(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Converts published tensors, by name, to float32 variables `params` and, with batch norm, `stats`.

        Raises:
          ValueError: tensors are missing, unexpected or of a wrong shape; the message names them.
        """
        shapes = jax.eval_shape(self.init, jax.random.key(0), *self.example())
        found, wrong, missing, used = {}, [], [], set()
        for path, leaf in flax.traverse_util.flatten_dict(shapes).items():
            name = '.'.join([*path[1:-1], _LEAVES[path[-1]]])
            used.add(name)
            if name not in tensors:
                missing.append(name)
                continue
            value = np.asarray(tensors[name])
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T  # [D, C, h, w] -> [h, w, C, D]
            if value.shape != leaf.shape:
                expected = leaf.shape[:1] if len(leaf.shape) == 1 else (*leaf.shape[:-3:-1], *leaf.shape[:-2])
                wrong.append(f'{name} is {tensors[name].shape}, not {expected}')
            found[path] = np.ascontiguousarray(value, np.float32)
        heads = tuple(head for head in self.HEADS if not any(name.startswith(head) for name in used))
        known = lambda name: name in used or name.endswith(_COUNTER) or name.startswith(heads)
        unexpected = [name for name in tensors if not known(name)]
        kinds = {'missing': missing, 'unexpected': unexpected, 'wrong shape': wrong}
        problems = [f'{kind}: {_some(names)}' for kind, names in kinds.items() if names]
        if problems:
            raise ValueError(f'the tensors do not match this {type(self).__name__}; {"; ".join(problems)}')
        return flax.traverse_util.unflatten_dict(found)

    def example(self) -> tuple[jax.Array, ...]:
        """Arguments of a call, by which `convert` finds the shapes of all variables."""
        return (jnp.zeros((1, 64, 64, 3)),)


def _some(names: list[str], most: int = 6) -> str:
    """Joins the first `most` names, with the number of the rest."""
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + more
