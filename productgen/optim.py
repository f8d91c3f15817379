"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import optax

from productgen.config import ConfigError, choose


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """How one network is optimised: a sub-section of `optim`, named after the network.

    Attributes:
      name: `adam`, `adamw`, `sgd` or `adafactor`.
      learning_rate: peak learning rate.
      b1: first-moment decay; the momentum of `sgd`.
      b2: second-moment decay of `adam` and `adamw`.
      eps: denominator offset of `adam` and `adamw`.
      weight_decay: decoupled weight decay; with `adam` use `adamw` instead.
      clip: largest global gradient norm; 0 leaves gradients as they are.
      schedule: `constant`, `linear` or `cosine` (both to zero at the end of the training duration).
      warmup: share of the training duration over which the rate rises from zero, 0 to below 1.
    """

    name: str
    learning_rate: float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 0.0
    schedule: str = 'constant'
    warmup: float = 0.0


def _adam(c: OptimConfig, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    if c.weight_decay:
        raise ConfigError('optim: weight_decay with adam would be L2 in disguise; choose name=adamw')
    return optax.adam(rate, c.b1, c.b2, c.eps)


def _decayed(c: OptimConfig, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """The step that follows an update's direction: decoupled weight decay, both scaled by the learning rate."""
    return optax.chain(optax.add_decayed_weights(c.weight_decay), optax.scale_by_learning_rate(rate))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    'adam': _adam,
    'adamw': lambda c, rate: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay),
    'sgd': lambda c, rate: optax.chain(optax.trace(c.b1), _decayed(c, rate)),
    'adafactor': lambda c, rate: optax.chain(optax.adafactor(None), optax.scale(-1.0), _decayed(c, rate)),
}

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    'constant': lambda rate, steps: optax.constant_schedule(rate),
    'linear': lambda rate, steps: optax.linear_schedule(rate, 0.0, steps),
    'cosine': lambda rate, steps: optax.cosine_decay_schedule(rate, steps),
}


def learning_rate(config: OptimConfig, steps: int | None) -> optax.Schedule:
    """Learning rate by update.

    Args:
      config: the network's section.
      steps: updates in the whole training; None where it is bounded by time.

    Raises:
      ConfigError: an unknown schedule, or one that needs to know the end of a training bounded by time.
    """
    make = choose(SCHEDULES, config.schedule, 'optim.*.schedule')
    if not 0 <= config.warmup < 1:
        raise ConfigError(f'optim.*.warmup: {config.warmup} is not a share of the training, 0 to below 1')
    if steps is None:
        if config.schedule != 'constant' or config.warmup:
            raise ConfigError(
                'optim.*.schedule: a schedule needs a train.duration in images, steps or epochs, not in wall-clock time'
            )
        return make(config.learning_rate, 1)
    warmup = round(config.warmup * steps)
    schedule = make(config.learning_rate, max(steps - warmup, 1))
    if not warmup:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, config.learning_rate, warmup), schedule], [warmup])


def make_optimizer(
    config: OptimConfig, steps: int | None, lazy_interval: int | None = None
) -> optax.GradientTransformation:
    """The optimiser of one network.

    Args:
      config: the network's section.
      steps: iterations in the whole training; None where it is bounded by time.
      lazy_interval: a regulariser takes an optimiser step of its own every so many iterations. Learning rate and decay
        rates are then corrected by c = k / (k + 1), so that training moves as if it had been part of every step
        (StyleGAN2, appendix B), and the schedule counts both kinds of steps.

    Raises:
      ConfigError: a name or value that cannot be used.
    """
    if lazy_interval:
        c = lazy_interval / (lazy_interval + 1)
        config = dataclasses.replace(config, learning_rate=config.learning_rate * c, b1=config.b1**c, b2=config.b2**c)
        steps = None if steps is None else steps - (-steps // lazy_interval)  # it is due at 0, k, 2k, ...
    tx = choose(OPTIMIZERS, config.name, 'optim.*.name')(config, learning_rate(config, steps))
    return optax.chain(optax.clip_by_global_norm(config.clip), tx) if config.clip else tx
