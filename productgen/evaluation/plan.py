"""Prepares the evaluation of generated pictures or of a folder: opens and checks everything before any long work."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError, difference
from productgen.config.sections import EvalConfig
from productgen.data.metadata import categorical
from productgen.evaluation.figures import Distance
from productgen.evaluation.generator import recognition_config
from productgen.evaluation.sets import (
    LOOKED_AT,
    SEED,
    PictureSet,
    folder_pictures,
    generated_pictures,
    real_pictures,
    unreadable,
)
from productgen.methods.base import HasLatents, Reconstructs
from productgen.metrics.manifold import K_DENSITY, K_PRECISION
from productgen.metrics.memorisation import LEAST
from productgen.model.config import Config
from productgen.model.ensemble import Ensemble, open_ensemble
from productgen.model.features import FeatureNet, open_features, open_lpips
from productgen.published.networks import BEST
from productgen.published.weights import INSTALL
from productgen.train.run import Run

_log = logging.getLogger('productgen')


@dataclasses.dataclass(frozen=True)
class Sets:
    """The sets of pictures of an evaluation.

    Attributes:
      measured: the pictures to measure.
      train: training pictures, in which copies are searched for.
      held_out: held-out pictures; None where there are too few to measure.
      independent: indices of the held-out pictures for the test for copies: one of each product, or all where the
        products are too few.
      originals: the target of each measured picture, or None.
    """

    measured: PictureSet
    train: PictureSet
    held_out: PictureSet | None
    independent: np.ndarray
    originals: PictureSet | None


@dataclasses.dataclass(frozen=True)
class Recognition:
    """The classifier of `eval.recognition`.

    Attributes:
      config: its config.
      names: the attributes that it learns.
    """

    config: Config
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that an evaluation needs; made by `make_plan`.

    Attributes:
      run: the config and its data.
      workdir: of the run.
      about: what is measured, for the report.
      sets: the pictures.
      ensemble: the generators of the measured pictures; None where these are from a folder.
      knobs: the settings that the pictures are generated with.
      net: the feature network; None without `eval.features`.
      lpips: LPIPS, or None.
      protocol: what another report must have in common with this one.
      recognition: the classifier that is trained on the pictures, or None.
      left_out: see `Result.left_out`.
    """

    run: Run
    workdir: Path
    about: Mapping[str, Any]
    sets: Sets
    ensemble: Ensemble | None
    knobs: Mapping[str, float]
    net: FeatureNet | None
    lpips: Distance | None
    protocol: Mapping[str, Any]
    recognition: Recognition | None
    left_out: tuple[str, ...]

    @property
    def settings(self) -> EvalConfig:
        """The `eval` section."""
        return self.run.config.eval

    @property
    def count(self) -> int:
        """Pictures of each of the two sets that are compared with the reference."""
        return self.protocol['counts']['measured']


def make_plan(run: Run, workdir: Path) -> Plan:
    """Opens and checks what the `eval` section names.

    Raises:
      UserError, CheckpointError: something cannot be used; the message names it and what to do.
    """
    settings = run.config.eval
    _check(settings, run)
    classifier = recognition_config(settings.features, settings.recognition) if settings.recognition else None
    train, held_out, products = real_pictures(run)
    ensemble, knobs = None, {}
    if settings.images:
        measured, about = folder_pictures('images', settings.images, run, settings.count)
    else:
        ensemble = open_ensemble(workdir, dataclasses.replace(run.config.sample, output='grid'))
        knobs = ensemble.knobs(run.config.sample)
        knobs |= {'truncation': settings.truncation} if 'truncation' in knobs else {}
        measured = generated_pictures(ensemble, settings.count, knobs)
        about = {'run': str(workdir), 'checkpoint': ensemble.name, **knobs}
    for pictures in (train, measured):
        if pictures.count <= LEAST:
            raise UserError(
                '--mode=eval', f'{pictures.count} {pictures.name} are too few, at least {LEAST + 1} are needed'
            )
    # Most figures depend on the number of pictures, so both columns have the same.
    base, other = (train, held_out) if settings.reference == 'train' else (held_out, train)
    count = min(settings.count, measured.count)
    if settings.floor and other.count < count:
        count = other.count
        _log.info('Measuring %d pictures, as many as there are %s (eval.floor=False for more)', count, other.name)
    measured = measured.first(count)
    originals, found = _originals(settings, run, measured) if settings.originals else (None, {})
    about |= {f'originals: {name}': value for name, value in found.items()} | {'data': run.config.data.source}
    about |= {f'data: {name}': value for name, value in unreadable(run.source, run.config.data.source).items()}
    recognition = Recognition(classifier, _learnable(run, measured, train.first(count))) if classifier else None
    net = open_features(settings.features, settings.batch_size) if settings.features.strip() else None
    about |= {'features': _name(net, settings.features)}
    if net:
        _log.info('Features: %s', about['features'])
    lpips = open_checked_lpips(settings, run.problem.resolution) if settings.lpips else None
    if settings.path_pairs and net and not lpips and net.size not in (None, run.problem.resolution):
        raise UserError(
            'eval.path_pairs',
            f'path lengths are measured without resizing, and eval.features={settings.features} has another size',
            'set eval.lpips, or use features of pictures of this size',
        )
    if net:
        _warn(net, run)
    independent = products if len(products) >= LEAST else np.arange(held_out.count)
    left_out = _left_out(run, net)
    for text in left_out:
        _log.warning('%s', text)
    return Plan(
        run=run,
        workdir=workdir,
        about=about,
        sets=Sets(measured, train, held_out if _enough_held_out(run) else None, independent, originals),
        ensemble=ensemble,
        knobs=knobs,
        net=net,
        lpips=lpips,
        protocol=_protocol(settings, run, net, count, min(settings.count, base.count)),
        recognition=recognition,
        left_out=left_out,
    )


