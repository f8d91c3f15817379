"""Evaluation of methods that restore what they degrade, on held-out pictures; it needs no feature network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from productgen.evaluation.classical import CLASSICAL
from productgen.evaluation.figures import Distance, PairFigures, pair_distances
from productgen.evaluation.result import Result
from productgen.evaluation.sets import SEED, check_not_generated, mixed
from productgen.methods.base import Restores
from productgen.model.rows import ImageMaker, RowByRow, joined
from productgen.model.trained import Trained
from productgen.train.run import Run

SHOWN = 12  # pictures in the report
INSIDE = 'psnr_inside_mask'
ENLARGES = 'lanczos'  # the filter whose results are the column `input` of super-resolution


def restored(run: Run, workdir: Path, lpips: Distance | None, check: Callable[[Mapping[str, Any]], None]) -> Result:
    """Degrades held-out pictures, restores them and compares the results with the pictures.

    Each picture is degraded by a seed of its own, the same for every run. The column `input` compares the degraded
    pictures themselves, those of super-resolution enlarged by Lanczos; further columns are classical filters
    (`evaluation.classical`). The sheet shows inputs, restored pictures, those of the classical filter with the best
    PSNR, and the originals.

    Args:
      run: the run, whose method `Restores`.
      workdir: its folder.
      lpips: LPIPS, or None.
      check: called with the protocol before any long work.

    Raises:
      UserError: there are no held-out pictures, or a setting is for generators only.
    """
    settings, config = run.config.eval, run.config.method
    check_not_generated(run, workdir, ('truncations', 'path_pairs', 'recognition'))
    trained = Trained.open(workdir, run.config.sample.step, batch_size=settings.batch_size, can=Restores)
    items, batches = mixed(run.held_out)[: settings.count], run.batches()
    protocol = {
        'data': {'digest': run.facts.digest, 'validation': run.config.data.validation, 'group': run.config.data.group},
        'restored': {'task': config.task, 'degrade': dataclasses.asdict(config.degrade), 'count': len(items)},
        'size': 'x'.join(map(str, reversed(run.problem.resolution))),
        'fit': run.config.data.fit,
        'lpips': settings.lpips,
        'seed': SEED,
    }
    check(protocol)
    method, size = trained.model.method, settings.batch_size
    degrade = RowByRow(trained.model.mesh, size, method.degrade, SEED)
    restore = ImageMaker(trained.model, size, method.translate, method.knobs)
    distances = pair_distances(run.problem.resolution, lpips)
    figures: dict[str, PairFigures] = {}
    shown: dict[str, np.ndarray] = {}
    for start in tqdm(range(0, len(items), size), 'Restored pictures', unit='batch', delay=2):
        chosen = items[start : start + size]
        original = batches.load(chosen, ['image'])['image']
        given = joined(degrade.batches(trained.state, image=original, seed=chosen))
        columns = {'measured': restore(trained.state, None, **given), **_others(config.task, method.scale, given)}
        for name, images in columns.items():
            inside = {INSIDE: _psnr_inside(images, original, given['mask'] > 0)} if 'mask' in given else {}
            figures.setdefault(name, PairFigures(distances)).add(images, original, **inside)
        if not start:
            blocks = given['input'].repeat(method.scale, 1).repeat(method.scale, 2)
            shown = {name: x[:SHOWN] for name, x in {**columns, 'blocks': blocks, 'original': original}.items()}
    means = {name: found.means() for name, found in figures.items()}
    filters = [name for name in means if name != 'measured' and (method.scale > 1 or name != 'input')]
    best = max(filters, key=lambda name: means[name].get('psnr', np.inf))
    about = {'run': str(workdir), 'checkpoint': f'step{trained.step:06d}', 'data': run.config.data.source}
    about |= {'task': config.task, 'best classical filter': ENLARGES if best == 'input' else best}
    sheet = np.stack([shown[name] for name in ('blocks', 'measured', best, 'original')], 1)
    return Result(about, protocol, means, sheets={'restored': sheet})


def _others(task: str, scale: int, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the results are compared with, uint8 [B, H, W, 3]: `input`, and classical filters by name."""
    images, filters = given['input'], dict(CLASSICAL[task])
    masks = given['mask'] > 0 if 'mask' in given else [None] * len(images)
    apply = lambda function: np.stack([function(*row) for row in zip(images, masks, strict=True)])
    first = images if scale == 1 else apply(filters.pop(ENLARGES))
    return {'input': first, **{name: apply(function) for name, function in filters.items()}}


def _psnr_inside(images: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PSNR in dB of the pixels of masks bool [B, H, W, 1] alone, [B]; not finite where there are none or all equal."""
    error = np.square(images.astype(np.float64) - targets).mean(-1, keepdims=True)
    with np.errstate(divide='ignore', invalid='ignore'):
        return 10 * np.log10(255**2 * mask.sum((1, 2, 3)) / (error * mask).sum((1, 2, 3)))
