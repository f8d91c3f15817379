"""Training state and the one function that steps a network.

What is static (modules, optimisers) lives in a method; what is an array lives here, so that one checkpoint routine, one
sharding rule and one loop serve every method.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec

PyTree = Any


@struct.dataclass
class Net:
    """One trained network.

    Attributes:
      params: trainable weights.
      stats: arrays the forward pass keeps up to date (batch-norm statistics, mean w, ...).
      opt: optimiser state.
      ema: moving average of `params`, what pictures are made from; None where a network has none.
    """

    params: PyTree
    stats: PyTree
    opt: PyTree
    ema: PyTree = None


@struct.dataclass
class State:
    """Everything training changes.

    Attributes:
      step: int32 scalar, number of updates done.
      nets: networks by name.
      extra: further arrays of the method (path-length mean, augmentation probability, ...).
      frozen: weights that are only read; they are not written into checkpoints.
    """

    step: jax.Array
    nets: dict[str, Net]
    extra: dict[str, PyTree]
    frozen: dict[str, PyTree]


def create_net(params: PyTree, tx: optax.GradientTransformation, stats: PyTree = None, ema: bool = False) -> Net:
    """A network at step 0; with `ema` its average starts at the initial weights."""
    return Net(
        params=params,
        stats={} if stats is None else stats,
        opt=tx.init(params),
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )


def stream(key: jax.Array, name: str) -> jax.Array:
    """The random stream `name` of `key`: stateless, and independent of which other streams exist."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)


def sample_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """One key a sample, [B], from the base key and the samples' indices or seeds, int [B].

    All that is random about a sample is drawn from its own key, so a picture depends neither on the batch it is in, nor
    on how the batch is divided over devices or over accumulation steps. Each device draws for the samples it has: all
    else that they become, such as the pictures of a generator without labels, is divided after their keys.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and len(indices) % mesh.size == 0:
        indices = jax.lax.with_sharding_constraint(indices, PartitionSpec(*mesh.axis_names))
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(indices)


def streams(keys: jax.Array, name: str) -> jax.Array:
    """`stream` for a [B] array of per-sample keys."""
    return jax.vmap(lambda key: stream(key, name))(keys)


def normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal values, [B, *shape], those of each sample from its own key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def whole(tree: PyTree) -> PyTree:
    """The same arrays, available on every device in the update of a divided state; see `productgen.sharding`.

    Weights that networks compute with, and the gradients they give, go through it, so that the batch alone divides
    their work. Parameters from before the update, statistics, and what `gradients` differentiates have gone through it
    already; averages, and weights that changed in the same update, have not.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.lax.with_sharding_constraint(tree, PartitionSpec())


def parts(batch: PyTree, count: int, devices: int) -> PyTree:
    """[B, ...] -> [count, B / count, ...], each device keeping its rows and giving some to every part.

    The rows of a part come in runs of neighbours, so that groups of samples stay together.
    """

    def divide(x):
        size, *rest = x.shape
        x = x.reshape(devices, count, size // (devices * count), *rest)
        return x.swapaxes(0, 1).reshape(count, size // count, *rest)

    return jax.tree.map(divide, batch)


def gradients(
    loss_fn: Callable, params: PyTree, stats: PyTree, batch: PyTree, accumulate: int = 1, devices: int = 1
) -> tuple[PyTree, PyTree, dict[str, jax.Array]]:
    """Mean gradient of `loss_fn` over a batch, taken `accumulate` equal parts at a time to save memory.

    Args:
      loss_fn: `(params, stats, batch) -> (loss, (stats, metrics))`, the loss a mean over the batch.
      params: weights to differentiate with respect to.
      stats: passed through the parts in order.
      batch: pytree of [B, ...] arrays, B divisible by `accumulate` x `devices`.
      accumulate: number of parts.
      devices: what the rows of the batch are divided over.

    Returns:
      gradients, new stats, metrics averaged over the parts.
    """
    grad_fn, params = jax.grad(loss_fn, has_aux=True), whole(params)
    if accumulate == 1:
        grads, (stats, metrics) = grad_fn(params, stats, batch)
        return whole(grads), stats, metrics
    divided = parts(batch, accumulate, devices)
    first = jax.tree.map(lambda x: x[0], divided)
    shapes = jax.eval_shape(grad_fn, params, stats, first)
    zeros = lambda tree: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), tree)

    def part(carry, batch):
        total, stats, metrics = carry
        grads, (stats, new) = grad_fn(params, stats, batch)
        add = lambda a, b: a + b / accumulate
        return (jax.tree.map(add, total, whole(grads)), stats, jax.tree.map(add, metrics, new)), None

    (grads, stats, metrics), _ = jax.lax.scan(part, (zeros(shapes[0]), stats, zeros(shapes[1][1])), divided)
    return grads, stats, metrics


def step_net(
    net: Net,
    tx: optax.GradientTransformation,
    loss_fn: Callable,
    batch: PyTree,
    *,
    accumulate: int = 1,
    devices: int = 1,
) -> tuple[Net, dict[str, jax.Array]]:
    """One optimiser step of one network: gradient, update, and the gradient's norm among the metrics.

    Args are those of `gradients`; the average of the weights is moved by `average`, once an iteration, since a network
    may take several steps in one.
    """
    grads, stats, metrics = gradients(loss_fn, net.params, net.stats, batch, accumulate, devices)
    return apply_gradients(net.replace(stats=stats), tx, grads), metrics | {'grad_norm': optax.tree.norm(grads)}


def apply_gradients(net: Net, tx: optax.GradientTransformation, grads: PyTree) -> Net:
    """One optimiser step along gradients that are there already, as where two networks share a loss."""
    updates, opt = tx.update(grads, net.opt, net.params)
    return net.replace(params=optax.apply_updates(net.params, updates), opt=opt)


def average(net: Net, decay: jax.Array | float) -> Net:
    """Moves the average towards the weights: ema <- decay ema + (1 - decay) params."""
    return net.replace(ema=jax.tree.map(lambda e, p: e * decay + p * (1 - decay), net.ema, net.params))


def ema_decay(step: jax.Array, batch_size: int, half_life_kimg: float, rampup: float) -> jax.Array:
    """Decay of one iteration for an average with a half-life in thousands of images.

    With `rampup` > 0 the half-life is at most that share of the images seen so far, so that early weights are forgotten
    (StyleGAN2, Karras et al. 2020; ramp-up 0.05 in StyleGAN2-ADA).

    Args:
      step: updates done before this one, int scalar.
      batch_size: images an update.
      half_life_kimg: half-life, thousands of images.
      rampup: share of the images seen; 0 switches it off.
    """
    images = (jnp.asarray(step, jnp.float32) + 1) * batch_size
    half_life = jnp.minimum(half_life_kimg * 1000, images * rampup) if rampup > 0 else half_life_kimg * 1000.0
    return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))


def to_float(image: jax.Array) -> jax.Array:
    """uint8 images as float32 in [-1, 1]."""
    return image.astype(jnp.float32) / 127.5 - 1


def to_uint8(image: jax.Array) -> jax.Array:
    """Float images in [-1, 1] as uint8, rounded and clipped."""
    return jnp.clip(jnp.round((image.astype(jnp.float32) + 1) * 127.5), 0, 255).astype(jnp.uint8)
