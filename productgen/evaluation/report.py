"""Writes the results of an evaluation as an HTML page, which needs no other files, and as JSON."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from PIL import Image

from productgen.data.pictures import grid
from productgen.evaluation import plots
from productgen.evaluation.result import Earlier, Result
from productgen.evaluation.sets import LOOKED_AT

COLUMNS = 8
CELL = 192  # largest side of a picture in a sheet; the page has a hundred pictures
TITLES = {  # of columns
    'real': 'real pictures',
    'training': 'training pictures',
    'input': 'inputs',
    'identity': 'inputs',
    'reverse': 'reverse: translations',
    'reverse_identity': 'reverse: targets',
    'reverse_real': 'reverse: real pictures',
}
EXPLANATIONS = {  # of the columns, by the second one
    'identity': 'Translations of held-out inputs, the inputs themselves, and real pictures of the wanted kind that are '
    'not in the reference are measured against the same targets: a good translation is far from the second column and '
    'near the third. No figure tells whether the product is still the same: look at the pictures.',
    'input': 'The first column compares translations of held-out inputs with their targets, the second the inputs '
    'themselves with the targets.',
    'real': 'Both sets are measured against the same reference and have the same number of pictures. The real pictures '
    'are not in the reference: their figures are those of a perfect generator.',
    'training': 'The first column has the figures of held-out pictures, the second those of as many training pictures.',
}
RESTORED = (
    'Held-out pictures were degraded. The first column compares what the network makes of them with the pictures as '
    'they were, the second the degraded pictures themselves (those of super-resolution enlarged by Lanczos), the '
    'others the results of classical filters.'
)
ERRORS = ('_error', '_deviation')  # ends of the names of values that follow a figure after a plus-minus sign
PIXELS = f'from at most {LOOKED_AT} pictures'
MEANINGS = {  # with an arrow where one direction is always better
    'frechet_distance': '↓ Fréchet distance of the features (FID with Inception; Heusel et al. 2017); too large for '
    'small sets',
    'kernel_distance': '↓ kernel distance of the features (KID with Inception; Bińkowski et al. 2018), unbiased, ± '
    'standard error',
    'precision': '↑ fraction of these pictures inside the manifold of the real ones (Kynkäänniemi et al. 2019)',
    'recall': '↑ fraction of the real pictures inside the manifold of these (Kynkäänniemi et al. 2019)',
    'density': '↑ number of real neighbourhoods around each picture, 1 for real pictures (Naeem et al. 2020)',
    'coverage': '↑ fraction of the real pictures with one of these in their neighbourhood (Naeem et al. 2020)',
    'sliced_wasserstein': '↓ sliced Wasserstein distance of patches of a Laplacian pyramid, × 1000 (Karras et al. '
    f'2018), {PIXELS}',
    'ms_ssim_of_pairs': 'mean MS-SSIM of 100 random pairs: higher than that of real pictures means less diversity '
    '(Odena et al. 2017)',
    'inception_score': '↑ confidence and diversity of the predicted classes (Salimans et al. 2016), ± standard '
    'deviation of 10 parts',
    'product/off_white': f'backdrop: ΔE 2000 from white; this and the next figures are {PIXELS}',
    'product/unevenness': 'backdrop: ΔE 2000 within it',
    'product/box_x': 'product: horizontal distance of its bounding box from the centre, as a fraction of the width',
    'product/box_y': 'product: vertical distance of its bounding box from the centre, as a fraction of the height',
    'product/mass_x': 'product: horizontal distance of its centroid from the centre, as a fraction of the width',
    'product/mass_y': 'product: vertical distance of its centroid from the centre, as a fraction of the height',
    'product/box_share': 'product: area of its bounding box, as a fraction of the picture',
    'product/area_share': 'product: its area, as a fraction of the picture',
    'product/edge_sharpness': 'product: sharpness of its outline, 0.5 for a step',
    'path_length': '↓ perceptual path length in W: distance of neighbouring pictures, divided by the square of their '
    'distance on the path (Karras et al. 2020), ± standard error',
    'accuracy/': '↑ accuracy of the predicted label',
    'nearest/': '↑ fraction of pictures whose nearest training picture has the same value',
    'recognition/': '↑ accuracy on held-out pictures of a classifier trained on the pictures of this column (CAS; '
    'Ravuri and Vinyals 2019)',
    'psnr': '↑ peak signal-to-noise ratio in dB, without equal pairs',
    'psnr_inside_mask': '↑ the same of missing pixels alone',
    'ssim': '↑ structural similarity, 1 for equal pictures (Wang et al. 2004)',
    'ms_ssim': '↑ SSIM at several scales, 1 for equal pictures (Wang et al. 2003)',
    'delta_e': '↓ mean colour difference, CIE ΔE 2000; about 1 is just visible',
    'gmsd': '↓ gradient magnitude similarity deviation (Xue et al. 2014), 0 for equal pictures',
    'lpips': '↓ learned perceptual distance (Zhang et al. 2018), 0 for equal pictures',
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}pre{background:#f6f6f6;padding:1rem;
overflow:auto}h2{margin-top:2.5rem}.two{display:flex;gap:1rem;flex-wrap:wrap}.two>div{flex:1;min-width:20rem}"""


