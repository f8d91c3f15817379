"""One optimiser step of one network: gradients, accumulation, update, moving average."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from productgen.core.sharding import replicate, split_rows
from productgen.core.state import Net, PyTree


def gradients(
    loss_fn: Callable, params: PyTree, stats: PyTree, batch: PyTree, accumulate: int = 1, devices: int = 1
) -> tuple[PyTree, PyTree, dict[str, jax.Array]]:
    """Mean gradient of `loss_fn` over a batch, which may be taken in several equal parts to save memory.

    Args:
      loss_fn: `(params, stats, batch) -> (loss, (stats, metrics))`, the loss a mean over the batch.
      params: weights to differentiate with respect to.
      stats: statistics; each part continues from those of the part before.
      batch: pytree of [B, ...] arrays, B divisible by `accumulate` x `devices`.
      accumulate: number of parts.
      devices: number of devices that the rows of the batch are divided over.

    Returns:
      gradients, new statistics, and metrics averaged over the parts.
    """
    grad_fn, params = jax.grad(loss_fn, has_aux=True), replicate(params)
    if accumulate == 1:
        grads, (stats, metrics) = grad_fn(params, stats, batch)
        return replicate(grads), stats, metrics
    divided = split_rows(batch, accumulate, devices)
    first = jax.tree.map(lambda x: x[0], divided)
    shapes = jax.eval_shape(grad_fn, params, stats, first)
    zeros = lambda tree: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), tree)

    def part(carry, batch):
        total, stats, metrics = carry
        grads, (stats, new) = grad_fn(params, stats, batch)
        add = lambda a, b: a + b / accumulate
        return (jax.tree.map(add, total, replicate(grads)), stats, jax.tree.map(add, metrics, new)), None

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
    """One optimiser step of one network; its moving average is left as it is, see `average`.

    Args:
      net: the network.
      tx: its optimiser.
      loss_fn: see `gradients`, as for the following.
      batch: pytree of [B, ...] arrays.
      accumulate: number of parts.
      devices: number of devices that the rows of the batch are divided over.

    Returns:
      the network after the step, and the metrics with the norm of the gradient, `grad_norm`.
    """
    grads, stats, metrics = gradients(loss_fn, net.params, net.stats, batch, accumulate, devices)
    return apply_gradients(net.replace(stats=stats), tx, grads), metrics | {'grad_norm': optax.tree.norm(grads)}


def apply_gradients(net: Net, tx: optax.GradientTransformation, grads: PyTree) -> Net:
    """One optimiser step along given gradients, as where several networks have a loss in common."""
    with jax.numpy_dtype_promotion('standard'):  # Optax mixes dtypes: decay rates to the power of an int32 count
        updates, opt = tx.update(grads, net.opt, net.params)
    return net.replace(params=optax.apply_updates(net.params, updates), opt=opt)


def average(net: Net, decay: jax.Array | float) -> Net:
    """Moves the average of the weights: ema <- decay ema + (1 - decay) params."""
    return net.replace(ema=jax.tree.map(lambda e, p: e * decay + p * (1 - decay), net.ema, net.params))


def ema_decay(
    step: jax.Array, batch_size: int, half_life_kimg: float, rampup: float, images_before: int = 0
) -> jax.Array:
    """Decay in one update of a moving average with a half-life in images.

    Args:
      step: int scalar, number of updates before this one.
      batch_size: images per update.
      half_life_kimg: half-life in thousands of images; 0 makes the average the weights themselves.
      rampup: the half-life is at most this fraction of the images seen so far, so that early weights are forgotten; 0
        sets no such limit.
      images_before: images seen so far less `step` x `batch_size`, where the batch size was another one before.

    Returns:
      float scalar, 0 to below 1.

    Source: ramp-up 0.05 as in StyleGAN2-ADA, Karras et al. 2020, arXiv 2006.06676.
    """
    images = (jnp.asarray(step, jnp.float32) + 1) * batch_size
    images = images + images_before if images_before else images
    half_life = jnp.minimum(half_life_kimg * 1000, images * rampup) if rampup > 0 else half_life_kimg * 1000.0
    return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))
