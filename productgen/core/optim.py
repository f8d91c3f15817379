"""Optimisers and learning-rate schedules by name."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any

import jax
import optax

from productgen.config import UserError, choose
from productgen.core.paths import leaf_path, named_leaves
from productgen.core.schedule import parse_annealed


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """The optimiser of one network: a sub-section of `optim`, named after the network.

    Attributes:
      name: `adam`, `adamw`, `rmsprop`, `sgd` or `adafactor`.
      learning_rate: peak learning rate.
      b1: first-moment decay; the momentum of `sgd`.
      b2: second-moment decay of `adam`, `adamw` and `rmsprop`.
      eps: denominator offset of the same.
      weight_decay: decoupled weight decay; with `adam` use `adamw` instead.
      clip: largest global norm of the gradient; 0 does not clip.
      schedule: `constant`, `linear` or `cosine`.
      warmup: fraction of the training over which the rate rises linearly from zero, 0 to below 1.
      hold: fraction of the training, after the warmup, over which the rate stays at its peak before the schedule
        begins, 0 to below 1: `linear` with 0.5 is the schedule of CycleGAN.
      anneal: fraction of the remaining training over which the schedule runs, above 0 to 1; then the rate is constant.
      end: the rate at the end of the schedule, as a fraction of `learning_rate`.
      end_b2: `b2` at the end of the schedule, along half a cosine from `b2`, for `adam`; negative: `b2` is constant.
      freeze: parameters that are not trained: regular expressions, separated by commas, of their paths or of leading
        components of these. `from_rgb,conv5_.*,skip5` freezes the layers next to the image of a StyleGAN2 discriminator
        at 128 pixels (FreezeD, Mo et al. 2020), `.*` the whole network.

    Raises:
      UserError: a number out of range, or `freeze` is not a regular expression.
    """

    name: str = 'adam'
    learning_rate: float = 0.001
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 0.0
    schedule: str = 'constant'
    warmup: float = 0.0
    hold: float = 0.0
    anneal: float = 1.0
    end: float = 0.0
    end_b2: float = -1.0
    freeze: str = ''

    def __post_init__(self):
        for field in ('learning_rate', 'eps', 'weight_decay', 'clip'):
            if getattr(self, field) < 0:
                raise UserError(f'optim.*.{field}', 'must not be negative')
        for field in ('b1', 'b2'):
            if not 0 <= getattr(self, field) < 1:
                raise UserError(f'optim.*.{field}', f'{getattr(self, field)} is not a decay rate, 0 to below 1')
        if self.end_b2 >= 1:
            raise UserError(
                'optim.*.end_b2', f'{self.end_b2} is not a decay rate below 1', 'a negative one keeps b2 constant'
            )
        if self.end_b2 >= 0 and self.name in set(OPTIMIZERS) - {'adam'}:
            raise UserError('optim.*.end_b2', f'only adam can change its b2, {self.name!r} cannot', 'set it to -1')
        for pattern in _patterns(self.freeze):
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError('optim.*.freeze', f'{pattern!r} is not a regular expression ({error})') from None


def _adam(c: OptimConfig, rate: optax.ScalarOrSchedule, steps: int | None) -> optax.GradientTransformation:
    if c.weight_decay:
        raise UserError('optim.*.weight_decay', 'with adam this would be L2 regularisation', 'set optim.*.name=adamw')
    if c.end_b2 < 0 or c.end_b2 == c.b2:
        return optax.adam(rate, c.b1, c.b2, c.eps)
    b2 = parse_annealed(f'{c.b2}->{c.end_b2}', 'optim.*.end_b2', steps, c.anneal)
    scale = optax.inject_hyperparams(optax.scale_by_adam, static_args=('b1', 'eps'))(b1=c.b1, b2=b2, eps=c.eps)
    return optax.chain(scale, optax.scale_by_learning_rate(rate))


def _decayed(c: OptimConfig, rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adds decoupled weight decay to a direction and scales both by the learning rate."""
    return optax.chain(optax.add_decayed_weights(c.weight_decay), optax.scale_by_learning_rate(rate))


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    'adam': _adam,
    'adamw': lambda c, rate, _: optax.adamw(rate, c.b1, c.b2, c.eps, weight_decay=c.weight_decay),
    'sgd': lambda c, rate, _: optax.chain(optax.trace(c.b1), _decayed(c, rate)),
    'rmsprop': lambda c, rate, _: optax.chain(optax.scale_by_rms(c.b2, c.eps, eps_in_sqrt=False), _decayed(c, rate)),
    'adafactor': lambda c, rate, _: optax.chain(optax.adafactor(None), optax.scale(-1.0), _decayed(c, rate)),
}

