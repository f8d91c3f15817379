"""Evaluation of methods with features, such as classifiers, on held-out pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError
from productgen.evaluation.figures import confusion, predictions
from productgen.evaluation.result import Result
from productgen.evaluation.sets import SEED, Measured, check_not_generated, measure, real_pictures
from productgen.metrics.arrays import unit_length
from productgen.metrics.neighbours import nearest
from productgen.model.features import FeatureNet, open_features
from productgen.train.run import Run

NEIGHBOURS = 7  # training pictures shown for each held-out one
ROWS = 14  # held-out pictures shown


def recognised(run: Run, workdir: Path, check: Callable[[Mapping[str, Any]], None]) -> Result:
    """Measures the features of a run, and its predictions if it classifies, such as one of configs/classifier.py.

    The columns are of equally many held-out pictures and training pictures. `accuracy/NAME` is the accuracy of the
    predictions of a classifier. `nearest/NAME` is the fraction of pictures whose nearest other training picture, by the
    cosine of the features, has the same value; it also measures features learned without labels. Both have binomial
    standard errors. Pictures without a value do not count; a run with data.labels=none has pictures and no figures.

    Args:
      run: the run.
      workdir: its folder.
      check: called with the protocol before any long work.

    Raises:
      UserError: a setting is for generators only, nothing was held out, or there are too few training pictures.
    """
    settings = run.config.eval
    check_not_generated(run, workdir, ('truncations', 'path_pairs', 'lpips', 'recognition'))
    train, held_out, products = real_pictures(run)
    if train.count <= NEIGHBOURS:
        raise UserError(
            'data.source', f'{train.count} training pictures are too few, at least {NEIGHBOURS + 1} are needed'
        )
    size, count = settings.batch_size, min(settings.count, held_out.count, train.count)
    height, width = run.problem.resolution
    protocol = {
        'size': f'{width}x{height}',
        'data': {'digest': run.facts.digest, 'validation': run.config.data.validation, 'group': run.config.data.group},
        'counts': {'measured': count, 'searched': train.count},
        'seed': SEED,
    }
    check(protocol)
    net = open_features(f'{workdir}:{run.config.sample.step}', size)
    bank, queries = measure(net, train, size), measure(net, held_out, size).first(count)
    near = {'measured': _nearest(queries, bank), 'training': _nearest(bank.first(count), bank, itself=True)}
    sets = {'measured': queries, 'training': bank.first(count)}
    chosen = _one_of_each(queries.label)
    rows = [np.concatenate([held_out.load(np.asarray([i])), train.load(near['measured'][i])]) for i in chosen]
    return Result(
        measured={
            'run': str(workdir),
            'checkpoint': f'step{net.about["step"]:06d}',
            'data': run.config.data.source,
            'held-out products': len(products),
        },
        features=dict(net.about),
        protocol=protocol,
        figures={name: _figures(m, near[name], bank, run, net) for name, m in sets.items()},
        confusion=confusion(queries, run.facts.labels, net.attributes),
        sheets={'nearest': np.stack(rows)},
    )


def _nearest(queries: Measured, bank: Measured, itself: bool = False) -> np.ndarray:
    """Indices [N, NEIGHBOURS] of the nearest pictures of the bank.

    With `itself`, the queries are the first pictures of the bank, and no picture is its own neighbour.
    """
    found = nearest(unit_length(queries.features), unit_length(bank.features), NEIGHBOURS + itself).index
    if not itself:
        return found
    others = found != np.arange(len(found))[:, None]
    others[others.all(1), -1] = False  # copies of the picture were found instead of it
    return found[others].reshape(len(found), NEIGHBOURS)


def _figures(m: Measured, near: np.ndarray, bank: Measured, run: Run, net: FeatureNet) -> dict[str, float]:
    """Figures of pictures whose nearest ones of the bank are `near`."""
    found = {}
    for name, true, predicted in predictions(m.label, m.predicted, run.facts.labels, net.attributes):
        found |= _fraction(f'accuracy/{name}', predicted == true)
    for column, name in enumerate(run.labels):
        own, neighbour = m.label[:, column], bank.label[near[:, 0], column]
        counted = (own >= 0) & (neighbour >= 0)
        if counted.any():
            found |= _fraction(f'nearest/{name}', (own == neighbour)[counted])
    return found


def _fraction(name: str, correct: np.ndarray) -> dict[str, float]:
    """The fraction of true values of a bool array, and its standard error."""
    fraction = float(np.mean(correct))
    return {name: fraction, f'{name}_error': float(np.sqrt(fraction * (1 - fraction) / len(correct)))}


def _one_of_each(label: np.ndarray) -> np.ndarray:
    """Indices of `ROWS` pictures of labels [N, A]: one of each value of the first attribute, then a second of each."""
    if not label.shape[1]:
        return np.arange(min(ROWS, len(label)))
    turn = np.zeros(len(label), int)
    for code in np.unique(label[:, 0]):
        places = np.flatnonzero(label[:, 0] == code)
        turn[places] = np.arange(len(places))
    return np.lexsort((label[:, 0], turn))[:ROWS]
