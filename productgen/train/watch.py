"""Watches a run: values that are not finite stop it, signs of collapse are logged as warnings."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from productgen.config import UserError
from productgen.core.state import State


class NotFiniteError(UserError):
    """A metric became NaN or infinite: which one, at which step, and from where to resume."""


def check_finite(step: int, metrics: dict[str, float], last_good: int | None) -> None:
    """Stops training at the first metric that is not finite.

    Args:
      step: the update the metrics belong to.
      metrics: scalars by name.
      last_good: step of the newest checkpoint, None where there is none.

    Raises:
      NotFiniteError: naming the step, the terms and the checkpoint.
    """
    bad = {name: value for name, value in metrics.items() if not np.isfinite(value)}
    if bad:
        terms = ', '.join(f'{name} = {value}' for name, value in sorted(bad.items()))
        saved = (
            'No checkpoint was written before'
            if last_good is None
            else f'The last good checkpoint is of step {last_good}'
        )
        raise NotFiniteError(
            f'Training stopped at step {step}',
            f'{terms}. {saved}.',
            'Lower optim.*.learning_rate, set optim.*.clip or, in adversarial methods, raise method.penalty_weight, '
            'and resume with --accept_config_change.',
        )


_finite = jax.jit(lambda tree: jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), tree))


def check_state(state: State, last_good: int | None) -> None:
    """Keeps a state with NaN or infinite weights or statistics from being saved; a metric may not have shown it yet.

    Args:
      state: about to be saved.
      last_good: step of the newest checkpoint, None where there is none.

    Raises:
      NotFiniteError: naming the arrays and the checkpoint.
    """
    parts = 'params', 'ema', 'stats'
    arrays = {f'{name}.{part}': getattr(net, part) for name, net in state.nets.items() for part in parts}
    finite = {name: all(jax.tree.leaves(jax.device_get(tree))) for name, tree in _finite(arrays).items()}
    check_finite(int(state.step), {name: 0.0 if ok else np.nan for name, ok in finite.items()}, last_good)


class CollapseWatch:
    """Warns when samples lose their diversity.

    Args:
      real: uint8 [N, H, W, 3], real pictures of the same labels as the samples.
      label: int [N, A], the labels; spread is measured among pictures of one label where there are several of each.
      best: the highest diversity so far, of a run that is resumed.
    """

    LOW_DIVERSITY = 0.25  # of the real pictures' spread

    def __init__(self, real: np.ndarray, label: np.ndarray, best: float = 0.0):
        self._label = label
        self._real = self._spread(real)
        self._best = best

    def _spread(self, images: np.ndarray) -> float:
        """Mean deviation of coarse pixels among pictures of one label, in grey levels."""
        coarse = images[:, :: max(images.shape[1] // 8, 1), :: max(images.shape[2] // 8, 1)].astype(np.float32)
        groups = np.unique(self._label, axis=0, return_inverse=True)[1].ravel()
        members = [coarse[groups == g] for g in range(groups.max() + 1)]
        members = [m for m in members if len(m) > 1] or [coarse]
        return float(np.mean([m.std(0).mean() for m in members]))

    def diversity(self, images: np.ndarray) -> float:
        """Spread of samples uint8 [N, H, W, 3] relative to that of the real pictures; about 1 where they match."""
        return self._spread(images) / max(self._real, 1e-6)

    def samples(self, images: np.ndarray) -> tuple[float, str | None]:
        """Diversity of a sample grid, and a warning where it has fallen."""
        value = self.diversity(images)
        fallen = self._best > 2 * self.LOW_DIVERSITY and value < self.LOW_DIVERSITY
        self._best = max(self._best, value)
        if not fallen:
            return value, None
        return value, (
            f"The samples look alike: their diversity fell to {value:.2f} of the real pictures' (it was "
            f'{self._best:.2f}). The generator is probably collapsing: go back to an earlier checkpoint and lower the '
            'learning rates; adversarial methods may raise method.penalty_weight or, with few photos, set '
            'method.augment.name=ada.'
        )


class SaturationWatch:
    """Warns when the discriminator has been right about everything for a while."""

    SATURATED = 0.98  # mean sign of the logits, real against fake
    PATIENCE = 5  # log lines in a row

    def __init__(self):
        self._saturated = 0

    def __call__(self, metrics: dict[str, float]) -> str | None:
        """A warning, at most once, after the mean metrics of one more log line; other methods have no such metrics."""
        real, fake = metrics.get('sign/real'), metrics.get('sign/fake')
        if real is None or fake is None:
            return None
        self._saturated = self._saturated + 1 if min(real, -fake) > self.SATURATED else 0
        if self._saturated != self.PATIENCE:
            return None
        return (
            'The discriminator separates every real picture from every generated one; the generator gets little to '
            'learn from. Raise method.penalty_weight or lower optim.discriminator.learning_rate; with few photos, set '
            'method.augment.name=ada.'
        )
