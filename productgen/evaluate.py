"""Measures what a generator makes, or any folder of pictures, against real ones: `--mode=eval`.

Two sets of pictures are measured against the same reference by the same features: the generated ones, and real pictures
that are not in the reference. The second says what a perfect generator would have, at these counts and with these
features. Every figure stands with its protocol, and figures of unlike protocols are not compared.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
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
from productgen.workdir import check_workdir, read_config

_log = logging.getLogger('productgen')
SHOWN = 48  # pictures of each set in the report
SEED = 0  # of all that is drawn here: figures of runs with different seeds are to be comparable
SEARCHED = 50_000  # training pictures at most among which copies are looked for
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
    """A set of pictures that is loaded a part at a time, in an order of which every beginning stands for the whole.

    Attributes:
      name: for people.
      load: indices -> uint8 [n, H, W, 3].
      label: int32 [count, A] of the run's attributes, -1 where unknown.
    """

    name: str
    load: Callable[[np.ndarray], np.ndarray]
    label: np.ndarray

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.label)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Pictures with what the features say of them.

    Attributes:
      features: [N, D].
      label: int32 [N, A].
      answers: for each attribute that the features were trained to tell, by name, the value's code, [N].
      some: the first pictures, uint8 [n, H, W, 3].
    """

    features: np.ndarray
    label: np.ndarray
    answers: dict[str, np.ndarray]
    some: np.ndarray

    def first(self, count: int) -> Measured:
        """Of the first pictures."""
        return jax.tree.map(lambda x: x[:count], self)


jax.tree_util.register_dataclass(Measured)


def measure(net: FeatureNet, pictures: Pictures, batch_size: int) -> Measured:
    """Features of all pictures of a set, with a progress bar."""
    parts, some = [], []
    for start in tqdm(range(0, pictures.count, batch_size), f'Features of {pictures.name}', delay=2):
        image = pictures.load(np.arange(start, min(start + batch_size, pictures.count)))
        parts.append(net(image))
        if start < LOOKED_AT:
            some.append(image)
    features, answers = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    return Measured(features, pictures.label, answers, np.concatenate(some)[:LOOKED_AT])


def figures(reference: Measured, other: Measured) -> dict[str, float]:
    """What a set comes to against the reference. Smaller is better but for precision, recall, density and coverage."""
    kernel = kernel_distance(other.features, reference.features)
    near = manifold(reference.features, other.features)
    looked_at = min(len(reference.some), len(other.some))
    swd = SlicedWasserstein([reference.some[:looked_at]], looked_at, SEED)
    found = {
        'frechet_distance': frechet_distance(Moments.of(other.features), Moments.of(reference.features)),
        'kernel_distance': kernel.value,
        'kernel_distance_error': kernel.standard_error,
        **dataclasses.asdict(near),
        'sliced_wasserstein': swd([other.some[:looked_at]])['swd'],
    }
    levels = ms_ssim_levels(other.some.shape[1:3])
    if levels:
        found['ms_ssim_of_pairs'] = ms_ssim_diversity(other.some, seed=SEED, levels=levels)
    rows = [product_figures(image) for image in other.some]
    for name in rows[0]:
        values = np.asarray([row[name] for row in rows])
        if np.isfinite(values).any():
            found[f'product/{name}'] = float(np.nanmean(np.abs(values)))
    return found


def _told(
    other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[str, tuple[str, ...], np.ndarray, np.ndarray]]:
    """For each attribute both sides know: its name, its values, and what was asked and told of labelled pictures."""
    for column, (name, values) in enumerate(table.attributes.items()):
        asked = other.label[:, column]
        if known.get(name) == values and (asked >= 0).any():
            yield name, values, asked[asked >= 0], other.answers[name][asked >= 0]