def _name(net: FeatureNet | None, setting: str) -> str:
    """The features, for the report."""
    if not net:
        return 'none'
    about = f'{net.name} ({net.about["network"]})'
    return about if net.name == setting.strip() else f'{about}, by eval.features={setting.strip()}'


def _enough_held_out(run: Run) -> bool:
    return len(run.held_out) > LEAST


def _left_out(run: Run, net: FeatureNet | None) -> tuple[str, ...]:
    """What cannot be measured with these features, and without held-out pictures; see `Result.left_out`."""
    found = []
    if not net:
        found.append(
            'eval.features is empty: Fréchet and kernel distances, precision, recall, density, coverage, distances by '
            'class and copies by features need a feature network: leave --config.eval.features at its default, auto.'
        )
    if run.labels and not (net and net.attributes):
        source = shlex.quote(f'--config.data.source={run.config.data.source}')
        found.append(
            'Accuracies of labels and the Inception Score need a network that predicts labels. Train one with `python '
            f'launch.py --config=configs/classifier.py --workdir=runs/features {source}`, then give '
            '--config.eval.features=runs/features.'
        )
    if net and net.name == BEST[-1]:
        found.append(
            f'The figures are by the features of a small network; those of EfficientNet-lite0 see more: {INSTALL}, '
            'then measure again.'
        )
    if not _enough_held_out(run):
        rebuilt = ', their reconstructions' if isinstance(run.method, Reconstructs) else ''
        found.append(
            f'data.validation={run.config.data.validation} held out {len(run.held_out)} pictures, at least {LEAST + 1} '
            f'are needed for: the test for copies of training pictures, near duplicates of held-out pictures{rebuilt}.'
        )
    return tuple(found)


def _check(settings: EvalConfig, run: Run) -> None:
    """Raises a UserError where the settings need what the run does not have."""
    if settings.count <= LEAST:
        raise UserError('eval.count', f'must be at least {LEAST + 1}')
    if not settings.features.strip():
        for field in ('truncations', 'recognition', *(() if settings.lpips else ('path_pairs',))):
            if getattr(settings, field):
                other = ' or eval.lpips' if field == 'path_pairs' else ''
                raise UserError(f'eval.{field}', f'it needs eval.features{other}, which is empty', 'set it')
    if not _enough_held_out(run):
        _check_without_held_out(settings, run)
    if settings.images:
        for field in ('truncations', 'path_pairs'):
            if getattr(settings, field):
                raise UserError(f'eval.{field}', 'it applies to generators, not to eval.images')
    elif settings.truncations and all(knob.name != 'truncation' for knob in run.method.knobs):
        raise UserError('eval.truncations', f'{run.config.method.name!r} has no truncation')
    if settings.path_pairs:
        if not isinstance(run.method, HasLatents):
            raise UserError('eval.path_pairs', 'the method has no style latents; path lengths are those of StyleGAN')
        if run.config.sample.also and run.config.sample.combine == 'mixture':
            raise UserError('eval.path_pairs', 'it needs one generator', 'use sample.combine=average')
    rebuilds = isinstance(run.method, Reconstructs) and not settings.images and _enough_held_out(run)
    if settings.lpips and not (settings.originals or rebuilds or settings.path_pairs):
        raise UserError(
            'eval.lpips',
            'none of the figures needs it',
            'it is used by eval.originals, eval.path_pairs, and methods that reconstruct or translate',
        )
    if settings.recognition and not run.labels:
        raise UserError('eval.recognition', 'the run was trained without labels, so no classifier can be trained')