def write_report(out: Path, result: Result, earlier: Earlier | None, log: Path | None) -> Path:
    """Writes `report.json`, `report.html` and `nearest.png`, the sheet `neighbours` if there is one.

    Earlier reports are renamed to `report.N.json` and `report.N.html`.

    Args:
      out: the folder.
      result: what to write.
      earlier: a report of the same protocol to show in another column, or None.
      log: metrics.jsonl of the run, for plots, or None; it need not exist.

    Returns:
      the HTML file.
    """
    generated = 'training' not in result.figures
    titles = TITLES if generated else {**TITLES, 'measured': 'held-out pictures'}
    titles = {**TITLES, 'measured': 'translations'} if {'pairs', 'unpaired'} & set(result.sheets) else titles
    if 'restored' in result.sheets:
        titles = {**TITLES, 'measured': 'restored'}
    columns = {titles.get(name, name): figures for name, figures in result.figures.items()}
    if earlier:
        words = (str(earlier.measured[name]) for name in ('run', 'checkpoint', 'folder') if name in earlier.measured)
        columns[f'earlier: {" ".join(words)}'] = earlier.figures
    explanation = next((text for name, text in EXPLANATIONS.items() if name in result.figures), '')
    explanation = RESTORED if 'restored' in result.sheets else explanation
    body = [
        '<h1>Evaluation</h1>',
        _table(([name, value] for name, value in result.measured.items())),
        '<h2>Metrics</h2>',
        *_figures(columns, explanation),
        '<h2>Left out</h2>' if result.left_out else '',
        *(f'<p>{html.escape(text)}</p>' for text in result.left_out),
        *_pairs(result.pairs),
        *_pictures(result.sheets),
        *_copies(result.copies, result.sheets),
        *_duplicates(result.near_duplicates, result.sheets),
        *_truncation(result.truncation),
        *_classes(result.classes),
        *_confusion(result.confusion, 'requested' if generated else 'true'),
        *_training(log),
        '<h2>Features</h2>' if result.features else '',
        _table(([name, value] for name, value in result.features.items())) if result.features else '',
        f'<h2>Protocol</h2><pre>{html.escape(json.dumps(result.protocol, indent=2))}</pre>',
    ]
    page = f'<!doctype html><meta charset="utf-8"><title>Evaluation</title><style>{STYLE}</style>' + '\n'.join(body)
    out.mkdir(parents=True, exist_ok=True)
    _keep_earlier(out)
    _write(out / 'report.html', page + '\n')
    if 'neighbours' in result.sheets:
        _write_sheet(out / 'nearest.png', result.sheets['neighbours'])
    _write(out / 'report.json', json.dumps(_plain(result.to_json()), indent=2, allow_nan=False) + '\n')
    return out / 'report.html'


def _plain(value: Any) -> Any:
    """A value with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    """Writes a file in one step, so that readers never see half of it."""
    temporary = path.with_name(f'.{path.name}')
    # Names of files may hold bytes that are no characters.
    temporary.write_text(text, encoding='utf-8', errors='backslashreplace')
    os.replace(temporary, path)


def _write_sheet(path: Path, images: np.ndarray) -> None:
    """Writes rows of pictures [N, M, H, W, 3] as a PNG, in one step."""
    temporary = path.with_name(f'.{path.name}')
    sheet = grid(images.reshape(-1, *images.shape[2:]), images.shape[1])
    Image.fromarray(sheet).save(temporary, 'PNG')
    os.replace(temporary, path)


def _keep_earlier(out: Path) -> None:
    """Renames the report of an earlier evaluation."""
    if (out / 'report.json').exists():
        numbers = (re.fullmatch(r'report\.(\d+)\.json', path.name) for path in out.iterdir())
        number = 1 + max((int(match[1]) for match in numbers if match), default=-1)
        for ending in ('json', 'html'):
            if (out / f'report.{ending}').exists():
                os.replace(out / f'report.{ending}', out / f'report.{number}.{ending}')


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """An HTML table; the first cell of each row is its heading."""

    def cell(value: Any) -> str:
        text = f'{value:.4g}' if isinstance(value, float) else str(value)
        return f'<td{" class=n" if isinstance(value, (int, float)) else ""}>{html.escape(text)}</td>'

    lines = [''.join(f'<th>{html.escape(text)}</th>' for text in head)] if head else []
    lines += [f'<th>{html.escape(str(first))}</th>{"".join(map(cell, rest))}' for first, *rest in rows]
    return f'<table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _with_error(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its error, empty where there is none."""
    if name not in figures:
        return ''
    error = next((figures[name + end] for end in ERRORS if name + end in figures), None)
    return f'{figures[name]:.4g}' + ('' if error is None else f' ± {error:.2g}')


