"""Pictures from a trained run: grids, single files, style mixing and walks through the latent space.

Everything comes from the workdir: its config, its label table and its newest readable checkpoint. Nothing but the
pictures is written, so a run can be sampled while it trains, and after its data set is gone.

The same seed and kind give the same picture, whatever else is asked for; see `Sampler` for what that covers. Files are
named after the checkpoint and the settings that made them: the same request writes the same file, another one another.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from productgen.config import UserError
from productgen.config.ranges import parse_ranges
from productgen.core.rng import sample_keys
from productgen.core.state import State
from productgen.data.pictures import grid, save_animation, save_png
from productgen.methods import Sampling, StyleMethod
from productgen.methods.base import Batch
from productgen.model.ensemble import Ensemble, load
from productgen.model.prepared import Model, prepare_model
from productgen.model.workdir import read_config, read_labels

_log = logging.getLogger('productgen')


@dataclasses.dataclass(frozen=True)
class _Request:
    """What is asked for, checked, and the generators to make it with."""

    ensemble: Ensemble
    seeds: list[int]
    kinds: list[dict[str, str]]
    layers: np.ndarray
    folder: Path

    @property
    def model(self) -> Model:
        """Whose labels and settings count."""
        return self.ensemble.model

    def name(self, *words: str, ending: str) -> Path:
        """File name of words that tell the settings; those of the sampler and steps follow."""
        settings, members = self.model.sample, self.ensemble.members
        words = [*filter(None, words), f'psi{settings.truncation}']
        if any(hasattr(model.method, 'denoiser') for model, _ in members):
            words.append(f'w{settings.guidance}_{settings.denoising_steps}steps')
        words.append(self.ensemble.name)
        return self.folder / f'{"_".join(map(_word, words))}.{ending}'

    def group_name(self, output: str, *settings: str, ending: str) -> Path:
        """File name of something made from all seeds and kinds."""
        seeds = 'seeds' + self.model.sample.seeds.replace(' ', '')
        kinds = ','.join('+'.join(self.model.table.words(kind)) for kind in self.kinds)
        return self.name(output, seeds, kinds, *settings, ending=ending)

    def psi(self, count: int) -> np.ndarray:
        return np.full(count, self.model.sample.truncation, np.float32)

    def labels_in_turn(self) -> np.ndarray:
        """A label row for each seed, int32 [S, A], the kinds taken in turn."""
        rows = np.stack([self.model.table.draw(self.seeds, kind) for kind in self.kinds or [{}]])  # [K, S, A]
        turn = np.arange(len(self.seeds))
        return rows[turn % len(rows), turn]


def sample(config: Mapping[str, Any], workdir: Path) -> list[Path]:
    """Makes what the `sample` section asks for (see `SampleConfig`).

    Args:
      config: its `sample` section counts; the others are the workdir's own.
      workdir: of a run, which may be training.

    Returns:
      the files written.

    Raises:
      UserError: something cannot be used; the message names the field and the way out.
      CheckpointError: there is no checkpoint, or none that can be read.
    """
    config = {**read_config(workdir), 'sample': config['sample']}
    model = prepare_model(config, read_labels(workdir), devices=1)
    if not isinstance(model.method, Sampling):
        raise UserError('--mode=sample', f'{config["method"]["name"]!r} in {workdir} makes no pictures')
    settings = model.sample
    seeds, kinds = settings.seed_list(), model.table.kinds(settings.labels, 'sample.labels')
    if settings.output in ('mix', 'walk'):
        if not isinstance(model.method, StyleMethod):
            raise UserError(
                'sample.output', f'{config["method"]["name"]!r} has no styles to {settings.output}', 'use grid or png'
            )
        if len(seeds) < 2:
            raise UserError('sample.seeds', f'{settings.output!r} needs at least two seeds')
    layers = _mixed_layers(model) if settings.output == 'mix' else np.zeros(0, bool)
    folder = Path(settings.out) if settings.out else workdir / 'generated'
    ensemble = load(model, workdir)
    paths = _MAKERS[settings.output](_Request(ensemble, seeds, kinds, layers, folder))
    if jax.process_index() == 0:
        what = f'{len(paths)} pictures in {folder}' if len(paths) > 1 else paths[0]
        steps = ensemble.name if settings.also else f'Step {int(ensemble.members[0][1].step)}'
        _log.info('%s, truncation %g: %s', steps, settings.truncation, what)
    return paths


def _mixed_layers(model: Model) -> np.ndarray:
    """Which layers `mix` takes from the columns, bool [L]."""
    count = model.method.num_latents
    chosen = parse_ranges(model.sample.mix_layers, 'sample.mix_layers', count - 1, open_end=True)
    return np.isin(np.arange(count), chosen)


def _grid(request: _Request) -> list[Path]:
    """One sheet; with kinds, each has its own rows under its name, and a column is one seed."""
    model, seeds, kinds = request.model, request.seeds, request.kinds
    columns = min(model.sample.columns, len(seeds))
    lines, rows = [], []
    for kind in kinds or [{}]:
        label = model.table.draw(seeds, kind)
        images = np.stack(list(request.ensemble.iterate(seed=seeds, label=label, truncation=request.psi(len(seeds)))))
        white = np.full((-len(seeds) % columns, *images.shape[1:]), 255, np.uint8)
        lines += [images, white]
        rows += [', '.join(model.table.words(kind))] + [''] * (-(-len(seeds) // columns) - 1)
    path = request.group_name('grid', f'{columns}columns', ending='png')
    return _write(path, save_png, grid(np.concatenate(lines), columns, rows if kinds else ()))


def _png(request: _Request) -> list[Path]:
    """A file for each kind of each seed, named after its own seed and labels."""
    table = request.model.table
    label = np.concatenate([table.draw(request.seeds, kind) for kind in request.kinds or [{}]])
    seeds = np.tile(request.seeds, len(label) // len(request.seeds))
    images = request.ensemble.iterate(seed=seeds, label=label, truncation=request.psi(len(seeds)))
    paths = []
    for seed, row, image in zip(seeds, label, images, strict=True):
        path = request.name(f'seed{seed:04d}', '+'.join(table.values(row).values()), ending='png')
        paths += _write(path, save_png, image)
    return paths


def _mix(request: _Request) -> list[Path]:
    """A sheet whose first column and first row show the sources, and whose cells have the row's styles except in
    `mix_layers`, which are the column's."""
    half = len(request.seeds) // 2
    rows, columns = np.arange(half), np.arange(half, len(request.seeds))
    # Pairs (row, column) line by line; a source is a pair with itself.
    first = np.concatenate([columns, *(np.r_[r, np.full(len(columns), r)] for r in rows)])
    second = np.concatenate([columns, *(np.r_[r, columns] for r in rows)])
    images = np.stack(list(_blended(request, first, second, first, np.tile(request.layers, (len(first), 1)))))
    corner = np.full_like(images[:1], 255)
    path = request.group_name('mix', f'layers{request.model.sample.mix_layers}', ending='png')
    return _write(path, save_png, grid(np.concatenate([corner, images]), len(columns) + 1))


