"""Evaluation of methods that translate pictures, on held-out pairs; it needs no feature network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from productgen.config import UserError
from productgen.evaluation.figures import Distance, pairwise
from productgen.evaluation.result import Result
from productgen.evaluation.sets import SEED, PictureSet, check_not_generated, mixed
from productgen.methods.base import Translates, knob_values
from productgen.model.trained import Trained
from productgen.train.run import Run

SHOWN = 12  # pairs in the report


def translated(run: Run, workdir: Path, lpips: Distance | None, check: Callable[[Mapping[str, Any]], None]) -> Result:
    """Compares the translations of held-out inputs with their targets.

    Where inputs and targets have the same size, the column `input` compares the inputs themselves with the targets: the
    figures of a method that changes nothing. Methods that translate both ways have a column `reverse` for the
    translations of the targets, compared with the inputs.

    Args:
      run: the run.
      workdir: its folder.
      lpips: LPIPS, or None.
      check: called with the protocol before any long work.

    Raises:
      UserError: there are no held-out pictures, the method has no targets, or a setting is for generators only.
    """
    settings = run.config.eval
    check_not_generated(run, workdir, ('truncations', 'path_pairs', 'recognition'))
    if 'target' not in run.method.inputs():
        raise UserError(
            f'--workdir={workdir}', 'its method is trained without targets, so its outputs cannot be compared'
        )
    trained = Trained.open(workdir, run.config.sample.step, batch_size=settings.batch_size, can=Translates)
    knobs = knob_values(trained.knobs, run.config.sample)
    back = knobs.pop('reverse', None) is not None
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

    column = lambda name, i: batches.load(items[i], [name])[name]
    inputs = pictures('inputs', lambda i: rgb(column('input', i)))
    targets = pictures('targets', lambda i: rgb(column('target', i)))
    outputs = pictures('translations', lambda i: rgb(trained.translate(column('input', i), **knobs)))
    figures = {'measured': pairwise(outputs, targets, settings.batch_size, lpips)}
    if run.facts.columns['input'][:2] == run.facts.columns['target'][:2]:
        figures['input'] = pairwise(inputs, targets, settings.batch_size, lpips)
    shown = np.arange(min(SHOWN, len(items)))
    columns = [x for x in (inputs, outputs, targets) if 'input' in figures or x is not inputs]
    if back:
        turned = lambda i: rgb(trained.translate(column('target', i), **knobs, reverse=True))
        columns.append(pictures('translations of targets', turned))
        figures['reverse'] = pairwise(columns[-1], inputs, settings.batch_size, lpips)
    about = {'run': str(workdir), 'checkpoint': f'step{trained.step:06d}', 'data': run.config.data.source}
    sheets = {'pairs': np.stack([x.load(shown) for x in columns], 1)}
    return Result(about, protocol, figures, sheets=sheets)


def rgb(images: np.ndarray) -> np.ndarray:
    """uint8 [N, H, W, 1 or 3] with three channels."""
    return np.broadcast_to(images, (*images.shape[:3], 3))
