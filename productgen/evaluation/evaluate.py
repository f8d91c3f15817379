"""Measures what a generator makes, or any folder of pictures, against real ones: `--mode=eval`.

Two sets of pictures are measured against the same reference by the same features: the generated ones, and real pictures
that are not in the reference. The second says what a perfect generator would have, at these counts and with these
features. Every figure stands with its protocol, and figures of unlike protocols are not compared.

A run that generates nothing but has features (configs/classifier.py) is measured by what these tell of held-out
pictures.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from productgen.config import UserError, build, difference
from productgen.config.sections import EvalConfig
from productgen.evaluation import generator
from productgen.evaluation.copies import PAIRS, copying, duplicates
from productgen.evaluation.figures import Comparison, accuracies, by_class, confusion, pairwise
from productgen.evaluation.plan import Plan, make_plan
from productgen.evaluation.recogniser import recognised
from productgen.evaluation.report import write_report
from productgen.evaluation.sets import LOOKED_AT, Measured, Pictures, measure
from productgen.methods import Reconstructing, Representing
from productgen.metrics.neighbours import Progress
from productgen.model.ensemble import Ensemble
from productgen.model.rows import Sampler
from productgen.model.workdir import config_changes, label_changes, locked, read_digest
from productgen.train.run import Run, prepare

_log = logging.getLogger('productgen')
SHOWN = 48  # pictures of each set in the report
BRIEF = ('frechet_distance', 'kernel_distance', 'precision', 'recall', 'accuracy')  # said in the log


def evaluate(config: Mapping[str, Any], workdir: Path, accept_change: bool = False) -> Path:
    """Measures, and writes `report.json` and `report.html`.

    Args:
      config: all sections; those of training must be the workdir's own if it holds a run.
      workdir: of a run or, with `eval.images`, any folder.
      accept_change: also measure against pictures that came, went or changed since the training.

    Returns:
      the HTML file.

    Raises:
      UserError, DataError, CheckpointError: something cannot be used; the message names it and the way out.
    """
    settings, has_run = build(EvalConfig, config.get('eval', {}), 'eval'), (workdir / 'config.json').exists()
    if jax.process_count() > 1:
        raise UserError('--mode=eval', 'one process is enough, which uses all devices that it sees')
    if has_run:
        _check_same(workdir, config)
        # How samples are shown is nothing to this.
        config = {**config, 'sample': {**config['sample'], 'output': 'grid'}}
    elif not settings.images:
        raise UserError(f'--workdir={workdir}', 'there is no run in it to measure', 'or set eval.images')
    elif not settings.out:
        raise UserError('eval.out', f'where to write? --workdir={workdir} holds no run')
    out = Path(settings.out).expanduser() if settings.out else workdir / 'eval'
    earlier = _earlier(settings.against)
    run = prepare(config, devices=1)
    if has_run:
        _check_pictures(workdir, run, accept_change)
    metrics = None if settings.images else workdir / 'metrics.jsonl'
    _check_writable(out)
    check = lambda protocol: _check_protocol(settings, earlier, protocol)
    with locked(out):
        if isinstance(run.method, Representing) and not settings.images:
            result, sheets = recognised(run, workdir, check)
        else:
            plan = make_plan(config, run, workdir)
            check(plan.protocol)
            result, sheets = measured(plan, out)
        path = write_report(out, result, sheets, earlier, metrics)
    found = result['figures']['measured']
    brief = [f'{name} {value:.4g}' for name, value in found.items() if name.startswith(BRIEF) and name[-6:] != '_error']
    _log.info('%s: %s', path, ', '.join(brief))
    return path


def _check_same(workdir: Path, config: Mapping[str, Any]) -> None:
    """Raises a UserError where the config is not that of the run in the workdir."""
    lines = config_changes(workdir, config)
    if lines:
        raise UserError(
            f'--workdir={workdir} holds a run with another config; leave --config out to measure that run, or choose '
            'another --workdir:\n  ' + '\n  '.join(lines)
        )


def _check_pictures(workdir: Path, run: Run, accept: bool) -> None:
    """Raises a UserError where the pictures are not those that the run in the workdir was trained on.

    Codes of labels, and what was trained on, are those of the run only if its pictures are.
    """
    lines = label_changes(workdir, run.table)
    if lines or (read_digest(workdir) not in ('', run.source.digest) and not accept):
        way = 'put them back' if lines else 'put them back, or add --accept_config_change to measure against them now'
        raise UserError(
            f'data.source: the pictures of {run.data.source} are not what they were when {workdir} was trained; {way}'
            + ''.join(f'\n  {line}' for line in lines)
        )


def measured(plan: Plan, out: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The report and its pictures, see `write_report`.

    Args:
      plan: what to measure.
      out: a folder for what is needed in between.
    """
    settings, table, known = plan.settings, plan.run.table, plan.net.attributes
    ours, train, held_out = (measure(plan.net, p, settings.batch_size) for p in (plan.other, plan.train, plan.held_out))
    base, beside = (train, held_out) if settings.reference == 'train' else (held_out, train)
    base, beside = base.first(settings.count), beside.first(plan.count)
    compare = Comparison(base)
    sets = {'measured': ours, 'real': beside} if settings.floor else {'measured': ours}
    figures = {name: compare(m, _bar(f'Neighbours, {name}')) | accuracies(m, table, known) for name, m in sets.items()}
    alike, sheets = _alike(plan, ours, train, held_out)
    paths, sweep = _of_generator(plan, compare, figures['measured'])
    figures['measured'] |= paths
    for name, found in _recognition(plan, out).items():
        figures[name] |= found
    result = {
        'measured': dict(plan.about),
        'features': dict(plan.net.about),
        'protocol': dict(plan.protocol),
        'figures': figures,
        'classes': {name: by_class(base, m, table) for name, m in sets.items()},
        'confusion': confusion(ours, table, known),
        **alike,
        'truncation': sweep,
        'pairs': _pairs(plan),
    }
    return result, {'measured': ours.some[:SHOWN], 'real': base.some[:SHOWN], **sheets}


