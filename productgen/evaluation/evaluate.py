"""Measures a run, or any folder of pictures: `--mode=eval`.

Generators and folders: two sets of pictures are measured against the same reference by the same features: the generated
ones, and real pictures that are not in the reference. The figures of the second are those of a perfect generator, for
this number of pictures and these features. Methods that translate pictures are measured on held-out pairs
(`evaluation.pairs`) or, without pairs, by features (`evaluation.unpaired`), methods that restore on held-out pictures
that they degrade (`evaluation.restored`), methods that only have features on their predictions for held-out pictures
(`evaluation.recogniser`). Every report states its protocol; figures of different protocols are not compared.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from productgen.config import UserError, difference
from productgen.config.paths import user_path
from productgen.config.sections import EvalConfig
from productgen.evaluation import generator
from productgen.evaluation.copies import PAIRS, copying, duplicates, neighbours
from productgen.evaluation.figures import Comparison, accuracies, by_class, confusion, pairwise
from productgen.evaluation.pairs import translated
from productgen.evaluation.plan import Plan, make_plan, open_checked_lpips
from productgen.evaluation.recogniser import recognised
from productgen.evaluation.report import COLUMNS, write_report
from productgen.evaluation.restored import restored
from productgen.evaluation.result import Earlier, Result
from productgen.evaluation.sets import LOOKED_AT, Measured, measure
from productgen.evaluation.unpaired import translated_unpaired
from productgen.methods.base import Generates, Reconstructs, Represents, Restores, Translates
from productgen.metrics.neighbours import Progress
from productgen.model.config import Config
from productgen.model.workdir import config_changes, label_changes, locked, read_config, read_facts
from productgen.train.run import Run, open_run

_log = logging.getLogger('productgen')
Check = Callable[[Mapping[str, Any]], None]  # raises a UserError where an earlier report has another protocol
Evaluator = Callable[[Run, Path, Check, Path], Result]  # the last is a folder for temporary files
SHOWN = 48  # pictures of each set in the report
ROWS = 12  # pictures in the report that are followed by their nearest training pictures
# The beginnings of the names of the figures in the log.
BRIEF = 'frechet_distance', 'kernel_distance', 'sliced_wasserstein', 'precision', 'recall', 'accuracy', 'psnr', 'ssim'


def evaluate(config: Config, workdir: Path, accept_change: bool = False) -> Path:
    """Measures what the `eval` section names, and writes `report.json` and `report.html`.

    Args:
      config: the typed config; all that training depends on must equal the config of the run in `workdir`, if any.
      workdir: of a run or, with `eval.images`, any folder.
      accept_change: allow that the pictures of the data set have changed since the training.

    Returns:
      the HTML file.

    Raises:
      UserError, CheckpointError: something cannot be used; the message names it and what to do.
    """
    settings, has_run = config.eval, (workdir / 'config.json').exists()
    if jax.process_count() > 1:
        raise UserError('--mode=eval', 'it runs in one process, which uses all devices that it sees')
    if has_run:
        _check_same(workdir, config)
    elif not settings.images:
        raise UserError(f'--workdir={workdir}', 'there is no run in it to measure', 'or set eval.images')
    elif not settings.out:
        raise UserError('eval.out', f'no folder to write to is given, and --workdir={workdir} holds no run')
    out = user_path(settings.out, 'eval.out') if settings.out else workdir / 'eval'
    earlier = _earlier(settings.against)
    run = open_run(config, devices=1, training=False)
    if has_run:
        _check_pictures(workdir, run, accept_change)
    metrics = None if settings.images else workdir / 'metrics.jsonl'
    _check_writable(out)
    check = lambda protocol: _check_protocol(settings, earlier, protocol)
    with locked(out):
        result = _evaluator(run)(run, workdir, check, out)
        path = write_report(out, result, earlier, metrics)
    found = result.figures['measured']
    names = [name for name in found if name.startswith(BRIEF) and not name.endswith('_error')]
    _log.info('%s: %s', path, ', '.join(f'{name} {found[name]:.4g}' for name in names))
    return path


def _evaluator(run: Run) -> Evaluator:
    """The evaluation that fits a method; one that generates is measured as a generator, whatever else it can do.

    Raises:
      UserError: there is none.
    """
    if run.config.eval.images or isinstance(run.method, Generates):
        return _measured
    if isinstance(run.method, Translates):
        return _translated
    if isinstance(run.method, Represents):
        return lambda run, workdir, check, out: recognised(run, workdir, check)
    raise UserError(
        '--mode=eval',
        f'methods that generate, translate or have features are measured; {run.config.method.name!r} is none',
    )


def _translated(run: Run, workdir: Path, check: Check, out: Path) -> Result:
    """The report on a method that translates pictures."""
    settings = run.config.eval
    if run.config.data.unpaired:
        return translated_unpaired(run, workdir, check)
    size = run.facts.columns.get('target', (*run.problem.resolution, 3))[:2]
    lpips = open_checked_lpips(settings, size) if settings.lpips else None
    return (restored if isinstance(run.method, Restores) else translated)(run, workdir, lpips, check)


def _check_same(workdir: Path, config: Config) -> None:
    """Raises a UserError where the workdir holds a run with another config.

    The same pictures may be in another place: where the run knows their digest, `_check_pictures` compares that once
    they have been read.
    """
    lines = config_changes(workdir, config, same_pictures=bool(read_facts(workdir).digest))
    if lines:
        raise UserError(
            f'--workdir={workdir}',
            'it holds a run with another config:\n  ' + '\n  '.join(lines) + '\n',
            'Give neither --config nor these fields to measure that run, or choose another --workdir.',
        )


def _check_pictures(workdir: Path, run: Run, accept: bool) -> None:
    """Raises a UserError where the pictures are not those that the run in the workdir was trained on.

    Label codes and the division into training and held-out pictures depend on them.
    """
    lines, trained = label_changes(workdir, run.facts.labels), read_facts(workdir)
    if lines or (trained.digest not in ('', run.facts.digest) and not accept):
        source, before = run.config.data.source, read_config(workdir).data.source
        what = f'the pictures of {source} have changed since {workdir} was trained'
        remedy = 'restore the earlier ones'
        if source != before:
            what = f'the pictures of {source} are not those of {before} that {workdir} was trained on'
            remedy = 'give the folder that holds the earlier ones'
        more = '' if lines else ', or add --accept_config_change to measure against them as they are now'
        counts = trained.labels.pictures, run.facts.labels.pictures
        if counts[0] != counts[1]:
            lines.append('{:,} pictures to train on -> {:,}'.format(*counts))
        raise UserError('data.source', what + ''.join(f'\n  {line}' for line in lines), remedy + more)


def _measured(run: Run, workdir: Path, check: Check, out: Path) -> Result:
    """The report on generated pictures, or on a folder."""
    plan = make_plan(run, workdir)
    check(plan.protocol)
    settings, table, sets = plan.settings, run.facts.labels, plan.sets
    known = plan.net.attributes if plan.net else {}
    ours, train, held_out = (
        p and measure(plan.net, p, settings.batch_size) for p in (sets.measured, sets.train, sets.held_out)
    )
    base, other = (train, held_out) if settings.reference == 'train' else (held_out, train)
    base = base.first(settings.count)
    compare = Comparison(base)
    columns = {'measured': ours} | ({'real': other.first(plan.count)} if settings.floor else {})
    figures = {
        name: compare(m, _bar(f'Neighbours, {name}')) | accuracies(m, table, known) for name, m in columns.items()
    }
    alike, sheets = _alike(plan, ours, train, held_out)
    paths, sweep = _of_generator(plan, compare, figures['measured'])
    figures['measured'] |= paths
    for name, found in _recognition(plan, out).items():
        figures[name] |= found
    return Result(
        measured=dict(plan.about),
        features=dict(plan.net.about) if plan.net else {},
        left_out=list(plan.left_out),
        protocol=dict(plan.protocol),
        figures=figures,
        classes={name: by_class(base, m, table) for name, m in columns.items()},
        confusion=confusion(ours, table, known),
        **alike,
        truncation=sweep,
        pairs=_pairs(plan),
        sheets={'measured': ours.some[:SHOWN], 'real': base.some[:SHOWN], **sheets},
    )


def _alike(
    plan: Plan, ours: Measured, train: Measured, held_out: Measured | None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Copies of training pictures, near duplicates of the data set, and sheets of the closest pairs and neighbours."""
    sets, copies, found = plan.sets, None, {}
    if held_out:
        # The test for copies assumes independent pictures; several views of one product are not.
        copies, closest = copying(ours, train, held_out.take(sets.independent), _bar('Search for copies'))
        copies |= {'searched': sets.train.count, 'held_out': len(sets.independent)}
        found = {f'copies, {name}': (sets.measured, pairs) for name, pairs in closest.items()}
    alike, near = duplicates(sets.train, train, sets.held_out, held_out, _bar('Search for duplicates'))
    first = {'training': sets.train, 'held_out': sets.held_out}
    found |= {f'alike, {name}': (first[name], pairs) for name, pairs in near.items()}
    sheets = {
        name: np.stack([first.load(pairs.first[:PAIRS]), sets.train.load(pairs.second[:PAIRS])], 1)
        for name, (first, pairs) in found.items()
        if len(pairs.first)
    }
    count = min(ROWS, sets.measured.count)
    index = neighbours(ours, train, COLUMNS - 1, count)
    if index is not None:
        real = sets.train.load(index.ravel()).reshape(*index.shape, *ours.some.shape[1:])
        sheets['neighbours'] = np.concatenate([ours.some[:count, None], real], 1)
    return {'copies': copies, 'near_duplicates': alike}, sheets


