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

from productgen.config import ConfigError, build, difference
from productgen.ensemble import Ensemble, load
from productgen.evaluation import generator
from productgen.evaluation.copies import PAIRS, copying, duplicates
from productgen.evaluation.figures import Comparison, Distance, accuracies, by_class, confusion, pairwise
from productgen.evaluation.recogniser import recognised
from productgen.evaluation.report import write_report
from productgen.evaluation.sets import (
    LOOKED_AT,
    SEED,
    Pictures,
    folder_pictures,
    generated_pictures,
    measure,
    real_pictures,
)
from productgen.features import FeatureNet, open_features, open_lpips
from productgen.methods import Reconstructing, Representing, Sampling
from productgen.metrics.manifold import K_DENSITY, K_PRECISION
from productgen.metrics.memorisation import LEAST
from productgen.metrics.neighbours import Progress
from productgen.sampler import Sampler
from productgen.sections import EvalConfig
from productgen.setup import Run, prepare
from productgen.workdir import check_workdir, read_config

_log = logging.getLogger('productgen')
SHOWN = 48  # pictures of each set in the report
BRIEF = ('frechet_distance', 'kernel_distance', 'precision', 'recall')  # said in the log


def evaluate(config: Mapping[str, Any], workdir: Path) -> Path:
    """Measures, and writes `report.json` and `report.html`.

    Args:
      config: its sections `eval` and `sample` count; the others are the workdir's own if it holds a run.
      workdir: of a run or, with `eval.images`, any folder.

    Returns:
      the HTML file.

    Raises:
      ConfigError, DataError, CheckpointError: something cannot be used; the message names it and the way out.
    """
    settings, has_run = build(EvalConfig, config.get('eval', {}), 'eval'), (workdir / 'config.json').exists()
    if jax.process_count() > 1:
        raise ConfigError('--mode=eval: one process is enough, which uses all devices that it sees')
    if has_run:
        # How samples are shown is nothing to this.
        shown = {'sample': {**config['sample'], 'output': 'grid'}, 'eval': config['eval']}
        config = {**read_config(workdir), **shown}
    elif not settings.images:
        raise ConfigError(f'--workdir={workdir}: there is no run in it to measure; or set eval.images')
    elif not settings.out:
        raise ConfigError(f'eval.out: where to write? --workdir={workdir} holds no run')
    out = Path(settings.out).expanduser() if settings.out else workdir / 'eval'
    earlier = _earlier(settings.against)
    run = prepare(config, devices=1)
    if has_run:
        # Codes of labels, and what was trained on, are those of the run only if its pictures are.
        check_workdir(workdir, config, run.source.digest, run.table, accept=False)
    metrics = None if settings.images else workdir / 'metrics.jsonl'
    _check_writable(out)
    if isinstance(run.method, Representing) and not settings.images:
        result, sheets = recognised(run, workdir, lambda protocol: _check_protocol(settings, earlier, protocol))
        return write_report(out, result, sheets, earlier, metrics)
    result, sheets = _measured(config, settings, run, workdir, out, earlier)
    path = write_report(out, result, sheets, earlier, metrics)
    found = result['figures']['measured']
    _log.info('%s: %s', path, ', '.join(f'{name} {found[name]:.4g}' for name in BRIEF))
    return path


