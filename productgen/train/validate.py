"""Validation: measures a method on pictures that were held out of training.

Smaller is better unless said otherwise:

- Methods that generate: `swd` and `swd_SIZE`, the sliced Wasserstein distance of samples to held-out pictures of the
  same labels (`productgen.metrics.swd`). Where `eval.features` names features, also Frechet and kernel distance,
  precision, recall, density and coverage (the last four: larger is better) of the same samples to as many real pictures
  of `eval.reference` (`productgen.metrics.distribution`). A run keeps to one network (`kept_features`).
- Methods with `evaluate`: the mean of each of its figures over the held-out pictures (`psnr` and `ssim`: larger is
  better).
- Methods with features: `nearest_error`, the fraction of held-out pictures whose nearest training picture has another
  label.

Pictures without a label do not count for figures that need one; a figure that no picture counts for is left out.
Pictures, seeds and labels are the same each time.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from productgen.config import UserError, nearest
from productgen.core.files import write_durably
from productgen.core.sharding import from_first
from productgen.core.state import State
from productgen.data import spread
from productgen.data.pipeline import Batches
from productgen.methods.base import LARGER, Evaluable, Generates, Represents
from productgen.metrics.distribution import DISTANCES, LEAST, Reference
from productgen.metrics.swd import SlicedWasserstein, figure_names
from productgen.model.features import FeatureNet, open_features
from productgen.model.rows import ImageMaker, RowByRow
from productgen.published import weights
from productgen.published.networks import AUTO, BEST, EXTRACTORS
from productgen.published.weights import INSTALL
from productgen.train.retrieval import Retrieval
from productgen.train.run import Run

_log = logging.getLogger('productgen')


class Validator:
    """Measures a state on held-out pictures.

    Args:
      run: what is trained, with `train.validate_every`.
      batches: loads pictures.
      features: the feature network; by default `eval.features`.

    Raises:
      UserError: `train.stop_on` is none of the figures, or `eval.features` cannot be used.
    """

    def __init__(self, run: Run, batches: Batches, features: str | None = None):
        self._items = spread(run.held_out, run.config.train.validate_items)
        self._run, self._batches = run, batches
        self._size = run.config.train.batch_size
        self._swd: SlicedWasserstein | None = None
        self._sampler = None
        if isinstance(run.method, Generates):
            self._sampler = ImageMaker(run, self._size, run.method.generate, run.method.knobs)
        asked = run.config.eval.features.strip()
        features = asked if features is None else features
        self._reference: Reference | None = None
        if self._sampler and features and min(len(self._items), len(run.items)) < LEAST:
            few = (
                f'{len(self._items)} held-out and {len(run.items)} training pictures are too few to compare, '
                f'{LEAST} of each are needed'
            )
            if asked != AUTO or run.config.train.stop_on in DISTANCES:
                raise UserError('eval.features', few, 'raise train.validate_items, or leave eval.features empty')
            _log.info('Validation measures without features: %s', few)
            features = ''
        self._net = open_features(features, self._size) if self._sampler and features else None
        label = batches.label(self._items)
        self._unlabelled = (label < 0).all(1) & bool(run.labels)
        self._retrieval = Retrieval(run, batches) if isinstance(run.method, Represents) else None
        if self._retrieval and not self._retrieval.measures(label):
            self._retrieval = None
        self._evaluator = None
        if isinstance(run.method, Evaluable):
            self._evaluator = RowByRow(run.mesh, self._size, run.method.evaluate, run.config.seed)
        figure, names = run.config.train.stop_on, self._names()
        if figure and figure not in names:
            hint = '; it needs eval.features' if figure in DISTANCES else nearest(figure, names)
            raise UserError('train.stop_on', f'no figure is called {figure!r}{hint}')

    @property
    def net(self) -> FeatureNet | None:
        """The features that measure."""
        return self._net

    @property
    def weights(self) -> str:
        """Digest of the features that measure; empty without."""
        return self._net.about['weights'] if self._net else ''

    def _names(self) -> list[str]:
        """The names of all figures that are smaller where better, without computing any."""
        names = list(figure_names(self._run.problem.resolution)) if self._sampler else []
        names += DISTANCES if self._net else ()
        names += ['nearest_error'] * bool(self._retrieval)
        if self._evaluator:
            state, batch = self._run.abstract()
            batch = batch | {'seed': jax.ShapeDtypeStruct((self._run.problem.batch_size,), np.int32)}
            found = jax.eval_shape(self._run.method.evaluate, state, batch, jax.random.key(0))
            names += [name for name in found if name not in LARGER]
        return names

    def _pictures(self) -> Iterator[dict[str, np.ndarray]]:
        """The held-out pictures with their labels and seeds, some at a time."""
        for start in range(0, len(self._items), self._size):
            chosen = np.arange(start, min(start + self._size, len(self._items)))
            yield {**self._batches.load(self._items[chosen]), 'seed': chosen}

    def __call__(self, state: State) -> dict[str, float]:
        """All figures of a state.

        Raises:
          UserError: `train.stop_on` is a figure of labels, of which no held-out picture has one.
        """
        figures = self._evaluate(state)
        if self._retrieval:
            figures['nearest_error'] = self._retrieval.error(state, self._pictures())
        if self._sampler:
            if self._swd is None:
                self._swd = SlicedWasserstein(
                    (p['image'] for p in self._pictures()), len(self._items), self._run.config.seed
                )
            features: list[np.ndarray] = []
            figures |= self._swd(self._seen(self._samples(state), features))
            if self._net:
                figures |= self._compare(np.concatenate(features))
        figure = self._run.config.train.stop_on
        if figure and figure not in figures:
            raise UserError('train.stop_on', f'{figure!r} needs held-out pictures with a known label', 'there are none')
        return from_first(figures)

    def _samples(self, state: State) -> Iterator[np.ndarray]:
        """As many samples, of the same labels, some at a time."""
        knobs = self._run.preview_knobs(self._run.method.knobs)
        for start in range(0, len(self._items), self._size):
            chosen = np.arange(start, min(start + self._size, len(self._items)))
            yield self._sampler(state, knobs, seed=chosen, label=self._batches.label(self._items[chosen]))

    def _seen(self, images: Iterator[np.ndarray], features: list[np.ndarray]) -> Iterator[np.ndarray]:
        """The same pictures; their features are added to a list if a feature network measures."""
        for part in images:
            if self._net:
                features.append(self._net(part)[0])
            yield part

    def _compare(self, features: np.ndarray) -> dict[str, float]:
        """Distances of the features of samples [N, D] to those of real pictures, which are computed once."""
        if self._reference is None:
            run = self._run
            items = self._items if run.config.eval.reference == 'held_out' else spread(run.items, len(self._items))
            parts = np.array_split(items, -(-len(items) // self._size))
            self._reference = Reference(
                np.concatenate([self._net(self._batches.load(part)['image'])[0] for part in parts])
            )
        return dict(self._reference.figures(features))

    def _evaluate(self, state: State) -> dict[str, float]:
        """Means of the method's own figures, in float64.

        NaN for a picture without any known label says that there is nothing to measure; any other NaN stops the run.
        """
        if not self._evaluator:
            return {}
        parts = [found for p in self._pictures() for found in self._evaluator.batches(state, **p)]
        rows = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
        counted = {name: x[~(np.isnan(x) & self._unlabelled)] for name, x in rows.items()}
        return {name: float(x.mean(dtype=np.float64)) for name, x in counted.items() if len(x)}


RECORD = 'validation.json'  # in a workdir: the features that measured the run


def kept_features(workdir: Path, setting: str) -> str:
    """The features that validate the run in a workdir: those of its first validations where `auto` chooses.

    So a network that is installed between two parts of a run does not change what its figures mean.

    Args:
      workdir: of the run, which may be new.
      setting: `eval.features`.

    Raises:
      UserError: the file of that network is no longer there.
    """
    before = _recorded(workdir).get('features')
    if setting.strip() != AUTO or before not in BEST:
        return setting.strip()
    if before != BEST[-1] and not weights.is_there(EXTRACTORS[before].weights):
        raise UserError(
            'eval.features',
            f'the validations of {workdir} were measured by {before}, which is not installed here',
            f'{INSTALL}, or set eval.features= to validate without features',
        )
    return before


def check_features(workdir: Path, net: FeatureNet | None, accept: bool) -> None:
    """Checks that the run in a workdir was validated by the same features before, if at all.

    Args:
      workdir: of the run, which may be new.
      net: the features; None without.
      accept: let them differ, with a warning.

    Raises:
      UserError: figures by other features are in its metrics.jsonl.
    """
    before = _recorded(workdir)
    if not net or not before or before.get('weights') == net.about['weights']:
        return
    words = '{features} ({weights})'
    old, new = words.format(**before), words.format(features=net.name, weights=net.about['weights'])
    if not accept:
        raise UserError(
            'eval.features',
            f'the validations of {workdir} were measured by {old}, and {new} would go into the same curves',
            f'set eval.features={before["features"]} and use the same weights, choose another --workdir, or add '
            '--accept_config_change to mix them',
        )
    _log.warning('Figures of validations are by %s from here on; those before are by %s.', new, old)


def record_features(workdir: Path, net: FeatureNet | None) -> None:
    """Writes which features validate the run in a workdir."""
    if net:
        about = {'features': net.name, 'weights': net.about['weights'], 'network': net.about['network']}
        if about != _recorded(workdir):
            _log.info('Validation measures by the features of %s (%s)', net.name, net.about['network'])
            write_durably(workdir / RECORD, json.dumps(about, indent=2) + '\n')


def _recorded(workdir: Path) -> dict[str, str]:
    """What `record_features` wrote; empty where there is nothing."""
    try:
        about = json.loads((workdir / RECORD).read_bytes())
        if not isinstance(about, dict) or not about.keys() >= {'features', 'weights'}:
            raise ValueError('it names no features')
        return about
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(str(workdir / RECORD), f'not readable ({error})', 'delete it if no validation counts') from None