def _check_without_held_out(settings: EvalConfig, run: Run) -> None:
    """Raises a UserError where the settings need held-out pictures; a run that has been trained cannot get any."""
    few = (
        f'data.validation={run.config.data.validation} held out {len(run.held_out)} pictures, and at least {LEAST + 1} '
        'are needed'
    )
    if settings.reference == 'held_out':
        raise UserError('eval.reference', few, 'compare with the training pictures: eval.reference=train')
    if settings.recognition:
        raise UserError('eval.recognition', few, 'leave it empty, or train a run with a larger data.validation')
    if settings.floor:
        raise UserError('eval.floor', few, 'leave the column of real pictures out with --config.eval.floor=False')


def _warn(net: FeatureNet, run: Run) -> None:
    """Warns where the features were trained on held-out pictures, or do not know some labels."""
    seen = net.about.get('data')
    ours = {name: getattr(run.config.data, name) for name in ('source', 'validation', 'group')}
    if seen and seen != ours and (seen['source'] == ours['source'] or net.about['digest'] == run.facts.digest):
        lines = ', '.join(difference(seen, ours, 'data.'))
        _log.warning('The features were trained on other pictures of the data set, maybe held-out ones (%s)', lines)
    for name, values in run.facts.labels.attributes.items():
        unknown = set(values) - set(net.attributes.get(name, values))
        if unknown:
            _log.warning(
                '%s: the features do not know %s; predictions for these count as wrong',
                name,
                ', '.join(sorted(unknown)),
            )


def _protocol(settings: EvalConfig, run: Run, net: FeatureNet | None, count: int, reference: int) -> dict[str, Any]:
    """All that must be equal in two reports for their figures to be comparable, as JSON values."""
    height, width = run.problem.resolution
    return {
        'features': {name: net.about[name] for name in ('network', 'weights', 'features')} if net else None,
        'size': f'{width}x{height}',
        'fit': run.config.data.fit,
        'resize': net.resize_of(run.problem.resolution) if net else None,
        'data': {
            'digest': run.facts.digest,
            'validation': run.config.data.validation,
            'group': run.config.data.group,
        },
        'reference': settings.reference,
        'counts': {'measured': count, 'reference': reference, 'by pixels': min(LOOKED_AT, count)},
        'neighbours': {'precision, recall': K_PRECISION, 'density, coverage': K_DENSITY},
        'paths': {'pairs': settings.path_pairs, 'distance': settings.lpips or 'features'}
        if settings.path_pairs
        else None,
        'recognition': settings.recognition,
        'seed': SEED,
    }


def open_checked_lpips(settings: EvalConfig, size: tuple[int, int]) -> Distance:
    """LPIPS for pictures of (H, W).

    Raises:
      UserError: its weights are missing, or the pictures are too small for it.
    """
    distance = open_lpips(settings.lpips, settings.batch_size)
    images = np.zeros((1, *size, 3), np.uint8)
    if not np.isfinite(distance(images, images)).all():
        raise UserError(f'eval.lpips={settings.lpips}', f'pictures of {size[1]}x{size[0]} are too small for it')
    return distance


def _learnable(run: Run, *sets: PictureSet) -> tuple[str, ...]:
    """The attributes of which each set has at least two values, and enough pictures of each.

    Raises:
      UserError: there is none.
    """

    def learnable(name: str, column: np.ndarray) -> bool:
        # By the rule for the metadata of a folder, as which these pictures will be read.
        found = categorical(name, [str(code) if code >= 0 else None for code in column])
        return found is not None and len(found[0]) > 1

    names = tuple(n for i, n in enumerate(run.labels) if all(learnable(n, p.label[:, i]) for p in sets))
    if not names:
        raise UserError(
            'eval.recognition', 'the pictures do not have two values of any label, so there is nothing to learn'
        )
    return names


def _originals(settings: EvalConfig, run: Run, measured: PictureSet) -> tuple[PictureSet, dict[str, Any]]:
    """The original of each measured picture, by file name, and a description of their folder for the report.

    Raises:
      UserError: some are missing.
    """
    found, about = folder_pictures('originals', settings.originals, run, None)
    places = {name: i for i, name in enumerate(found.files)}
    missing = [name for name in measured.files if name not in places]
    if missing:
        raise UserError(
            f'eval.originals={settings.originals}',
            f'{len(missing)} pictures of eval.images have no original of the same name, such as '
            + ', '.join(missing[:3])
            + (f' (cannot be read: {about["unreadable files"]})' if 'unreadable' in about else ''),
        )
    chosen = np.asarray([places[name] for name in measured.files])
    load = lambda i: found.load(chosen[i])
    return PictureSet('originals', load, found.label[chosen], measured.files, found.workers), about
