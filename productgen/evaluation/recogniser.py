"""What a network whose features measure others is itself worth: its answers to held-out pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError
from productgen.evaluation.figures import answers, confusion
from productgen.evaluation.sets import SEED, Measured, measure, real_pictures
from productgen.metrics.arrays import unit_length
from productgen.metrics.neighbours import nearest
from productgen.model.features import FeatureNet, open_features
from productgen.train.run import Run

NEIGHBOURS = 7  # training pictures shown beside a held-out one
ROWS = 14  # of these


def recognised(
    run: Run, workdir: Path, check: Callable[[Mapping[str, Any]], None]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The report on a run of configs/classifier.py and its pictures, see `write_report`.

    Both columns are of as many pictures: held-out ones, and some that were trained on. `accuracy/NAME` is the share of
    right answers, with its binomial standard error; `nearest/NAME` that of pictures whose nearest other training
    picture (by the cosine of the features) has the same value, which is all that features learnt without labels can be
    measured by. Pictures without a value do not count; of a run with data.labels=none there are no figures, only
    pictures.

    Args:
      run: the run.
      workdir: its folder.
      check: takes the protocol before anything long begins.

    Raises:
      UserError: a setting that is for generators, nothing was held out, or there is too little to search.
    """
    for field in ('truncations', 'path_pairs', 'lpips', 'recognition'):
        if getattr(run.eval, field):
            raise UserError(f'eval.{field}', f'this is measured of a generator, and the run in {workdir} is none')
    train, held_out, products = real_pictures(run)
    if not held_out.count:
        raise UserError(f'data.validation={run.data.validation}', 'nothing was held out, so nothing can be measured')
    if train.count <= NEIGHBOURS:
        raise UserError('data.source', f'{train.count} training pictures are too few, {NEIGHBOURS + 1} are needed')
    size, count = run.eval.batch_size, min(run.eval.count, held_out.count, train.count)
    height, width = run.problem.resolution
    protocol = {
        'size': f'{width}x{height}',
        'data': {'digest': run.source.digest, 'validation': run.data.validation, 'group': run.data.group},
        'counts': {'measured': count, 'searched': train.count},
        'seed': SEED,
    }
    check(protocol)
    net = open_features(f'{workdir}:{run.sample.step}', size)
    known, asked = measure(net, train, size), measure(net, held_out, size).first(count)
    near = {'measured': _nearest(asked, known), 'training': _nearest(known.first(count), known, itself=True)}
    sets = {'measured': asked, 'training': known.first(count)}
    figures = {name: _figures(m, near[name], known, run, net) for name, m in sets.items()}
    chosen = _spread(asked.label)
    rows = [np.concatenate([held_out.load(np.asarray([i])), train.load(near['measured'][i])]) for i in chosen]
    result = {
        'measured': {
            'run': str(workdir),
            'checkpoint': f'step{net.about["step"]:06d}',
            'data': run.data.source,
            'held-out products': len(products),
        },
        'features': dict(net.about),
        'protocol': protocol,
        'figures': figures,
        'confusion': confusion(asked, run.table, net.attributes),
    }
    return result, {'nearest': np.stack(rows)}


def _nearest(asked: Measured, known: Measured, itself: bool = False) -> np.ndarray:
    """Indices [N, NEIGHBOURS] of the nearest of `known`; with `itself`, `asked` are the first of these."""
    found = nearest(unit_length(asked.features), unit_length(known.features), NEIGHBOURS + itself).index
    if not itself:
        return found
    others = found != np.arange(len(found))[:, None]
    others[others.all(1), -1] = False  # where copies came before it
    return found[others].reshape(len(found), NEIGHBOURS)


def _figures(m: Measured, near: np.ndarray, known: Measured, run: Run, net: FeatureNet) -> dict[str, float]:
    found = {}
    for name, asked, told in answers(m.label, m.told, run.table, net.attributes):
        found |= _share(f'accuracy/{name}', told == asked)
    for column, name in enumerate(run.labels):
        asked, beside = m.label[:, column], known.label[near[:, 0], column]
        counted = (asked >= 0) & (beside >= 0)
        if counted.any():
            found |= _share(f'nearest/{name}', (asked == beside)[counted])
    return found


def _share(name: str, right: np.ndarray) -> dict[str, float]:
    share = float(np.mean(right))
    return {name: share, f'{name}_error': float(np.sqrt(share * (1 - share) / len(right)))}


def _spread(label: np.ndarray) -> np.ndarray:
    """Indices of `ROWS` pictures [N, A], one of each value of the first attribute after the other."""
    if not label.shape[1]:
        return np.arange(min(ROWS, len(label)))
    turn = np.zeros(len(label), int)
    for code in np.unique(label[:, 0]):
        places = np.flatnonzero(label[:, 0] == code)
        turn[places] = np.arange(len(places))
    return np.lexsort((label[:, 0], turn))[:ROWS]
