"""Measures what a generator makes, or any folder of pictures, against real ones: `--mode=eval`.

Two sets of pictures are measured against the same reference by the same features: the generated ones, and real pictures
that are not in the reference. The second says what a perfect generator would have, at these counts and with these
features. Every figure stands with its protocol, and figures of unlike protocols are not compared.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from productgen import data
from productgen.config import ConfigError, build, choose, difference
from productgen.ensemble import load
from productgen.evaluation_report import write_report
from productgen.features import FeatureNet, open_features
from productgen.labels import LabelTable
from productgen.methods import Sampling
from productgen.metrics.frechet import Moments, frechet_distance
from productgen.metrics.kernel import kernel_distance
from productgen.metrics.manifold import K_DENSITY, K_PRECISION, manifold
from productgen.metrics.memorisation import LEAST, memorisation
from productgen.metrics.pairwise import ms_ssim_diversity, ms_ssim_levels
from productgen.metrics.product import product_figures
from productgen.metrics.swd import SlicedWasserstein
from productgen.setup import Run, prepare
from productgen.workdir import read_config

_log = logging.getLogger('productgen')
SHOWN = 48  # pictures of each set in the report
LOOKED_AT = 200  # pictures of each set that the figures of products are taken of
PAIRS = 12  # closest pairs in the report
BRIEF = ('frechet_distance', 'kernel_distance', 'precision', 'recall')  # said in the log
REFERENCES = ('train', 'held_out')


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """The `eval` section, read by `--mode=eval`.

    Attributes:
      features: what measures: workdir of a run of configs/classifier.py, or WORKDIR:STEP; or `inception`, or
        `inception:FILE`, with the published weights, whose Frechet distance is FID.
      images: a folder of pictures to measure; empty measures what the run in the workdir generates.
      reference: real pictures that they are compared with, `train` or `held_out`.
      count: pictures of each set at most; Frechet distances can be compared at one count only.
      truncation: psi of the generated pictures, as in `sample.truncation`; 1 is what figures are usually given for.
      batch_size: pictures at a time.
      against: an earlier report (`report.json`) of the same protocol to stand beside this one.
      out: where to write; empty is `eval` in the workdir.
    """

    features: str
    images: str
    reference: str
    count: int
    truncation: float
    batch_size: int
    against: str
    out: str

    def __post_init__(self):
        choose(dict.fromkeys(REFERENCES), self.reference, 'eval.reference')
        if not self.features.strip():
            raise ConfigError(
                'eval.features: which features? Train them with `python launch.py --config=configs/classifier.py '
                '--workdir=runs/features` on the same data source, then give --config.eval.features=runs/features'
            )
        for field, least in (('count', max(K_PRECISION, K_DENSITY, LEAST) + 1), ('batch_size', 1)):
            if getattr(self, field) < least:
                raise ConfigError(f'eval.{field}: must be at least {least}')
        if not 0 <= self.truncation <= 2:
            raise ConfigError(f'eval.truncation: {self.truncation} is not from 0 to 2')


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A set of pictures that is loaded a part at a time.

    Attributes:
      name: for people.
      load: indices -> uint8 [n, H, W, 3].
      count: how many there are.
      label: int32 [count, A] of the run's attributes, -1 where unknown.
    """

    name: str
    load: Callable[[np.ndarray], np.ndarray]
    count: int
    label: np.ndarray


@dataclasses.dataclass(frozen=True)
class Measured:
    """A set of pictures with what the features say of them.

    Attributes:
      pictures: the set.
      features: [N, D].
      answers: for each attribute that the features were trained to tell, by name, the value's code, [N].
      some: the first pictures, uint8 [n, H, W, 3].
    """

    pictures: Pictures
    features: np.ndarray
    answers: dict[str, np.ndarray]
    some: np.ndarray


def measure(net: FeatureNet, pictures: Pictures, batch_size: int) -> Measured:
    """Features of all pictures of a set, with a progress bar."""
    parts, some = [], []
    for start in tqdm(range(0, pictures.count, batch_size), f'Features of {pictures.name}', delay=2):
        image = pictures.load(np.arange(start, min(start + batch_size, pictures.count)))
        parts.append(net(image))
        if start < LOOKED_AT:
            some.append(image)
    features, answers = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    return Measured(pictures, features, answers, np.concatenate(some)[:LOOKED_AT])