def _figures(columns: Mapping[str, Mapping[str, float]], explanation: str) -> list[str]:
    """The table of all figures; nothing where there are none."""
    names = dict.fromkeys(name for figures in columns.values() for name in figures if not name.endswith(ERRORS))
    meaning = lambda name: MEANINGS.get(name) or MEANINGS.get(f'{name.partition("/")[0]}/', '')
    rows = [[name, *(_with_error(figures, name) for figures in columns.values()), meaning(name)] for name in names]
    return [f'<p>{explanation}</p>', _table(rows, ['', *columns, ''])] if rows else []


def _pairs(pairs: Mapping[str, Any]) -> list[str]:
    """Means of the pairwise figures."""
    if not pairs:
        return []
    rows = [[name, value, MEANINGS.get(name, '')] for name, value in pairs.items() if name != 'what']
    return ['<h2>Pairs of pictures</h2>', f'<p>Means over {html.escape(pairs["what"])}.</p>', _table(rows)]


def _pictures(sheets: Mapping[str, np.ndarray]) -> list[str]:
    """Sheets of the measured pictures: of pairs, of nearest neighbours, or next to real ones."""
    if 'restored' in sheets:
        names = 'degraded, restored, by the best classical filter, and as they were'
        return ['<h2>Pictures</h2>', f'<p>Held-out pictures: {names}.</p>', _sheet(sheets['restored'])]
    if 'pairs' in sheets:
        count = sheets['pairs'].shape[1]
        names = [
            'translation and target',
            'input, translation and target',
            'input, translation, target and its translation',
        ][count - 2]
        return ['<h2>Pictures</h2>', f'<p>Held-out pictures: {names}.</p>', _sheet(sheets['pairs'], count * 2)]
    if 'unpaired' in sheets:
        whole = {'unpaired': 'Held-out inputs and their translations.', 'reverse': 'Reverse: targets and theirs.'}
        found = ((text, sheets[name]) for name, text in whole.items() if name in sheets)
        return ['<h2>Pictures</h2>', *(f'<p>{text}</p>{_sheet(sheet)}' for text, sheet in found)]
    if 'nearest' in sheets:
        return [
            '<h2>Nearest neighbours</h2><p>Held-out pictures, each followed by its nearest training pictures.</p>',
            _sheet(sheets['nearest']),
        ]
    sides = [f'<div><h3>{name}</h3>{_sheet(sheets[name])}</div>' for name in ('measured', 'real') if name in sheets]
    found = ['<h2>Pictures</h2><div class="two">', *sides, '</div>']
    if 'neighbours' in sheets:
        found += [
            '<h2>Nearest training pictures</h2>',
            '<p>Pictures, each followed by its nearest training pictures by the cosine of their features; also in '
            'nearest.png.</p>',
            _sheet(sheets['neighbours'], sheets['neighbours'].shape[1]),
        ]
    return found


def _copies(copies: Mapping[str, Any] | None, sheets: Mapping[str, np.ndarray]) -> list[str]:
    """The test for copies of training pictures."""
    if not copies:
        return []
    found = [
        '<h2>Memorisation: copies of training pictures?</h2>',
        f'<p>Each picture, and {copies["held_out"]:,} held-out ones (one of each product if these are enough), were '
        f'compared with {copies["searched"]:,} training pictures. C<sub>T</sub> (Meehan et al. 2020) is near 0 where '
        'the pictures are as far from the training pictures as new real ones, and far below 0 for copies; p is the '
        'probability of so small a value without copying. Pixels are those of thumbnails.</p>',
    ]
    rows = []
    for name in (name for name in ('features', 'pixels') if name in copies):
        c = copies[name]
        near = f'{c["share"]:.1%} are as near as the nearest {c["expected_share"]:.0%} of the held-out pictures'
        rows.append([name, near, c['c_t'], c['p']])
    found.append(_table(rows, ['by', 'fraction', 'C_T', 'p']))
    for name in ('features', 'pixels'):
        if f'copies, {name}' in sheets:
            found += [f'<p>The nearest pairs by {name}, with the training picture on the right:</p>']
            found += [_sheet(sheets[f'copies, {name}'])]
    return found