def accuracies(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Share of pictures that are told to be what they were asked to be, for each attribute both sides know."""
    return {f'accuracy/{name}': float(np.mean(told == asked)) for name, _, asked, told in _told(other, table, known)}


def confusion(other: Measured, table: LabelTable, known: Mapping[str, tuple[str, ...]]) -> dict[str, Any] | None:
    """Counts [asked, told] of the first attribute that both sides know."""
    for name, values, asked, told in _told(other, table, known):
        counts = np.zeros((len(values), len(values)), int)
        np.add.at(counts, (asked, told), 1)
        return {'attribute': name, 'values': list(values), 'counts': counts.tolist()}
    return None


def by_class(reference: Measured, other: Measured, table: LabelTable) -> dict[str, dict[str, float]]:
    """Kernel distance of each value of the first attribute, with its standard error, where there are 20 of both."""
    found = {}
    for code, value in enumerate(next(iter(table.attributes.values()), ())):
        ours, real = (m.features[m.label[:, 0] == code] for m in (other, reference))
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
    if 'eval' not in config:
        raise ConfigError('eval: the config lacks this section; add config.eval = common.eval_section() to it')
    settings, has_run = build(EvalConfig, config['eval'], 'eval'), (workdir / 'config.json').exists()
    if jax.process_count() > 1:
        raise ConfigError('--mode=eval: one process is enough, which uses all devices that it sees')
    if has_run:
        config = {**read_config(workdir), **{name: config[name] for name in ('sample', 'eval')}}
    elif not settings.images:
        raise ConfigError(f'--workdir={workdir}: there is no run in it to measure; or set eval.images')
    elif not settings.out:
        raise ConfigError(f'eval.out: where to write? --workdir={workdir} holds no run')
    earlier = _earlier(settings.against)
    run = prepare(config, devices=1)
    if has_run:
        # Codes of labels, and what was trained on, are those of the run only if its pictures are.
        check_workdir(workdir, config, run.source.digest, run.table, accept=False)
    train, held_out, products = _real(run)
    other, about = _folder(settings, run) if settings.images else _generated(settings, run, workdir)
    for pictures in (train, held_out, other):
        if pictures.count <= LEAST:
            raise ConfigError(f'--mode=eval: {pictures.count} {pictures.name} are too few; {LEAST + 1} are needed')
    net = open_features(settings.features, settings.batch_size)
    _warn(net, run)
    # The real pictures beside the measured ones are to be as many: most figures depend on the count.
    base, beside = (train, held_out) if settings.reference == 'train' else (held_out, train)
    count = min(settings.count, other.count, beside.count)
    protocol = _protocol(settings, run, net, count, min(settings.count, base.count))
    if earlier and earlier['protocol'] != protocol:
        lines = '\n  '.join(difference(earlier['protocol'], protocol))
        raise ConfigError(
            f'eval.against={settings.against}: of another protocol, so its figures cannot be compared:\n  {lines}'
        )
    other = dataclasses.replace(other, label=other.label[:count])
    ours, all_train, all_held_out = (measure(net, p, settings.batch_size) for p in (other, train, held_out))
    base, beside = (all_train, all_held_out) if settings.reference == 'train' else (all_held_out, all_train)
    base, beside = base.first(settings.count), beside.first(count)
    _log.info('Comparing %d pictures with %d', count, len(base.features))
    # The test for copies wants independent pictures, which views of one product are not.
    alone = products if products >= LEAST else held_out.count
    copying = memorisation(ours.features, all_train.features, all_held_out.features[:alone], seed=SEED)
    sets = {'measured': ours, 'real': beside}
    result = {
        'measured': about | {'data': run.data.source, 'features': settings.features},
        'features': dict(net.about),
        'protocol': protocol,
        'figures': {name: figures(base, m) | accuracies(m, run.table, net.attributes) for name, m in sets.items()},
        'classes': by_class(base, ours, run.table),
        'confusion': confusion(ours, run.table, net.attributes),
        'memorisation': {
            'share': copying.share,
            'expected_share': copying.quantile,
            'c_t': copying.c_t,
            'p': copying.p,
            'searched': train.count,
            'held_out': alone,
        },
    }
    pairs = copying.closest(PAIRS)
    couples = np.stack([other.load(pairs.first), train.load(pairs.second)], 1)  # [P, 2, H, W, 3]
    sheets = {
        'measured': ours.some[:SHOWN],
        'real': base.some[:SHOWN],
        'pairs': couples.reshape(-1, *couples.shape[2:]),
    }
    out = Path(settings.out).expanduser() if settings.out else workdir / 'eval'
    path = write_report(out, result, sheets, earlier, None if settings.images else workdir / 'metrics.jsonl')
    found = result['figures']['measured']
    _log.info('%s: %s', path, ', '.join(f'{name} {found[name]:.4g}' for name in BRIEF))
    return path


def _warn(net: FeatureNet, run: Run) -> None:
    """Says what the features do not allow to measure, or not fairly."""
    seen = net.about.get('data')
    if seen and seen['digest'] == run.source.digest and seen['validation'] != run.data.validation:
        _log.warning(
            'The features were trained with data.validation=%s, the run with %s: they may know held-out pictures',
            seen['validation'],
            run.data.validation,
        )
    for name, values in run.table.attributes.items():
        if name in net.attributes and net.attributes[name] != values:
            _log.warning('%s: the features know other values than the run; no accuracy is measured', name)


def _protocol(settings: EvalConfig, run: Run, net: FeatureNet, count: int, reference: int) -> dict[str, Any]:
    """What two reports must have in common for their figures to be comparable, as JSON values."""
    height, width = run.problem.resolution
    return {
        'features': {name: net.about[name] for name in ('weights', 'features')},
        'size': f'{width}x{height}',
        'fit': run.data.fit,
        'resize': net.resize_of(run.problem.resolution),
        'data': {'digest': run.source.digest, 'validation': run.data.validation},
        'reference': settings.reference,
        'counts': {'measured': count, 'reference': reference},
        'neighbours': {'precision, recall': K_PRECISION, 'density, coverage': K_DENSITY},
        'seed': SEED,
    }


def _mixed(items: np.ndarray) -> np.ndarray:
    """Items in an order that depends on their number alone and has all classes in every beginning."""
    return items[np.random.RandomState(SEED).permutation(len(items))]


def _real(run: Run) -> tuple[Pictures, Pictures, int]:
    """Training pictures, `SEARCHED` at most; held-out ones, with those first that are the first of their product; and
    how many products these are."""
    batches = run.batches()

    def pictures(items: np.ndarray, name: str) -> Pictures:
        return Pictures(name, lambda i: batches.load(items[i])['image'], batches.label(items))

    held_out = _mixed(run.held_out)
    _, first = np.unique([run.source.keys[i] for i in held_out], return_index=True)
    later = np.setdiff1d(np.arange(len(held_out)), first)
    held_out = held_out[np.concatenate([np.sort(first), later])]
    train = _mixed(run.items)[:SEARCHED]
    return pictures(train, 'training pictures'), pictures(held_out, 'held-out pictures'), len(first)


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
    }
    return Pictures('generated pictures', make, label), about


def _folder(settings: EvalConfig, run: Run) -> tuple[Pictures, dict[str, Any]]:
    """The pictures of a folder, read like a data set; labels of sub-folders count where the run knows them."""
    source = data.open_source(dataclasses.replace(run.data, source=f'folder:{settings.images}', group=''))
    chosen = _mixed(np.arange(len(source)))[: settings.count]
    label = np.full((len(chosen), len(run.labels)), -1, np.int32)
    for column, (name, values) in enumerate(run.table.attributes.items()):
        if name in source.attributes:
            codes = np.asarray([values.index(v) if v in values else -1 for v in source.attributes[name]] + [-1])
            label[:, column] = codes[np.asarray(source.codes[name])[chosen]]
    load = lambda index: np.stack([source[int(i)]['image'] for i in chosen[index]])
    about = {'folder': settings.images, 'digest': source.digest, 'pictures': len(source)}
    return Pictures(f'pictures of {settings.images}', load, label), about


def _earlier(path: str) -> dict[str, Any] | None:
    """An earlier report."""
    if not path:
        return None
    try:
        report = json.loads(Path(path).expanduser().read_text())
        return {'figures': report['figures']['measured'], **{name: report[name] for name in ('measured', 'protocol')}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'eval.against={path}: not a report.json ({error})') from None