def figures(reference: Measured, other: Measured, seed: int) -> dict[str, float]:
    """What a set comes to against the reference. Smaller is better but for precision, recall, density and coverage."""
    kernel = kernel_distance(other.features, reference.features)
    near = manifold(reference.features, other.features)
    swd = SlicedWasserstein([reference.some], len(reference.some), seed)
    found = {
        'frechet_distance': frechet_distance(Moments.of(other.features), Moments.of(reference.features)),
        'kernel_distance': kernel.value,
        'kernel_distance_error': kernel.standard_error,
        **dataclasses.asdict(near),
        'sliced_wasserstein': swd([other.some])['swd'],
    }
    levels = ms_ssim_levels(other.some.shape[1:3])
    if levels:
        found['ms_ssim_of_pairs'] = ms_ssim_diversity(other.some, seed=seed, levels=levels)
    rows = [product_figures(image) for image in other.some]
    for name in rows[0]:
        values = np.asarray([row[name] for row in rows])
        if np.isfinite(values).any():
            found[f'product/{name}'] = float(np.nanmean(np.abs(values)))
    return found


def accuracies(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Share of pictures that are told to be what they were asked to be, for each attribute both sides know."""
    found = {}
    for column, (name, values) in enumerate(table.attributes.items()):
        asked = other.pictures.label[:, column]
        if known.get(name) == values and (asked >= 0).any():
            found[f'accuracy/{name}'] = float(np.mean((other.answers[name] == asked)[asked >= 0]))
    return found


def confusion(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
    """Counts [asked, told] of the first attribute that both sides know."""
    for column, (name, values) in enumerate(table.attributes.items()):
        asked = other.pictures.label[:, column]
        if known.get(name) == values and (asked >= 0).any():
            counts = np.zeros((len(values), len(values)), int)
            np.add.at(counts, (asked[asked >= 0], other.answers[name][asked >= 0]), 1)
            return {'attribute': name, 'values': list(values), 'counts': counts.tolist()}
    return None


def by_class(reference: Measured, other: Measured, table: LabelTable) -> dict[str, dict[str, float]]:
    """Kernel distance of each value of the first attribute, with its standard error, where there are 20 of both."""
    found = {}
    for code, value in enumerate(next(iter(table.attributes.values()), ())):
        ours, real = (m.features[m.pictures.label[:, 0] == code] for m in (other, reference))
        if min(len(ours), len(real)) >= LEAST:
            distance = kernel_distance(ours, real)
            found[value] = {
                'pictures': len(ours),
                'kernel_distance': distance.value,
                'kernel_distance_error': distance.standard_error,
            }
    return found


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
    settings = build(EvalConfig, config['eval'], 'eval')
    if (workdir / 'config.json').exists():
        config = {**read_config(workdir), **{name: config[name] for name in ('sample', 'eval')}}
    elif not settings.images:
        raise ConfigError(f'--workdir={workdir}: there is no run in it to measure; or set eval.images')
    net = open_features(settings.features, settings.batch_size)
    earlier = _earlier(settings.against)
    run = prepare(config)
    if len(run.held_out) <= LEAST:
        raise ConfigError(f'data.validation: {len(run.held_out)} held-out pictures are too few; raise it')
    other, about = _folder(settings, run) if settings.images else _generated(settings, run, workdir)
    sets = {'train': (run.items, 'training pictures'), 'held_out': (run.held_out, 'held-out pictures')}
    real = {name: _real(run, *chosen, settings.count) for name, chosen in sets.items()}
    protocol = _protocol(settings, run, net, {'measured': other, **real})
    if earlier and earlier['protocol'] != protocol:
        lines = '\n  '.join(difference(earlier['protocol'], protocol))
        raise ConfigError(
            f'eval.against={settings.against}: of another protocol, so its figures cannot be compared:\n  {lines}'
        )
    measured = {name: measure(net, p, settings.batch_size) for name, p in {'measured': other, **real}.items()}
    _log.info('Comparing %d pictures with %d', other.count, real[settings.reference].count)
    copying = memorisation(*(measured[name].features for name in ('measured', 'train', 'held_out')), seed=run.seed)
    result = {'measured': about, 'protocol': protocol, **_compare(settings, run, net, measured)}
    result['memorisation'] = {
        'share': copying.share,
        'expected_share': copying.quantile,
        'c_t': copying.c_t,
        'p': copying.p,
    }
    pairs = copying.closest(PAIRS)
    couples = np.stack([other.load(pairs.first), real['train'].load(pairs.second)], 1)  # [P, 2, H, W, 3]
    sheets = {
        'measured': measured['measured'].some[:SHOWN],
        'real': measured[settings.reference].some[:SHOWN],
        'pairs': couples.reshape(-1, *couples.shape[2:]),
    }
    out = Path(settings.out) if settings.out else workdir / 'eval'
    path = write_report(out, result, sheets, earlier, workdir / 'metrics.jsonl')
    ours = result['figures']['measured']
    _log.info('%s: %s', path, ', '.join(f'{name} {ours[name]:.4g}' for name in BRIEF))
    return path


def _protocol(settings: EvalConfig, run: Run, net: FeatureNet, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """What two reports must have in common for their figures to be comparable, as JSON values."""
    height, width = run.problem.resolution
    return {
        'features': dict(net.about),
        'size': f'{width}x{height}',
        'fit': run.data.fit,
        'resize': net.resize_of(run.problem.resolution),
        'data': {'source': run.data.source, 'digest': run.source.digest, 'validation': run.data.validation},
        'reference': settings.reference,
        'counts': {name: pictures.count for name, pictures in sets.items()},
        'neighbours': {'precision, recall': K_PRECISION, 'density, coverage': K_DENSITY},
        'seed': run.seed,
    }


def _compare(settings: EvalConfig, run: Run, net: FeatureNet, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """All figures: of the pictures measured, and of the real ones that are not the reference."""
    reference, ours = measured[settings.reference], measured['measured']
    real = measured['held_out' if settings.reference == 'train' else 'train']
    return {
        'figures': {
            name: figures(reference, m, run.seed) | accuracies(m, run.table, net.attributes)
            for name, m in (('measured', ours), ('real', real))
        },
        'classes': by_class(reference, ours, run.table),
        'confusion': confusion(ours, run.table, net.attributes),
    }


def _real(run: Run, items: np.ndarray, name: str, most: int) -> Pictures:
    """Pictures of the data set, from all over it."""
    count, batches = min(most, len(items)), run.batches()
    chosen = items[np.arange(count) * len(items) // count]
    return Pictures(name, lambda i: batches.load(chosen[i])['image'], count, batches.label(chosen))


def _generated(settings: EvalConfig, run: Run, workdir: Path) -> tuple[Pictures, dict[str, Any]]:
    """What the run in the workdir generates, of the labels of its training pictures."""
    if not isinstance(run.method, Sampling):
        raise ConfigError(f'--workdir={workdir}: its method makes no pictures; --mode=eval measures a generator')
    ensemble = load(run, workdir)
    seeds = np.arange(settings.count, dtype=np.int32)
    label = run.table.draw(seeds)
    truncation = np.full(settings.count, settings.truncation, np.float32)

    def make(index: np.ndarray) -> np.ndarray:
        made = ensemble.iterate(seed=seeds[index], label=label[index], truncation=truncation[index])
        return np.stack(list(made))

    about = {
        'run': str(workdir),
        'checkpoint': ensemble.name,
        'truncation': settings.truncation,
        'guidance': run.sample.guidance,
        'denoising_steps': run.sample.denoising_steps,
        'seeds': f'0-{settings.count - 1}',
    }
    return Pictures('generated pictures', make, settings.count, label), about


def _folder(settings: EvalConfig, run: Run) -> tuple[Pictures, dict[str, Any]]:
    """The pictures of a folder, read like a data set; labels of sub-folders count where the run knows them."""
    section = dataclasses.replace(run.data, source=f'folder:{settings.images}')
    source = data.open_source(section)
    count = min(settings.count, len(source))
    chosen = np.arange(count) * len(source) // count
    label = np.full((count, len(run.labels)), -1, np.int32)
    for column, (name, values) in enumerate(run.table.attributes.items()):
        if name in source.attributes:
            codes = np.asarray([values.index(v) if v in values else -1 for v in source.attributes[name]] + [-1])
            label[:, column] = codes[np.asarray(source.codes[name])[chosen]]
    load = lambda index: np.stack([source[int(i)]['image'] for i in chosen[index]])
    about = {'folder': settings.images, 'digest': source.digest, 'pictures': len(source)}
    return Pictures(f'pictures of {settings.images}', load, count, label), about


def _earlier(path: str) -> dict[str, Any] | None:
    """An earlier report."""
    if not path:
        return None
    try:
        report = json.loads(Path(path).read_text())
        return {name: report[name] for name in ('measured', 'protocol', 'figures')}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f'eval.against={path}: not a report.json ({error})') from None