def _of_generator(
    plan: Plan, compare: Comparison, known: Mapping[str, float]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Path length and the figures at several truncations, where requested; `known` are those at `eval.truncation`."""
    settings, ensemble, paths, sweep = plan.settings, plan.ensemble, {}, []
    size = settings.batch_size
    if ensemble and settings.truncations:
        values = [psi for psi in settings.truncation_list() if psi != settings.truncation]
        sweep = generator.truncation_sweep(ensemble, values, plan.knobs, plan.net, compare, plan.count, size)
        known = {name: known[name] for name in (sweep[0] if sweep else BRIEF) if name in known}
        sweep = sorted([*sweep, {'truncation': settings.truncation, **known}], key=lambda row: row['truncation'])
    if ensemble and settings.path_pairs:
        distance = plan.lpips or generator.feature_distance(plan.net)
        paths = generator.path_length(
            plan.workdir, plan.run.config.sample, settings.path_pairs, settings.truncation, distance, size
        )
    return paths, sweep


def _recognition(plan: Plan, out: Path) -> dict[str, dict[str, float]]:
    """By column, accuracies of classifiers trained on the measured pictures, and on as many real ones."""
    if not plan.recognition:
        return {}
    size, table, sets = plan.settings.batch_size, plan.run.facts.labels, plan.sets
    config, names = plan.recognition.config, plan.recognition.names
    return {
        name: generator.recognition(config, pictures, names, sets.held_out, table, size, out)
        for name, pictures in {'measured': sets.measured, 'real': sets.train.first(plan.count)}.items()
        if name == 'measured' or plan.settings.floor
    }


def _pairs(plan: Plan) -> dict[str, Any]:
    """Figures of pictures and their targets: originals, or the inputs of an autoencoder."""
    size, sets = plan.settings.batch_size, plan.sets
    if sets.originals:
        what = f'pictures and their originals in {plan.settings.originals}'
        return {'what': what, **pairwise(sets.measured, sets.originals, size, plan.lpips)}
    one = plan.ensemble and len(plan.ensemble.members) == 1
    if one and sets.held_out and isinstance(plan.run.method, Reconstructs):
        real, trained = sets.held_out.first(LOOKED_AT), plan.ensemble.first
        load = lambda i: trained.reconstruct(real.load(i), real.label[i])
        rebuilt = dataclasses.replace(real, name='reconstructions', load=load, workers=0)
        return {'what': 'reconstructions of held-out pictures', **pairwise(rebuilt, real, size, plan.lpips)}
    return {}


def _bar(what: str) -> Progress:
    """Shows a progress bar, after two seconds; when it has reached its total, the next call starts another."""
    bars: dict[str, tqdm] = {}

    def progress(done: int, total: int) -> None:
        if 'bar' not in bars:
            bars['bar'] = tqdm(total=total, desc=what, unit='row', delay=2)
        bars['bar'].update(done - bars['bar'].n)
        if done == total:
            bars.pop('bar').close()

    return progress


def _check_protocol(settings: EvalConfig, earlier: Earlier | None, protocol: Mapping[str, Any]) -> None:
    """Raises a UserError where an earlier report is of another protocol."""
    if not earlier:
        return
    features = earlier.protocol.get('features')
    if features and 'network' not in features and protocol.get('features'):
        # An early report, which has only the digest of the weights: it is enough to compare them.
        known = {name: value for name, value in protocol['features'].items() if name in features}
        protocol = {**protocol, 'features': known}
    if earlier.protocol != protocol:
        lines = '\n  '.join(difference(earlier.protocol, protocol))
        raise UserError(
            f'eval.against={settings.against}',
            f'it has another protocol, so its figures cannot be compared:\n  {lines}',
        )


def _check_writable(out: Path) -> None:
    """Makes the folder, and raises a UserError where it cannot be written to, before anything is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'eval.out={out}', f'it cannot be made ({error.strerror})') from None
    if not os.access(out, os.W_OK):
        raise UserError(f'eval.out={out}', 'it cannot be written to')


def _earlier(path: str) -> Earlier | None:
    """The report at a path, None for an empty path.

    Raises:
      UserError: it cannot be read.
    """
    if not path:
        return None
    file = user_path(path, 'eval.against')
    try:
        report = json.loads(file.read_text())
        return Earlier(report['measured'], report['protocol'], report['figures']['measured'])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'eval.against={path}', f'not a report.json ({error})') from None