# Arguments: the first rate, the last one as a fraction of it, and the number of updates in between.
SCHEDULES: dict[str, Callable[[float, float, int], optax.Schedule]] = {
    'constant': lambda rate, end, steps: optax.constant_schedule(rate),
    'linear': lambda rate, end, steps: optax.linear_schedule(rate, rate * end, steps),
    'cosine': lambda rate, end, steps: optax.cosine_decay_schedule(rate, steps, end),
}


def learning_rate(config: OptimConfig, steps: int | None) -> optax.Schedule:
    """The learning rate as a function of the number of updates.

    Args:
      config: the network's section.
      steps: updates in the whole training; None where it is bounded by time.

    Raises:
      UserError: an unknown schedule or a number out of range, or a schedule in a training bounded by time.
    """
    make = choose(SCHEDULES, config.schedule, 'optim.*.schedule')
    if not 0 <= config.warmup < 1:
        raise UserError('optim.*.warmup', f'{config.warmup} is not a fraction of the training, 0 to below 1')
    if not 0 <= config.hold < 1 - config.warmup:
        raise UserError(
            'optim.*.hold', f'{config.hold} is not a fraction of the training that optim.*.warmup leaves, 0 to below 1'
        )
    if not 0 < config.anneal <= 1:
        raise UserError('optim.*.anneal', f'{config.anneal} is not a fraction above 0 and at most 1')
    if config.end < 0:
        raise UserError('optim.*.end', 'must not be negative')
    if steps is None:
        if config.schedule != 'constant' or config.warmup:
            raise UserError(
                'optim.*.schedule',
                'a schedule or warmup needs a train.duration in images, steps or epochs, not in time',
            )
        return make(config.learning_rate, 1.0, 1)
    warmup, hold = round(config.warmup * steps), round(config.hold * steps)
    schedule = make(config.learning_rate, config.end, max(round((steps - warmup - hold) * config.anneal), 1))
    if hold:
        schedule = optax.join_schedules([optax.constant_schedule(config.learning_rate), schedule], [hold])
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
      lazy_interval: k, where a regulariser takes an optimiser step of its own every k iterations. Learning rate and
        decay rates are then corrected by c = k / (k + 1), as if the regulariser were part of every step (StyleGAN2,
        Karras et al. 2020, arXiv 1912.04958, appendix B), and the schedule counts both kinds of steps.

    Raises:
      UserError: a name or value that cannot be used.
    """
    if lazy_interval:
        c = lazy_interval / (lazy_interval + 1)
        config = dataclasses.replace(config, learning_rate=config.learning_rate * c, b1=config.b1**c, b2=config.b2**c)
        config = dataclasses.replace(config, end_b2=config.end_b2**c if config.end_b2 > 0 else config.end_b2)
        steps = None if steps is None else steps - (-steps // lazy_interval)  # it is due at 0, k, 2k, ...
    tx = choose(OPTIMIZERS, config.name, 'optim.*.name')(config, learning_rate(config, steps), steps)
    tx = optax.chain(optax.clip_by_global_norm(config.clip), tx) if config.clip else tx
    if not config.freeze:
        return tx
    # Frozen parameters have no moments, do not decay, and their gradients do not count for clipping.
    return optax.multi_transform(
        {'frozen': optax.set_to_zero(), 'free': tx}, lambda params: frozen_or_free(params, config.freeze)
    )


def _patterns(freeze: str) -> list[str]:
    return [part.strip() for part in freeze.split(',') if part.strip()]


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(f'(?:{pattern})(?:/.*)?', name) is not None


def frozen_or_free(params: Any, freeze: str) -> Any:
    """Labels of parameters: `frozen` where a pattern of `OptimConfig.freeze` matches, otherwise `free`."""
    matches = lambda path: any(_matches(pattern, leaf_path(path)) for pattern in _patterns(freeze))
    return jax.tree_util.tree_map_with_path(lambda path, _: 'frozen' if matches(path) else 'free', params)


def check_freeze(nets: Iterable[Any], freeze: str, field: str) -> None:
    """Checks that every pattern of `freeze` matches a parameter.

    Args:
      nets: the parameters of each network that the setting is for.
      freeze: as `OptimConfig.freeze`.
      field: the config field, for messages.

    Raises:
      UserError: a pattern matches none; the message names the nearest paths.
    """
    names = [name for params in nets for name in named_leaves(params)]
    for pattern in _patterns(freeze):
        if not any(_matches(pattern, name) for name in names):
            near = difflib.get_close_matches(pattern, names, 5, 0.0)
            raise UserError(field, f'{pattern!r} matches no parameter', f'the nearest are {", ".join(near)}')