def _duplicates(found: Mapping[str, Any] | None, sheets: Mapping[str, np.ndarray]) -> list[str]:
    """Near duplicates in the data set."""
    if not found:
        return []
    held_out = ''
    if 'held_out' in found:
        held_out = (
            f'{found["held_out"]:,} held-out pictures ({found["held_out_share"]:.1%}) have a near duplicate among the '
            'training pictures, which makes held-out figures too good. '
        )
    details = ''
    if 'correlation' in found:
        details = (
            f', or details that correlate by at least {found["correlation"]:g} after mirroring or cropping, of the '
            f'{found["candidates"]} nearest by features'
        )
    lines = [
        '<h2>Near duplicates in the data set</h2>',
        f'<p>Among {found["searched"]:,} training pictures, {found["training"]:,} pairs have thumbnails that differ by '
        f'less than {found["limit"]:g} grey levels (root mean square){details}. {held_out}Their names are in '
        'report.json.</p>',
    ]
    counts = [found.get(f'{name}_how', {}) for name in ('training', 'held_out')]
    kinds = dict.fromkeys(kind for column in counts for kind in column)
    rows = [[kind, *(column.get(kind, 0) for column in counts)] for kind in kinds]
    lines += [_table(rows, ['', 'training', 'held-out and training'])] if rows else []
    for name, what in (('training', 'training pictures'), ('held_out', 'a held-out and a training picture')):
        if f'alike, {name}' in sheets:
            lines += [f'<p>The nearest pairs of {what}:</p>', _sheet(sheets[f'alike, {name}'])]
    return lines


def _truncation(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Table and plot of the figures at several truncations."""
    if not rows:
        return []
    names = [name for name in rows[0] if name != 'truncation' and not name.endswith(ERRORS)]
    table = _table([[row['truncation'], *(_with_error(row, name) for name in names)] for row in rows], ['psi', *names])
    return ['<h2>Truncation: quality against diversity</h2>', table, _plot(plots.truncation(rows))]


def _classes(classes: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Distances of each class, by column."""
    if not any(classes.values()):
        return []
    rows = []
    for value in dict.fromkeys(value for found in classes.values() for value in found):
        cells = []
        for c in (found.get(value, {}) for found in classes.values()):
            low, high = c.get('frechet_distance_interval', (None, None))
            frechet = '' if low is None else f'{c["frechet_distance"]:.4g} ({low:.4g} to {high:.4g})'
            cells += [c.get('pictures', ''), _with_error(c, 'kernel_distance'), frechet]
        rows.append([value, *cells])
    explanation = (
        '<p>Kernel distances with standard errors. Fréchet distances, with 95 % bootstrap intervals, are given for '
        'classes with more pictures than features; for smaller ones they would be mostly bias.</p>'
    )
    return [
        '<h2>By class</h2>',
        explanation,
        _table(rows, ['', *(word for name in classes for word in (TITLES.get(name, name), 'kernel', 'Fréchet'))]),
    ]


def _confusion(confusion: Mapping[str, Any] | None, truth: str) -> list[str]:
    """The confusion matrix; `truth` names its vertical axis."""
    if not confusion:
        return []
    plot = _plot(plots.confusion(confusion['values'], confusion['counts'], truth))
    return [f'<h2>Confusion matrix: {html.escape(confusion["attribute"])}</h2>', plot]


def _training(log: Path | None) -> list[str]:
    """Plots of the metrics of the training."""
    found = [f'<p>{_plot(figure)}</p>' for figure in plots.training(log)] if log and log.exists() else []
    return ['<h2>Training</h2>', *found] if found else []


def _embedded(save: Callable[[io.BytesIO], None]) -> str:
    """An HTML image with the data of the PNG that `save` writes."""
    file = io.BytesIO()
    save(file)
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _sheet(images: np.ndarray, columns: int = COLUMNS) -> str:
    """A grid of pictures [N, H, W, 3] or [N, M, H, W, 3]; large ones are made smaller."""
    images = images.reshape(-1, *images.shape[-3:])
    height, width = images.shape[1:3]
    if max(height, width) > CELL:
        side = tuple(max(round(x * CELL / max(height, width)), 1) for x in (width, height))
        images = np.stack([np.asarray(Image.fromarray(x).resize(side, Image.Resampling.LANCZOS)) for x in images])
    sheet = grid(images, columns)
    return _embedded(lambda file: Image.fromarray(sheet).save(file, 'PNG'))


def _plot(figure: matplotlib.figure.Figure) -> str:
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph .* missing')  # of names of classes; a box is drawn
        return _embedded(lambda file: figure.savefig(file, format='png', dpi=110, bbox_inches='tight'))
