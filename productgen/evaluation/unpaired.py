"""Evaluation of methods that translate pictures without pairs: by features, against pictures of the wanted kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError
from productgen.config.sections import EvalConfig
from productgen.data.source import Source
from productgen.evaluation.figures import Comparison
from productgen.evaluation.pairs import SHOWN, rgb
from productgen.evaluation.result import Result
from productgen.evaluation.sets import SEED, PictureSet, check_not_generated, measure, mixed
from productgen.methods.base import Translates, knob_values
from productgen.metrics.distribution import LEAST
from productgen.model.features import FeatureNet, open_features
from productgen.model.trained import Trained
from productgen.train.run import Run


def translated_unpaired(run: Run, workdir: Path, check: Callable[[Mapping[str, Any]], None]) -> Result:
    """Compares the translations of held-out inputs with targets, and for methods that do both also the other way round.

    The column `identity` has the figures of the inputs themselves, `real` those of targets that are not in the
    reference: the figures of a method that changes nothing, and of a perfect one. Those of the other direction are
    called `reverse`, `reverse_identity` and `reverse_real`.

    Args:
      run: the run, whose targets come from a second data set.
      workdir: its folder.
      check: called with the protocol before any long work.

    Raises:
      UserError: there are too few pictures, or a setting is for generators only.
    """
    settings = run.config.eval
    check_not_generated(run, workdir, ('truncations', 'path_pairs', 'recognition', 'lpips'))
    trained = Trained.open(workdir, run.config.sample.step, batch_size=settings.batch_size, can=Translates)
    knobs = knob_values(trained.knobs, run.config.sample)
    both = 'reverse' in knobs
    sides = {'input': _sets(run.source, 'input', (run.items, run.held_out), settings)}
    sides['target'] = _sets(run.source.other, run.source.column, run.source.targets, settings)
    for name in ('target', 'input')[: 1 + both]:
        if sides[name][settings.reference == 'held_out'].count < LEAST:
            raise UserError(
                'data.target' if name == 'target' else 'data.source',
                f'there are fewer than {LEAST} pictures of eval.reference={settings.reference} to compare with',
            )
    net = open_features(settings.features, settings.batch_size) if settings.features.strip() else None
    counts = {
        f'{name}, {what}': x.count
        for name, both_sets in sides.items()
        for what, x in zip(('train', 'held out'), both_sets, strict=True)
    }
    protocol = {
        'features': {name: net.about[name] for name in ('network', 'weights', 'features')} if net else None,
        'data': {'digest': run.facts.digest, 'validation': run.config.data.validation, 'group': run.config.data.group},
        'unpaired': {'input': run.config.data.input, 'target': run.config.data.target, **counts},
        'reference': settings.reference,
        'size': 'x'.join(map(str, reversed(run.facts.columns['target'][:2]))),
        'knobs': {name: value for name, value in knobs.items() if name != 'reverse'},
        'seed': SEED,
    }
    check(protocol)
    figures, sheets, left_out = {}, {}, []
    for reverse in (False, True)[: 1 + both]:
        given, wanted = ('target', 'input') if reverse else ('input', 'target')
        values = knobs | ({'reverse': reverse} if both else {})
        inputs = sides[given][1]
        make = lambda i, inputs=inputs, values=values: rgb(trained.translate(inputs.load(i), **values))
        outputs = PictureSet(f'translations of {given}s', make, inputs.label)
        found, left = _figures(outputs, inputs, sides[wanted], net, settings)
        prefix = 'reverse' if reverse else ''
        figures |= {
            '_'.join(filter(None, (prefix, name))) if prefix or name else 'measured': x for name, x in found.items()
        }
        left_out += [f'{"Reverse: " if reverse else ""}{text}' for text in left]
        shown = np.arange(min(SHOWN, inputs.count))
        sheets['reverse' if reverse else 'unpaired'] = np.stack([rgb(inputs.load(shown)), outputs.load(shown)], 1)
    about = {'run': str(workdir), 'checkpoint': f'step{trained.step:06d}', 'data': run.config.data.source}
    about |= {'targets': run.config.data.target, 'features': net.name if net else 'none'}
    return Result(about, protocol, figures, dict(net.about) if net else {}, left_out, sheets)


def _sets(
    source: Source, column: str, items: tuple[np.ndarray, np.ndarray], settings: EvalConfig
) -> tuple[PictureSet, PictureSet]:
    """Training and held-out pictures of a column, at most `eval.count` each, in the column's own channels."""

    def pictures(indices: np.ndarray, what: str) -> PictureSet:
        chosen = mixed(indices)[: settings.count]
        load = lambda i: np.stack([source[int(k)][column] for k in chosen[i]])
        return PictureSet(f'{what} pictures ({column})', load, np.zeros((len(chosen), 0), np.int32))

    return pictures(items[0], 'training'), pictures(items[1], 'held-out')


def _figures(
    outputs: PictureSet,
    inputs: PictureSet,
    wanted: tuple[PictureSet, PictureSet],
    net: FeatureNet | None,
    settings: EvalConfig,
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Figures of translations, inputs and real pictures against the reference, and sentences on what is left out."""
    train, held_out = (_in_colour(pictures) for pictures in wanted)
    base, other = (train, held_out) if settings.reference == 'train' else (held_out, train)
    compare = Comparison(measure(net, base, settings.batch_size))
    columns = {'': outputs, 'identity': _in_colour(inputs), 'real': other.first(outputs.count)}
    few = {name: x.count for name, x in columns.items() if x.count < LEAST}
    found = {name: compare(measure(net, x, settings.batch_size)) for name, x in columns.items() if name not in few}
    left_out = [
        f'{columns[name].name}: {count} are too few, at least {LEAST} are needed.' for name, count in few.items()
    ]
    if 'real' in found and columns['real'].count != outputs.count:
        left_out.append(
            f'There are {columns["real"].count} real pictures that are not in the reference, and {outputs.count} '
            'translations: compare their kernel distances, not their Fréchet distances.'
        )
    return found, left_out


def _in_colour(pictures: PictureSet) -> PictureSet:
    """The pictures with three channels."""
    return PictureSet(pictures.name, lambda i: rgb(pictures.load(i)), pictures.label)
