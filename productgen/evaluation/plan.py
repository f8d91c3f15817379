"""What an evaluation measures and measures by: everything opened and checked before anything long begins."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError, difference
from productgen.config.sections import EvalConfig
from productgen.data.metadata import categorical
from productgen.evaluation.figures import Distance
from productgen.evaluation.generator import check_paths, recognition_config
from productgen.evaluation.sets import LOOKED_AT, SEED, Pictures, folder_pictures, generated_pictures, real_pictures
from productgen.methods import Reconstructing, Sampling
from productgen.metrics.manifold import K_DENSITY, K_PRECISION
from productgen.metrics.memorisation import LEAST
from productgen.model.ensemble import Ensemble, load
from productgen.model.features import FeatureNet, open_features, open_lpips
from productgen.train.run import Run

_log = logging.getLogger('productgen')


@dataclasses.dataclass(frozen=True)
class Plan:
    """See the module; made by `make_plan`.

    Attributes:
      config: all sections.
      run: what the config says.
      about: what is measured, for the report.
      train: training pictures, in which copies are searched.
      held_out: held-out pictures.
      alone: places of held-out pictures of different products, enough of them to be independent.
      other: the pictures that are measured.
      ensemble: what makes them; None where they are of a folder.
      originals: the true picture of each of them, or None.
      net: what measures.
      lpips: LPIPS, or None.
      protocol: what another report must have in common with this one.
      classifier: config of the classifier of `eval.recognition`, or None.
      taught: the attributes that it learns.
    """

    config: Mapping[str, Any]
    run: Run
    about: Mapping[str, Any]
    train: Pictures
    held_out: Pictures
    alone: np.ndarray
    other: Pictures
    ensemble: Ensemble | None
    originals: Pictures | None
    net: FeatureNet
    lpips: Distance | None
    protocol: Mapping[str, Any]
    classifier: Mapping[str, Any] | None
    taught: tuple[str, ...]

    @property
    def settings(self) -> EvalConfig:
        """The `eval` section."""
        return self.run.eval

    @property
    def count(self) -> int:
        """Pictures of each of the two sets that are compared with the reference."""
        return self.protocol['counts']['measured']


def make_plan(config: Mapping[str, Any], run: Run, workdir: Path) -> Plan:
    """Opens and checks what the `eval` section names.

    Raises:
      UserError, CheckpointError: something cannot be used; the message names it and the way out.
    """
    settings = run.eval
    _check(settings, run, workdir)
    classifier = recognition_config(settings.features, settings.recognition) if settings.recognition else None
    train, held_out, products = real_pictures(run)
    ensemble = None
    if settings.images:
        other, about = folder_pictures('images', settings.images, run, settings.count)
    else:
        ensemble = load(run, workdir)
        other = generated_pictures(ensemble, settings.count, settings.truncation)
        about = {'run': str(workdir), 'checkpoint': ensemble.name, 'truncation': settings.truncation}
        if hasattr(run.method, 'denoiser'):
            about |= {'guidance': run.sample.guidance, 'denoising_steps': run.sample.denoising_steps}
    for pictures in (train, held_out, other):
        if pictures.count <= LEAST:
            hint = ' (data.validation decides how many)' if pictures is held_out else ''
            raise UserError(
                '--mode=eval', f'{pictures.count} {pictures.name}{hint} are too few, {LEAST + 1} are needed'
            )
    # The real pictures beside the measured ones are to be as many: most figures depend on the count.
    base, beside = (train, held_out) if settings.reference == 'train' else (held_out, train)
    count = min(settings.count, other.count)
    if settings.floor and beside.count < count:
        count = beside.count
        _log.info('Measuring %d pictures, as many as there are %s (eval.floor=False for more)', count, beside.name)
    other = other.first(count)
    originals = _originals(settings, run, other) if settings.originals else None
    taught = _taught(run, other, train.first(count)) if classifier else ()
    net = open_features(settings.features, settings.batch_size)
    lpips = _lpips(settings, run) if settings.lpips else None
    if settings.path_pairs and not lpips and net.size not in (None, run.problem.resolution):
        raise UserError(
            'eval.path_pairs',
            (f'path lengths are measured without resizing, and eval.features={settings.features} is of another size'),
            'set eval.lpips, or use features of pictures of this size',
        )
    _warn(net, run)
    return Plan(
        config,
        run,
        about | {'data': run.data.source, 'features': settings.features},
        train,
        held_out,
        products if len(products) >= LEAST else np.arange(held_out.count),
        other,
        ensemble,
        originals,
        net,
        lpips,
        _protocol(settings, run, net, count, min(settings.count, base.count)),
        classifier,
        taught,
    )


def _check(settings: EvalConfig, run: Run, workdir: Path) -> None:
    """Raises a UserError where the settings ask for what this run has not."""
    if not settings.features.strip():
        raise UserError(
            'eval.features',
            (
                'which features? Train them with `python launch.py --config=configs/classifier.py '
                '--workdir=runs/features` on the same data source, then give --config.eval.features=runs/features'
            ),
        )
    if settings.images:
        for field in ('truncations', 'path_pairs'):
            if getattr(settings, field):
                raise UserError(f'eval.{field}', 'this is measured of a generator, not of eval.images')
    elif not isinstance(run.method, Sampling):
        raise UserError(f'--workdir={workdir}', 'its method makes no pictures', '--mode=eval measures a generator')
    if settings.truncations and hasattr(run.method, 'denoiser'):
        raise UserError('eval.truncations', 'diffusion has no truncation')
    if settings.path_pairs:
        check_paths(run.method)
        if run.sample.also and run.sample.combine == 'mixture':
            raise UserError('eval.path_pairs', 'paths are those of one generator', 'use sample.combine=average')
    pairs = settings.originals or (isinstance(run.method, Reconstructing) and not settings.images)
    if settings.lpips and not (pairs or settings.path_pairs):
        raise UserError(
            'eval.lpips', 'nothing here is measured by it', 'it is for eval.originals, eval.path_pairs, and VAEs'
        )
    if settings.recognition and not run.labels:
        raise UserError('eval.recognition', 'the run was trained without labels, there is nothing to recognise')


def _warn(net: FeatureNet, run: Run) -> None:
    """Says what the features do not allow to measure, or not fairly."""
    seen = net.about.get('data')
    ours = {name: getattr(run.data, name) for name in ('source', 'validation', 'group')}
    if seen and seen != ours and (seen['source'] == ours['source'] or net.about['digest'] == run.source.digest):
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
        'data': {'digest': run.source.digest, 'validation': run.data.validation, 'group': run.data.group},
        'reference': settings.reference,
        'counts': {'measured': count, 'reference': reference, 'by pixels': min(LOOKED_AT, count)},
        'neighbours': {'precision, recall': K_PRECISION, 'density, coverage': K_DENSITY},
        'paths': {'pairs': settings.path_pairs, 'distance': settings.lpips or 'features'}
        if settings.path_pairs
        else None,
        'recognition': settings.recognition,
        'seed': SEED,
    }


def _lpips(settings: EvalConfig, run: Run) -> Distance:
    """LPIPS.

    Raises:
      UserError: its weights cannot be had, or pictures are too small for it.
    """
    distance = open_lpips(settings.lpips, settings.batch_size)
    images = np.zeros((1, *run.problem.resolution, 3), np.uint8)
    if not np.isfinite(distance(images, images)).all():
        raise UserError(f'eval.lpips={settings.lpips}', f'pictures of {run.problem.resolution} are too small for it')
    return distance


def _taught(run: Run, *sets: Pictures) -> tuple[str, ...]:
    """The attributes of which each set has at least two values, and enough pictures of each.

    Raises:
      UserError: there is none.
    """

    def learnable(name: str, column: np.ndarray) -> bool:
        # As a folder of these pictures will be read.
        found = categorical(name, [str(code) if code >= 0 else None for code in column])
        return found is not None and len(found[0]) > 1

    names = tuple(n for i, n in enumerate(run.labels) if all(learnable(n, p.label[:, i]) for p in sets))
    if not names:
        raise UserError('eval.recognition', 'the pictures have no two values of any label, there is nothing to learn')
    return names


def _originals(settings: EvalConfig, run: Run, other: Pictures) -> Pictures:
    """The original of each picture, by its file name.

    Raises:
      UserError: there is none of some.
    """
    found, _ = folder_pictures('originals', settings.originals, run, None)
    places = {name: i for i, name in enumerate(found.files)}
    missing = [name for name in other.files if name not in places]
    if missing:
        raise UserError(
            f'eval.originals={settings.originals}',
            (
                f'{len(missing)} of eval.images have no picture of their name there, {", ".join(missing[:3])} for '
                'example'
            ),
        )
    chosen = np.asarray([places[name] for name in other.files])
    return Pictures('originals', lambda i: found.load(chosen[i]), found.label[chosen], other.files, found.workers)
