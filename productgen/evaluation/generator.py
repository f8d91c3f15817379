"""Figures of generators: over truncations, along paths between latents, and of classifiers trained on the pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from tqdm import tqdm

from productgen.config import UserError
from productgen.config.sections import SampleConfig
from productgen.core.rng import sample_keys, streams
from productgen.core.state import State
from productgen.data.labels import LabelTable
from productgen.evaluation.figures import Comparison, Distance, accuracies
from productgen.evaluation.sets import PictureSet, generated_pictures, measure
from productgen.methods.base import Batch, Classifies
from productgen.metrics.arrays import unit_length
from productgen.metrics.path_length import STEP, perceptual_path_length
from productgen.model.config import Config
from productgen.model.ensemble import Ensemble, open_ensemble
from productgen.model.features import FeatureNet, open_features
from productgen.model.prepared import prepare
from productgen.model.rows import RowByRow
from productgen.model.workdir import parse_run, read_config, read_facts
from productgen.published.networks import AUTO, EXTRACTORS
from productgen.train.loop import train

_log = logging.getLogger('productgen')


def truncation_sweep(
    ensemble: Ensemble,
    values: list[float],
    knobs: dict[str, float],
    net: FeatureNet,
    compare: Comparison,
    count: int,
    batch_size: int,
) -> list[dict[str, float]]:
    """Figures of the features at each psi of `values`, for a plot of quality against diversity.

    Args:
      ensemble: the generators.
      values: psi.
      knobs: the other settings of the request.
      net: the features.
      compare: the real pictures.
      count: pictures at each psi.
      batch_size: pictures at a time.

    Returns:
      `truncation` and the figures of each psi.
    """
    rows = []
    for psi in values:
        made = measure(net, generated_pictures(ensemble, count, knobs | {'truncation': psi}), batch_size)
        rows.append({'truncation': psi, **compare.distribution(made)})
        _log.info('Truncation %g: %s', psi, ', '.join(f'{name} {value:.4g}' for name, value in rows[-1].items()))
    return rows


def path_length(
    workdir: Path, settings: SampleConfig, pairs: int, truncation: float, distance: Distance, batch_size: int
) -> dict[str, float]:
    """Perceptual path length in W at the ends of paths (t = 0), of uncropped pictures (Karras et al., CVPR 2020).

    Both pictures of a pair have the same label and noise. Everything is computed in float32, whatever the config of the
    run says, because the two pictures differ very little.

    Args:
      workdir: of a run whose method has latents.
      settings: the `sample` section; it names one generator, or an average of several.
      pairs: number of paths.
      truncation: psi.
      distance: function of two float32 [B, H, W, 3] with values 0 to 255, with results [B].
      batch_size: paths at a time.

    Returns:
      `path_length` and its standard error, `path_length_error`.
    """
    trained = open_ensemble(workdir, settings, one=True, float32=True).first
    model, method = trained.model, trained.model.method

    def ends(state: State, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.default_matmul_precision('float32'):
            keys = sample_keys(key, batch['seed'])
            latents = lambda keys: method.latents(state, method.draw(keys), batch['label'], batch['truncation'])
            first, other = latents(keys), latents(streams(keys, 'other end'))
            make = lambda ws: (method.synthesize(state, ws, keys).astype(jnp.float32) + 1) * 127.5
            return make(first), make(first + STEP * (other - first))

    seeds, found = np.arange(pairs, dtype=np.int32), []
    rows = RowByRow(model.mesh, batch_size, ends, model.config.seed)
    label, psi = model.facts.labels.draw(seeds), np.full(pairs, truncation, np.float32)
    batches = rows.batches(trained.state, seed=seeds, label=label, truncation=psi)
    for a, b in tqdm(batches, 'Paths', -(-pairs // batch_size), delay=2):
        found.append(distance(a, b))
    length = perceptual_path_length(np.concatenate(found))
    return {'path_length': length.value, 'path_length_error': length.standard_error}


def feature_distance(net: FeatureNet) -> Distance:
    """The squared distance of the features of two pictures, scaled to unit length."""

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        rows = [np.asarray(net(x)[0], np.float64) for x in (a, b)]
        return np.sum((unit_length(rows[0]) - unit_length(rows[1])) ** 2, 1)

    return distance


def recognition_config(features: str, duration: str) -> Config:
    """The config for training the classifier of `eval.features` once more, for `duration`, on another data set.

    Raises:
      UserError: the features are not those of a classifier.
    """
    published = features.strip().partition(':')[0] in (AUTO, *EXTRACTORS)
    workdir, _ = (None, 0) if published else parse_run(features, 'eval.features')
    method = None
    if workdir:
        try:
            config = read_config(workdir)
            method = prepare(config, read_facts(workdir), devices=1).method
        except UserError as error:
            raise error.at(f'eval.features={features}', f'--workdir={workdir}') from None
    if not isinstance(method, Classifies):
        raise UserError(
            'eval.recognition',
            f'it trains the classifier of eval.features, and {features!r} is not a classifier',
            'train one with configs/classifier.py, and give its folder: eval.features=WORKDIR',
        )
    devices = jax.device_count()
    size = -(-config.train.batch_size // devices) * devices
    changes = {'init_from': '', 'validate_every': '', 'stop_on': '', 'duration': duration}
    changes |= {'accumulate': 1, 'batch_size': size}
    every = dict.fromkeys(('log_every', 'sample_every', 'checkpoint_every'), duration)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **changes, **every))


def recognition(
    config: Config,
    pictures: PictureSet,
    names: tuple[str, ...],
    held_out: PictureSet,
    table: LabelTable,
    batch_size: int,
    out: Path,
) -> dict[str, float]:
    """Trains a classifier on pictures, and returns its accuracy on held-out real ones.

    For generated pictures this is the classification accuracy score, CAS (Ravuri and Vinyals, "Classification Accuracy
    Score for Conditional Generative Models", NeurIPS 2019): a classifier cannot learn what the generator leaves out of
    a class or confuses. Compare it with the accuracy after training on as many real pictures.

    Args:
      config: of `recognition_config`.
      pictures: labelled pictures to train on.
      names: the attributes to learn; these pictures have several values of each.
      held_out: labelled real pictures.
      table: names of the labels.
      batch_size: pictures at a time.
      out: a folder for temporary files.

    Returns:
      `recognition/NAME` of each attribute.
    """
    scratch = out / '.recognition'
    shutil.rmtree(scratch, ignore_errors=True)  # left by an evaluation that was killed; `out` is locked
    folder, workdir = scratch / 'pictures', scratch / 'run'
    folder.mkdir(parents=True)
    try:
        with open(folder / 'metadata.jsonl', 'w') as file:
            for start in range(0, pictures.count, batch_size):
                index = np.arange(start, min(start + batch_size, pictures.count))
                for i, image in zip(index, pictures.load(index), strict=True):
                    Image.fromarray(image).save(folder / f'{i:06d}.png')
                    row = {name: v for name, v in table.values(pictures.label[i]).items() if name in names and v != '-'}
                    file.write(json.dumps({'file_name': f'{i:06d}.png', **row}) + '\n')
        changes = {'source': f'folder:{folder}', 'labels': ','.join(names), 'validation': 0.0, 'group': ''}
        train(dataclasses.replace(config, data=dataclasses.replace(config.data, **changes)), workdir)
        net = open_features(str(workdir), batch_size)
        real = measure(net, dataclasses.replace(held_out, key=''), batch_size)
        found = accuracies(real, table, net.attributes)
        return {name.replace('accuracy/', 'recognition/'): value for name, value in found.items()}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
