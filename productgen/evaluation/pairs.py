"""Evaluation of methods that translate a picture into another: no features and no classifier are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError
from productgen.evaluation.figures import Distance, pairwise
from productgen.evaluation.result import Result
from productgen.evaluation.sets import SEED, PictureSet, mixed
from productgen.methods.base import Translates
from productgen.model.trained import Trained
from productgen.train.run import Run

SHOWN = 12  # pairs in the report


def translated(run: Run, workdir: Path, lpips: Distance | None, check: Callable[[Mapping[str, Any]], None]) -> Result:
    """The report on a run whose method translates pictures: its outputs against the targets of held-out pairs.

    The column `input` compares the inputs themselves with the targets, which is what a method that does nothing gets;
    it is there where both have the same size.

    Args:
      run: the run.
      workdir: its folder.
      lpips: LPIPS, or None.
      check: is given the protocol before any long work.

    Raises:
      UserError: there are no held-out pictures, the data have no targets, or a setting is for generators.
    """
    settings = run.config.eval
    for field in ('truncations', 'path_pairs', 'recognition'):
        if getattr(settings, field):
            raise UserError(f'eval.{field}', f'this is measured of a generator, and the run in {workdir} is none')
    if 'target' not in run.method.inputs():
        raise UserError(
            f'--workdir={workdir}', 'its method is trained without targets, so there are no pairs to compare'
        )
    if not len(run.held_out):
        raise UserError('data.validation', f'{run.config.data.validation} holds no picture out to measure', 'raise it')
    trained = Trained.open(workdir, run.config.sample.step, batch_size=settings.batch_size, can=Translates)
    knobs = {knob.name: getattr(run.config.sample, knob.name) for knob in trained.knobs}
    items, batches = mixed(run.held_out)[: settings.count], run.batches()
    protocol = {
        'data': {'digest': run.facts.digest, 'validation': run.config.data.validation, 'group': run.config.data.group},
        'pairs': {'input': run.config.data.input, 'target': run.config.data.target, 'count': len(items)},
        'size': 'x'.join(map(str, reversed(run.facts.columns['target'][:2]))),
        'knobs': knobs,
        'lpips': settings.lpips,
        'seed': SEED,
    }
    check(protocol)

    def pictures(name: str, load: Callable[[np.ndarray], np.ndarray]) -> PictureSet:
        return PictureSet(name, load, batches.label(items))

    inputs = pictures('inputs', lambda i: _rgb(batches.load(items[i])['input']))
    targets = pictures('targets', lambda i: _rgb(batches.load(items[i])['target']))
    outputs = pictures('translations', lambda i: _rgb(trained.translate(batches.load(items[i])['input'], **knobs)))
    figures = {'measured': pairwise(outputs, targets, settings.batch_size, lpips)}
    if run.facts.columns['input'][:2] == run.facts.columns['target'][:2]:
        figures['input'] = pairwise(inputs, targets, settings.batch_size, lpips)
    shown = np.arange(min(SHOWN, len(items)))
    columns = [x for x in (inputs, outputs, targets) if 'input' in figures or x is not inputs]
    about = {'run': str(workdir), 'checkpoint': f'step{trained.step:06d}', 'data': run.config.data.source}
    sheets = {'pairs': np.stack([x.load(shown) for x in columns], 1)}
    return Result(about, protocol, figures, sheets=sheets)


def _rgb(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 1 or 3] with three channels."""
    return np.broadcast_to(images, (*images.shape[:3], 3))
