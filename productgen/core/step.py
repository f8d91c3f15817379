"""One optimiser step of one network: gradients, accumulation, update, moving average."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from productgen.core.sharding import parts, whole
from productgen.core.state import Net, PyTree


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
