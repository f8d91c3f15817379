"""Plots of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib.figure
import numpy as np

from productgen.config.text import one_line
from productgen.train.log import read_points

LONGEST = 32  # characters of a value's name
LOGGED = {  # by the title of a plot, the first characters of the names of its metrics
    'losses': ('loss', 'unet', 'vae', 'error', 'kl', 'reconstruction', 'path_mean'),
    'size of the gradients': ('grad_norm',),
    'codes': ('codes/', 'beta'),
    'logits of real and fake pictures': ('logits/', 'sign/'),
    'augmentation and penalty': ('augment_p', 'penalty'),
    'sliced Wasserstein distance of samples to held-out pictures': ('validation/swd',),
    'Fréchet distance of samples': ('validation/frechet_distance',),
    'kernel distance of samples': ('validation/kernel_distance',),
    'precision, recall, density and coverage of samples': tuple(
        f'validation/{name}' for name in ('precision', 'recall', 'density', 'coverage')
    ),
    'diversity of the samples, as a fraction of the real pictures\u2019': ('diversity',),
}


def training(log: Path) -> Iterator[matplotlib.figure.Figure]:
    """Plots of the metrics of a training, metrics.jsonl, over thousands of images."""
    points = read_points(log)
    left = {name for p in points for name in p}
    known = tuple(beginning for beginnings in LOGGED.values() for beginning in beginnings)
    others = sorted(name for name in left if name.startswith('validation/') and not name.startswith(known))
    for title, beginnings in {**LOGGED, **{f'held-out pictures: {name[11:]}': (name,) for name in others}}.items():
        names = sorted(name for name in left if name.startswith(beginnings) and not name.endswith('_error'))
        left -= set(names)
        names = [name for name in names if sum(name in p for p in points) > 1]
        if not names:
            continue
        figure = matplotlib.figure.Figure(figsize=(7, 2.8))
        axes = figure.subplots()
        for name in names:
            line = [(p['kimg'], p[name]) for p in points if name in p]
            axes.plot(*zip(*line, strict=True), label=name, linewidth=1, marker='.' if len(line) < 10 else None)
        axes.set_xlabel('thousands of images')
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=7, loc='center left', bbox_to_anchor=(1, 0.5))
        yield figure


def confusion(values: Sequence[str], counts: Sequence[Sequence[int]], truth: str) -> matplotlib.figure.Figure:
    """The confusion matrix, each row divided by its sum.

    Args:
      values: names of the values.
      counts: [N, N + 1], true values in rows and predicted ones in columns; the last column is for other predictions.
      truth: label of the vertical axis.
    """
    counts = np.asarray(counts, float)
    names = [value if len(value) <= LONGEST else f'{value[: LONGEST - 1]}…' for value in map(one_line, values)]
    names = [name.replace('$', r'\$') for name in names]  # no formulas
    if not counts[:, -1].any():
        counts = counts[:, :-1]
    figure = matplotlib.figure.Figure(figsize=(7, 6))
    axes = figure.subplots()
    shown = axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap='Blues', vmin=0, vmax=1)
    axes.set_xticks(range(counts.shape[1]), [*names, 'other'][: counts.shape[1]], rotation=60, ha='right')
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(labelsize=min(10, 400 / len(names)))
    axes.set_xlabel('predicted')
    axes.set_ylabel(truth)
    figure.colorbar(shown)
    return figure


def truncation(rows: Sequence[Mapping[str, float]]) -> matplotlib.figure.Figure:
    """Quality against diversity as psi changes: precision over recall, and the kernel distance over psi."""
    figure = matplotlib.figure.Figure(figsize=(9, 3))
    first, second = figure.subplots(1, 2)
    first.plot([row['recall'] for row in rows], [row['precision'] for row in rows], marker='o')
    for row in rows:
        first.annotate(f'{row["truncation"]:g}', (row['recall'], row['precision']), fontsize=8)
    first.set(xlabel='recall', ylabel='precision')
    psi = [row['truncation'] for row in rows]
    errors = [row.get('kernel_distance_error', 0) for row in rows]
    second.errorbar(psi, [row['kernel_distance'] for row in rows], errors, marker='o', capsize=3)
    second.set(xlabel='truncation', ylabel='kernel distance')
    figure.tight_layout()
    return figure
