"""`--mode=sample`: pictures from a trained run: grids, single files, style mixing and walks through the latent space.

Everything comes from the workdir: its config, its label table and its newest readable checkpoint. Nothing but the
pictures is written, so a run can be sampled while it trains, and after its data set is gone.

The same seed and labels give the same picture, whatever else is requested; see `RowByRow` for what that covers. Files
are named after the checkpoint and the settings that made them: the same request writes the same file, another request
another file.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from productgen.config import UserError
from productgen.config.paths import user_path
from productgen.config.ranges import parse_ranges
from productgen.config.sections import SampleConfig
from productgen.core.rng import sample_keys
from productgen.core.state import State
from productgen.data.labels import LabelTable
from productgen.data.pictures import grid, save_animation, save_png
from productgen.methods.base import Batch, HasLatents, Knobs
from productgen.model.ensemble import Ensemble, open_ensemble
from productgen.tasks.base import Request, Task

_log = logging.getLogger('productgen')
_STEPS = 'denoising_steps'


@dataclasses.dataclass(frozen=True)
class _Job:
    """A checked request, and the generators that serve it."""

    settings: SampleConfig
    ensemble: Ensemble
    seeds: list[int]
    kinds: list[dict[str, str]]
    folder: Path

    @property
    def table(self) -> LabelTable:
        """The labels of the first generator."""
        return self.ensemble.first.model.facts.labels

    @property
    def knobs(self) -> dict[str, float]:
        """Values by name."""
        return self.ensemble.knobs(self.settings)

    def images(self, seeds: np.ndarray, label: np.ndarray) -> Iterator[np.ndarray]:
        """Pictures uint8 [H, W, 3] one by one."""
        return self.ensemble.iterate(seeds, label, self.knobs)

    def name(self, *words: str, ending: str) -> Path:
        """File name of words for the settings; those of the knobs and the checkpoints follow."""
        knobs = self.knobs
        words = [*filter(None, words), f'psi{self.settings.truncation}']
        if _STEPS in knobs:
            words.append(f'w{knobs["guidance"]}_{knobs[_STEPS]}steps')
        words.append(self.ensemble.name)
        return self.folder / f'{"_".join(map(_word, words))}.{ending}'

    def group_name(self, output: str, *settings: str, ending: str) -> Path:
        """File name of something made from all seeds and kinds."""
        seeds = 'seeds' + self.settings.seeds.replace(' ', '')
        kinds = ','.join('+'.join(map(_name, self.table.words(kind))) for kind in self.kinds)
        return self.name(output, seeds, kinds, *settings, ending=ending)

    def labels_in_turn(self) -> np.ndarray:
        """A label row for each seed, int32 [S, A], the kinds taken in turn."""
        rows = np.stack([self.table.draw(self.seeds, kind) for kind in self.kinds or [{}]])  # [K, S, A]
        turn = np.arange(len(self.seeds))
        return rows[turn % len(rows), turn]


def sample(settings: SampleConfig, workdir: Path) -> list[Path]:
    """Makes what the `sample` section asks for.

    Args:
      settings: see `SampleConfig`.
      workdir: of a run, which may be training.

    Returns:
      the files written.

    Raises:
      UserError: something cannot be used; the message names the field and what to do.
      CheckpointError: there is no checkpoint, or none that can be read.
    """
    styles = settings.output in ('mix', 'walk')
    ensemble = open_ensemble(workdir, settings, one=styles)
    model = ensemble.first.model
    seeds, kinds = settings.seed_list(), model.facts.labels.kinds(settings.labels, 'sample.labels')
    if styles:
        if not isinstance(model.method, HasLatents):
            name = model.config.method.name
            raise UserError('sample.output', f'{name!r} has no styles to {settings.output}', 'use grid or png')
        if len(seeds) < 2:
            raise UserError('sample.seeds', f'{settings.output!r} needs at least two seeds')
    folder = user_path(settings.out, 'sample.out') if settings.out else workdir / 'generated'
    paths = _MAKERS[settings.output](_Job(settings, ensemble, seeds, kinds, folder))
    if jax.process_index() == 0:
        what = f'{len(paths)} pictures in {folder}' if len(paths) > 1 else paths[0]
        steps = ensemble.name if settings.also else f'Step {ensemble.first.step}'
        _log.info('%s, truncation %g: %s', steps, settings.truncation, what)
    return paths


def _mixed_layers(job: _Job) -> np.ndarray:
    """Which layers `mix` takes from the columns, bool [L]."""
    count = job.ensemble.first.model.method.num_latents
    chosen = parse_ranges(job.settings.mix_layers, 'sample.mix_layers', count - 1, open_end=True)
    return np.isin(np.arange(count), chosen)


def _grid(job: _Job) -> list[Path]:
    """One sheet; with kinds, each has its own rows under its name, and a column is one seed."""
    table, seeds, kinds = job.table, job.seeds, job.kinds
    columns = min(job.settings.columns, len(seeds))
    lines, rows = [], []
    for kind in kinds or [{}]:
        images = np.stack(list(job.images(np.asarray(seeds), table.draw(seeds, kind))))
        white = np.full((-len(seeds) % columns, *images.shape[1:]), 255, np.uint8)
        lines += [images, white]
        rows += [', '.join(table.words(kind))] + [''] * (-(-len(seeds) // columns) - 1)
    path = job.group_name('grid', f'{columns}columns', ending='png')
    return _write(path, save_png, grid(np.concatenate(lines), columns, rows if kinds else ()))


def _png(job: _Job) -> list[Path]:
    """A file for each kind of each seed, named after its own seed and labels."""
    label = np.concatenate([job.table.draw(job.seeds, kind) for kind in job.kinds or [{}]])
    seeds = np.tile(job.seeds, len(label) // len(job.seeds))
    paths = []
    for seed, row, image in zip(seeds, label, job.images(seeds, label), strict=True):
        path = job.name(f'seed{seed:04d}', '+'.join(map(_name, job.table.values(row).values())), ending='png')
        paths += _write(path, save_png, image)
    return paths


def _mix(job: _Job) -> list[Path]:
    """A sheet whose first column and first row show the sources, and whose cells have the row's styles except in
    `mix_layers`, which are the column's."""
    layers, half = _mixed_layers(job), len(job.seeds) // 2
    rows, columns = np.arange(half), np.arange(half, len(job.seeds))
    # Pairs (row, column) line by line; a source is a pair with itself.
    first = np.concatenate([columns, *(np.r_[r, np.full(len(columns), r)] for r in rows)])
    second = np.concatenate([columns, *(np.r_[r, columns] for r in rows)])
    images = np.stack(list(_blended(job, first, second, first, np.tile(layers, (len(first), 1)))))
    corner = np.full_like(images[:1], 255)
    path = job.group_name('mix', f'layers{job.settings.mix_layers}', ending='png')
    return _write(path, save_png, grid(np.concatenate([corner, images]), len(columns) + 1))