def _alike(
    plan: Plan, ours: Measured, train: Measured, held_out: Measured
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Copies of training pictures, near duplicates of the data set, and sheets of the closest pairs."""
    # The test for copies wants independent pictures, which views of one product are not.
    copies, closest = copying(ours, train, held_out.take(plan.alone), _bar('Search for copies'))
    bar = _bar('Search for duplicates')
    alike, within, across = duplicates(plan.train, train.thumbnails, plan.held_out, held_out.thumbnails, bar)
    found = {f'copies, {name}': (plan.other, pairs) for name, pairs in closest.items()}
    found |= {'alike, training': (plan.train, within), 'alike, held_out': (plan.held_out, across)}
    sheets = {
        name: np.stack([first.load(pairs.first[:PAIRS]), plan.train.load(pairs.second[:PAIRS])], 1)
        for name, (first, pairs) in found.items()
        if len(pairs.first)
    }
    searched = {'searched': plan.train.count, 'held_out': len(plan.alone)}
    return {'copies': copies | searched, 'near_duplicates': alike}, sheets


def _of_generator(
    plan: Plan, compare: Comparison, known: Mapping[str, float]
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Path length, and the figures for several truncations, where they are asked for; `known` are those of one."""
    settings, ensemble, paths, sweep = plan.settings, plan.ensemble, {}, []
    if ensemble and settings.truncations:
        values = [psi for psi in settings.truncation_list() if psi != settings.truncation]
        sweep = generator.truncation_sweep(ensemble, values, plan.net, compare, plan.count, settings.batch_size)
        known = {name: known[name] for name in (sweep[0] if sweep else BRIEF) if name in known}
        sweep = sorted([*sweep, {'truncation': settings.truncation, **known}], key=lambda row: row['truncation'])
    if ensemble and settings.path_pairs:
        distance = plan.lpips or generator.feature_distance(plan.net)
        paths = generator.path_length(
            plan.config, ensemble, settings.path_pairs, settings.truncation, distance, settings.batch_size
        )
    return paths, sweep


def _recognition(plan: Plan, out: Path) -> dict[str, dict[str, float]]:
    """Accuracies of classifiers of the measured and of as many training pictures, by column."""
    if not plan.classifier:
        return {}
    size, table = plan.settings.batch_size, plan.run.table
    return {
        name: generator.recognition(plan.classifier, pictures, plan.taught, plan.held_out, table, size, out)
        for name, pictures in {'measured': plan.other, 'real': plan.train.first(plan.count)}.items()
        if name == 'measured' or plan.settings.floor
    }


def _pairs(plan: Plan) -> dict[str, Any]:
    """Figures of pictures and what they should be: originals, or what an autoencoder was given."""
    size = plan.settings.batch_size
    if plan.originals:
        what = f'pictures and their originals in {plan.settings.originals}'
        return {'what': what, **pairwise(plan.other, plan.originals, size, plan.lpips)}
    if plan.ensemble and len(plan.ensemble.members) == 1 and isinstance(plan.run.method, Reconstructing):
        real = plan.held_out.first(LOOKED_AT)
        what = 'reconstructions of held-out pictures'
        return {'what': what, **pairwise(_rebuilt(plan.ensemble, real), real, size, plan.lpips)}
    return {}


def _rebuilt(ensemble: Ensemble, real: Pictures) -> Pictures:
    """What a method makes of pictures from their codes."""
    model, state = ensemble.members[0]
    sampler = Sampler(model, model.sample.batch_size, model.method.reconstruct)
    load = lambda i: sampler(state, i.astype(np.int32), real.label[i], image=real.load(i))
    return dataclasses.replace(real, name='reconstructions', load=load, workers=0)


def _bar(what: str) -> Progress:
    """Shows a progress bar for what takes longer than two seconds; one for each total that is announced."""
    bars: dict[str, tqdm] = {}

    def progress(done: int, total: int) -> None:
        if 'bar' not in bars:
            bars['bar'] = tqdm(total=total, desc=what, unit='row', delay=2)
        bars['bar'].update(done - bars['bar'].n)
        if done == total:
            bars.pop('bar').close()

    return progress


def _check_protocol(settings: EvalConfig, earlier: Mapping[str, Any] | None, protocol: Mapping[str, Any]) -> None:
    """Raises a UserError where an earlier report is of another protocol."""
    if earlier and earlier['protocol'] != protocol:
        lines = '\n  '.join(difference(earlier['protocol'], protocol))
        raise UserError(
            f'eval.against={settings.against}', f'of another protocol, so its figures cannot be compared:\n  {lines}'
        )


def _check_writable(out: Path) -> None:
    """Makes the folder; raises a UserError where nothing could be written into it when all is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'eval.out={out}', f'it cannot be made ({error.strerror})') from None
    if not os.access(out, os.W_OK):
        raise UserError(f'eval.out={out}', 'it cannot be written to')


def _earlier(path: str) -> dict[str, Any] | None:
    """An earlier report."""
    if not path:
        return None
    try:
        report = json.loads(Path(path).expanduser().read_text())
        return {'figures': report['figures']['measured'], **{name: report[name] for name in ('measured', 'protocol')}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'eval.against={path}', f'not a report.json ({error})') from None