def _measured(
    config: Mapping[str, Any],
    settings: EvalConfig,
    run: Run,
    workdir: Path,
    out: Path,
    earlier: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The report and its pictures, see `write_report`."""
    _check(settings, run, workdir)
    again = generator.recognition_config(settings.features, settings.recognition) if settings.recognition else None
    train, held_out, products = real_pictures(run)
    ensemble = None if settings.images else load(run, workdir)
    if ensemble:
        other, about = (
            generated_pictures(ensemble, settings.count, settings.truncation),
            _about(settings, run, ensemble),
        )
        about = {'run': str(workdir), **about}
    else:
        other, about = folder_pictures('images', settings.images, run, settings.count)
    for pictures in (train, held_out, other):
        if pictures.count <= LEAST:
            hint = ' (data.validation decides how many)' if pictures is held_out else ''
            raise ConfigError(
                f'--mode=eval: {pictures.count} {pictures.name}{hint} are too few, {LEAST + 1} are needed'
            )
    originals = _originals(settings, run, other) if settings.originals else None
    net = open_features(settings.features, settings.batch_size)
    lpips = _lpips(settings, run) if settings.lpips else None
    if settings.path_pairs and not lpips and net.size not in (None, run.problem.resolution):
        raise ConfigError(
            f'eval.path_pairs: path lengths are measured without resizing, and eval.features={settings.features} is of '
            'another size; set eval.lpips, or use features of pictures of this size'
        )
    _warn(net, run)
    # The real pictures beside the measured ones are to be as many: most figures depend on the count.
    base, beside = (train, held_out) if settings.reference == 'train' else (held_out, train)
    count = min(settings.count, other.count, beside.count)
    protocol = _protocol(settings, run, net, count, min(settings.count, base.count))
    _check_protocol(settings, earlier, protocol)
    other = other.first(count)
    taught = _taught(run, other, train.first(count)) if again else ()
    size = settings.batch_size
    ours, all_train, all_held_out = (measure(net, p, size) for p in (other, train, held_out))
    base, beside = (all_train, all_held_out) if settings.reference == 'train' else (all_held_out, all_train)
    base, beside = base.first(settings.count), beside.first(count)
    compare = Comparison(base)
    sets = {'measured': ours, 'real': beside}
    figures = {
        name: compare(m, _bar(f'Neighbours, {name}')) | accuracies(m, run.table, net.attributes)
        for name, m in sets.items()
    }
    # The test for copies wants independent pictures, which views of one product are not.
    alone = all_held_out.take(products) if len(products) >= LEAST else all_held_out
    copies, closest = copying(ours, all_train, alone, _bar('Search for copies'))
    alike, within, across = duplicates(train, all_train.thumbnails, held_out, all_held_out.thumbnails)
    sweep, pairs = [], {}
    if ensemble:
        values = settings.truncation_list()
        sweep = generator.truncation_sweep(ensemble, values, net, compare, count, size) if values else []
        if settings.path_pairs:
            distance = lpips or generator.feature_distance(net)
            figures['measured'] |= generator.path_length(
                config, ensemble, settings.path_pairs, settings.truncation, distance, size
            )
        if isinstance(run.method, Reconstructing) and len(ensemble.members) == 1:
            real = held_out.first(LOOKED_AT)
            pairs = {
                'what': 'reconstructions of held-out pictures',
                **pairwise(_rebuilt(ensemble, real), real, size, lpips),
            }
    if originals:
        pairs = {
            'what': f'pictures and their originals in {settings.originals}',
            **pairwise(other, originals.first(count), size, lpips),
        }
    if again:
        for name, source in (('measured', other), ('real', train.first(count))):
            found = generator.recognition(again, source, taught, held_out, run.table, size, out)
            figures[name] |= {f'recognition/{n.removeprefix("accuracy/")}': value for n, value in found.items()}
    result = {
        'measured': about | {'data': run.data.source, 'features': settings.features},
        'features': dict(net.about),
        'protocol': protocol,
        'figures': figures,
        'classes': by_class(base, ours, run.table),
        'confusion': confusion(ours, run.table, net.attributes),
        'copies': copies | {'searched': train.count, 'held_out': len(alone.features)},
        'near_duplicates': alike,
        'truncation': sweep,
        'pairs': pairs,
    }
    couple = lambda first, pairs: np.stack([first.load(pairs.first[:PAIRS]), train.load(pairs.second[:PAIRS])], 1)
    sheets = {
        'measured': ours.some[:SHOWN],
        'real': base.some[:SHOWN],
        **{f'copies, {name}': couple(other, found) for name, found in closest.items()},
        **{
            f'alike, {name}': couple(first, found)
            for name, first, found in (('training', train, within), ('held_out', held_out, across))
            if len(found.first)
        },
    }
    return result, sheets


def _check(settings: EvalConfig, run: Run, workdir: Path) -> None:
    """Raises a ConfigError where the settings ask for what this run has not."""
    if not settings.features.strip():
        raise ConfigError(
            'eval.features: which features? Train them with `python launch.py --config=configs/classifier.py '
            '--workdir=runs/features` on the same data source, then give --config.eval.features=runs/features'
        )
    if settings.images:
        for field in ('truncations', 'path_pairs'):
            if getattr(settings, field):
                raise ConfigError(f'eval.{field}: this is measured of a generator, not of eval.images')
    elif not isinstance(run.method, Sampling):
        raise ConfigError(f'--workdir={workdir}: its method makes no pictures; --mode=eval measures a generator')
    if settings.truncations and hasattr(run.method, 'denoiser'):
        raise ConfigError('eval.truncations: diffusion has no truncation')
    if settings.path_pairs:
        generator.check_paths(run.method)
        if run.sample.also and run.sample.combine == 'mixture':
            raise ConfigError('eval.path_pairs: paths are those of one generator; use sample.combine=average')
    if settings.recognition and not run.labels:
        raise ConfigError('eval.recognition: the run was trained without labels, there is nothing to recognise')


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


def _warn(net: FeatureNet, run: Run) -> None:
    """Says what the features do not allow to measure, or not fairly."""
    seen, ours = net.about.get('data'), _split(run)
    if seen and seen['source'] == ours['source'] and seen != ours:
        lines = ', '.join(difference(seen, ours, 'data.'))
        _log.warning('The features were trained on another part of the data (%s): they may know held-out ones', lines)
    for name, values in run.table.attributes.items():
        unknown = set(values) - set(net.attributes.get(name, values))
        if unknown:
            _log.warning('%s: the features cannot tell %s; these count as wrong', name, ', '.join(sorted(unknown)))


def _protocol(settings: EvalConfig, run: Run, net: FeatureNet, count: int, reference: int) -> dict[str, Any]:
    """What two reports must have in common for their figures to be comparable, as JSON values."""
    height, width = run.problem.resolution
    return {
        'features': {name: net.about[name] for name in ('weights', 'features')},
        'size': f'{width}x{height}',
        'fit': run.data.fit,
        'resize': net.resize_of(run.problem.resolution),
        'data': {'digest': run.source.digest, **_split(run)},
        'reference': settings.reference,
        'counts': {'measured': count, 'reference': reference},
        'neighbours': {'precision, recall': K_PRECISION, 'density, coverage': K_DENSITY},
        'paths': {'pairs': settings.path_pairs, 'distance': settings.lpips or 'features'}
        if settings.path_pairs
        else None,
        'recognition': settings.recognition,
        'seed': SEED,
    }


def _split(run: Run) -> dict[str, Any]:
    """What decides which pictures are held out."""
    return {name: getattr(run.data, name) for name in ('source', 'validation', 'group')}


def _check_protocol(settings: EvalConfig, earlier: Mapping[str, Any] | None, protocol: Mapping[str, Any]) -> None:
    """Raises a ConfigError where an earlier report is of another protocol."""
    if earlier and earlier['protocol'] != protocol:
        lines = '\n  '.join(difference(earlier['protocol'], protocol))
        raise ConfigError(
            f'eval.against={settings.against}: of another protocol, so its figures cannot be compared:\n  {lines}'
        )


def _check_writable(out: Path) -> None:
    """Makes the folder; raises a ConfigError where nothing could be written into it when all is measured."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f'eval.out={out}: it cannot be made ({error.strerror})') from None
    if not os.access(out, os.W_OK):
        raise ConfigError(f'eval.out={out}: it cannot be written to')


def _lpips(settings: EvalConfig, run: Run) -> Distance | None:
    """LPIPS, where anything is measured by it.

    Raises:
      ConfigError: its weights cannot be had, or pictures are too small for it.
    """
    if not (settings.path_pairs or settings.originals or isinstance(run.method, Reconstructing)):
        return None
    distance = open_lpips(settings.lpips, settings.batch_size)
    images = np.zeros((1, *run.problem.resolution, 3), np.uint8)
    if not np.isfinite(distance(images, images)).all():
        raise ConfigError(f'eval.lpips={settings.lpips}: pictures of {run.problem.resolution} are too small for it')
    return distance


def _taught(run: Run, *sets: Pictures) -> tuple[str, ...]:
    """The attributes of which each set has at least two values.

    Raises:
      ConfigError: there is none.
    """
    several = lambda column: len(np.unique(column[column >= 0])) > 1
    names = tuple(n for i, n in enumerate(run.labels) if all(several(pictures.label[:, i]) for pictures in sets))
    if not names:
        raise ConfigError('eval.recognition: the pictures have no two values of any label, there is nothing to learn')
    return names


def _about(settings: EvalConfig, run: Run, ensemble: Ensemble) -> dict[str, Any]:
    """What was measured."""
    return {
        'checkpoint': ensemble.name,
        'truncation': settings.truncation,
        'guidance': run.sample.guidance,
        'denoising_steps': run.sample.denoising_steps,
    }


def _rebuilt(ensemble: Ensemble, real: Pictures) -> Pictures:
    """What a method makes of pictures from their codes."""
    model, state = ensemble.members[0]
    sampler = Sampler(model, model.sample.batch_size, model.method.reconstruct)
    load = lambda i: sampler(state, i.astype(np.int32), real.label[i], image=real.load(i))
    return dataclasses.replace(real, name='reconstructions', load=load, workers=1)


def _originals(settings: EvalConfig, run: Run, other: Pictures) -> Pictures:
    """The original of each picture, by its file name.

    Raises:
      ConfigError: there is none of some.
    """
    found, _ = folder_pictures('originals', settings.originals, run, None)
    places = {name: i for i, name in enumerate(found.files)}
    missing = [name for name in other.files if name not in places]
    if missing:
        raise ConfigError(
            f'eval.originals={settings.originals}: {len(missing)} of eval.images have no picture of their name there, '
            f'{", ".join(missing[:3])} for example'
        )
    chosen = np.asarray([places[name] for name in other.files])
    return Pictures('originals', lambda i: found.load(chosen[i]), found.label[chosen], other.files, found.workers)


def _earlier(path: str) -> dict[str, Any] | None:
    """An earlier report."""
    if not path:
        return None
    try:
        report = json.loads(Path(path).expanduser().read_text())
        return {'figures': report['figures']['measured'], **{name: report[name] for name in ('measured', 'protocol')}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'eval.against={path}: not a report.json ({error})') from None