def _walk(job: _Job) -> list[Path]:
    """An animation along straight lines in w from each seed to the next and back to the first, with one noise."""
    c, count = job.settings, len(job.seeds)
    first = np.repeat(np.arange(count), c.frames)
    fraction = np.tile(np.arange(c.frames) / c.frames, count)
    weight = np.broadcast_to(fraction[:, None], (len(fraction), job.ensemble.first.model.method.num_latents))
    frames = _blended(job, first, (first + 1) % count, np.zeros_like(first), weight)
    path = job.group_name('walk', f'{c.frames}frames', f'{c.fps}fps', ending=c.format)
    return _write(path, save_animation, frames, c.fps)


_MAKERS: dict[str, Callable[[_Job], list[Path]]] = {'grid': _grid, 'png': _png, 'mix': _mix, 'walk': _walk}


def _blended(
    job: _Job, first: np.ndarray, second: np.ndarray, noise: np.ndarray, weight: np.ndarray
) -> Iterator[np.ndarray]:
    """Pictures between two latents.

    Args:
      job: what is requested.
      first: indices into the list of seeds, [N].
      second: the same.
      noise: the same, of the seeds whose noise is used.
      weight: of the second latent in each layer, [N, L].

    Returns:
      uint8 [H, W, 3] one by one.
    """
    trained, seeds, label = job.ensemble.first, np.asarray(job.seeds), job.labels_in_turn()
    method = trained.model.method

    def make(state: State, batch: Batch, key: jax.Array, knobs: Knobs) -> jax.Array:
        def latents(name: str) -> jax.Array:
            z = method.draw(sample_keys(key, batch[name]))
            return method.latents(state, z, batch[f'{name}_label'], knobs['truncation'])

        t = batch['weight'][:, :, None]
        ws = (1 - t) * latents('first') + t * latents('second')  # exact at both ends; [B, L, W]
        return method.synthesize(state, ws, sample_keys(key, batch['noise']))

    return trained.blend(
        make,
        job.knobs,
        first=seeds[first],
        first_label=label[first],
        second=seeds[second],
        second_label=label[second],
        noise=seeds[noise],
        weight=weight,
    )


def _name(text: str) -> str:
    """A label in a file name: characters that file systems reject, or that join labels, are escaped."""
    return re.sub(r'[^\w.=-]', lambda match: f'%{ord(match[0]):02x}', text)


def _word(text: str) -> str:
    """Part of a file name: characters that file systems reject are escaped; what is long is cut, with a checksum."""
    text = re.sub(r'[^\w.,=+%-]', lambda match: f'%{ord(match[0]):02x}', text)
    return text if len(text.encode()) <= 60 else f'{text[:15]}-{zlib.crc32(text.encode()):08x}'


def _write(path: Path, save: Callable, content: Any, *options: Any) -> list[Path]:
    """Writes a file in the first process; the others take part in computing its content."""
    if jax.process_index() == 0:
        save(path, content, *options)
    elif not isinstance(content, np.ndarray):
        deque(content, maxlen=0)
    return [path]


def run(request: Request) -> None:
    """See `sample`."""
    sample(request.settings, request.workdir)


TASK = Task('make pictures with the run in --workdir', SampleConfig, run, 'run')