def _walk(request: _Request) -> list[Path]:
    """An animation along straight lines in w from each seed to the next and back to the first, with one noise."""
    c, count = request.model.sample, len(request.seeds)
    first = np.repeat(np.arange(count), c.frames)
    share = np.tile(np.arange(c.frames) / c.frames, count)
    weight = np.broadcast_to(share[:, None], (len(share), request.model.method.num_latents))
    frames = _blended(request, first, (first + 1) % count, np.zeros_like(first), weight)
    path = request.group_name('walk', f'{c.frames}frames', f'{c.fps}fps', ending=c.format)
    return _write(path, save_animation, frames, c.fps)


_MAKERS: dict[str, Callable[[_Request], list[Path]]] = {'grid': _grid, 'png': _png, 'mix': _mix, 'walk': _walk}


def _blended(
    request: _Request, first: np.ndarray, second: np.ndarray, noise: np.ndarray, weight: np.ndarray
) -> Iterable[np.ndarray]:
    """Pictures between two latents.

    Args:
      request: what is asked for.
      first: places in the list of seeds, [N].
      second: the same.
      noise: the same, of the seeds whose noise is used.
      weight: of the second latent in each layer, [N, L].

    Returns:
      uint8 [H, W, 3] one by one.
    """
    method, seeds, label = request.model.method, np.asarray(request.seeds), request.labels_in_turn()

    def make(state: State, batch: Batch, key: jax.Array) -> jax.Array:
        def latents(name: str) -> jax.Array:
            z = method.draw(sample_keys(key, batch[name]))
            return method.latents(state, z, batch[f'{name}_label'], batch['truncation'])

        t = batch['weight'][:, :, None]
        ws = (1 - t) * latents('first') + t * latents('second')  # exact at both ends; [B, L, W]
        return method.synthesize(state, ws, sample_keys(key, batch['noise']))

    return request.ensemble.iterate(
        make,
        first=seeds[first],
        first_label=label[first],
        second=seeds[second],
        second_label=label[second],
        noise=seeds[noise],
        weight=weight,
        truncation=request.psi(len(first)),
    )


def _word(text: str) -> str:
    """A part of a file name: what file systems do not like is escaped, what is long is cut and told apart by a sum."""
    text = re.sub(r'[^\w.,=+-]', lambda match: f'%{ord(match[0]):02x}', text)
    return text if len(text.encode()) <= 60 else f'{text[:15]}-{zlib.crc32(text.encode()):08x}'


def _write(path: Path, save: Callable, content: Any, *options: Any) -> list[Path]:
    """Writes a file from the first process; the others take part in making what it holds."""
    if jax.process_index() == 0:
        save(path, content, *options)
    elif not isinstance(content, np.ndarray):
        deque(content, maxlen=0)
    return [path]
