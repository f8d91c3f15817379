"""An evaluation as a page that opens offline, and as JSON."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
import re
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
CELL = 192  # longer side of the pictures of a sheet at most: the page has a hundred of them
TITLES = {'real': 'real pictures', 'training': 'training pictures', 'input': 'inputs'}  # of columns
SAID = {  # by the second column
    'input': 'Pairs of held-out pictures. The first column compares translations with their targets, the second the '
    'inputs themselves: a method is of use where it is better.',
    'real': 'The first two columns are measured against the same reference. The second is of real pictures that are '
    'not in it: what a perfect generator would come to. Both are of as many pictures.',
    'training': 'The first column is of held-out pictures, the second of as many that were trained on.',
}
ERRORS = ('_error', '_deviation')  # ends of the names of what stands behind a figure, after a plus-minus
PIXELS = f'of {LOOKED_AT} pictures at most'
MEANINGS = {  # with an arrow where the better direction is the same for everyone
    'frechet_distance': '↓ Fréchet distance of the features (FID of Inception’s; Heusel et al. 2017), biased upwards '
    'at few pictures',
    'kernel_distance': '↓ kernel distance of the features (KID of Inception’s; Bińkowski et al. 2018), unbiased, ± one '
    'standard error',
    'precision': '↑ share of the pictures that lie among the real ones (Kynkäänniemi et al. 2019)',
    'recall': '↑ share of the real pictures that lie among these',
    'density': '↑ how densely real pictures surround them (Naeem et al. 2020); 1 for real ones',
    'coverage': '↑ share of the real pictures that have one of these near them',
    'sliced_wasserstein': f'↓ distance of patches on all levels of a pyramid × 1000 (Karras et al. 2018), {PIXELS}',
    'ms_ssim_of_pairs': 'likeness of 100 random pairs (Odena et al. 2017); compare with the real pictures’',
    'inception_score': '↑ how sure and how even the answers are (Salimans et al. 2016), ± deviation among 10 parts',
    'product/off_white': f'backdrop: ΔE 2000 from white; these figures are {PIXELS}',
    'product/unevenness': 'backdrop: ΔE 2000 within it',
    'product/box_x': 'product: distance of its box from the middle, shares of the width',
    'product/box_y': 'product: the same, shares of the height',
    'product/mass_x': 'product: distance of its mass from the middle, shares of the width',
    'product/mass_y': 'product: the same, shares of the height',
    'product/box_share': 'product: share of the picture its box takes',
    'product/area_share': 'product: share of the picture it takes',
    'product/edge_sharpness': 'product: sharpness of its outline, 0.5 for a step',
    'path_length': '↓ how unevenly pictures change along paths in W (Karras et al. 2019), ± one standard error',
    'accuracy/': '↑ accuracy of the predicted label',
    'nearest/': '↑ fraction whose nearest training picture has the same value',
    'recognition/': '↑ accuracy on held-out pictures of a classifier trained on these, or on as many training pictures '
    '(CAS, Ravuri and Vinyals 2019)',
    'psnr': '↑ dB',
    'ssim': '↑ 1 for equal pictures (Wang et al. 2004)',
    'ms_ssim': '↑ 1 for equal pictures (Wang et al. 2003), of as many scales as fit',
    'delta_e': '↓ mean colour difference, CIE ΔE 2000; about 1 can just be seen',
    'gmsd': '↓ deviation of gradient similarity (Xue et al. 2014), 0 for equal pictures',
    'lpips': '↓ learned perceptual distance (Zhang et al. 2018), 0 for equal pictures',
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}pre{background:#f6f6f6;padding:1rem;
overflow:auto}h2{margin-top:2.5rem}.two{display:flex;gap:1rem;flex-wrap:wrap}.two>div{flex:1;min-width:20rem}"""


def write_report(out: Path, result: Result, earlier: Earlier | None, log: Path | None) -> Path:
    """Writes `report.json` and `report.html`; earlier ones of that name are kept as `report.N.*`.

    Args:
      out: the folder.
      result: what was found.
      earlier: a report of the same protocol to show as a further column, or None.
      log: metrics.jsonl of the run, for the plots, or None; it need not exist.

    Returns:
      the HTML file.
    """
    generated = 'training' not in result.figures
    titles = TITLES if generated else {**TITLES, 'measured': 'held-out pictures'}
    columns = {titles.get(name, name): figures for name, figures in result.figures.items()}
    if earlier:
        words = (str(earlier.measured[name]) for name in ('run', 'checkpoint', 'folder') if name in earlier.measured)
        columns[f'earlier: {" ".join(words)}'] = earlier.figures
    body = [
        '<h1>Evaluation</h1>',
        _table(([name, value] for name, value in result.measured.items())),
        '<h2>Metrics</h2>',
        *_figures(columns, next((SAID[name] for name in SAID if name in result.figures), '')),
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
    _write(out / 'report.json', json.dumps(_plain(result.to_json()), indent=2, allow_nan=False) + '\n')
    return out / 'report.html'


def _plain(value: Any) -> Any:
    """JSON values: what is not finite has no number there."""
    if isinstance(value, Mapping):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f'.{path.name}')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def _keep_earlier(out: Path) -> None:
    """Moves what an earlier evaluation left out of the way."""
    if (out / 'report.json').exists():
        numbers = (re.fullmatch(r'report\.(\d+)\.json', path.name) for path in out.iterdir())
        number = 1 + max((int(match[1]) for match in numbers if match), default=-1)
        for ending in ('json', 'html'):
            if (out / f'report.{ending}').exists():
                os.replace(out / f'report.{ending}', out / f'report.{number}.{ending}')


def _table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """Rows of cells, the first of which names the row."""

    def cell(value: Any) -> str:
        text = f'{value:.4g}' if isinstance(value, float) else str(value)
        return f'<td{" class=n" if isinstance(value, (int, float)) else ""}>{html.escape(text)}</td>'

    lines = [''.join(f'<th>{html.escape(text)}</th>' for text in head)] if head else []
    lines += [f'<th>{html.escape(str(first))}</th>{"".join(map(cell, rest))}' for first, *rest in rows]
    return f'<table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table>'


def _with_error(figures: Mapping[str, Any], name: str) -> str:
    if name not in figures:
        return ''
    error = next((figures[name + end] for end in ERRORS if name + end in figures), None)
    return f'{figures[name]:.4g}' + ('' if error is None else f' ± {error:.2g}')


def _figures(columns: Mapping[str, Mapping[str, float]], said: str) -> list[str]:
    names = dict.fromkeys(name for figures in columns.values() for name in figures if not name.endswith(ERRORS))
    meaning = lambda name: MEANINGS.get(name) or MEANINGS.get(f'{name.partition("/")[0]}/', '')
    rows = [[name, *(_with_error(figures, name) for figures in columns.values()), meaning(name)] for name in names]
    return [f'<p>{said}</p>', _table(rows, ['', *columns, ''])] if rows else []


def _pairs(pairs: Mapping[str, Any] | None) -> list[str]:
    if not pairs:
        return []
    rows = [[name, value, MEANINGS.get(name, '')] for name, value in pairs.items() if name != 'what']
    return ['<h2>Pairs of pictures</h2>', f'<p>Means over {html.escape(pairs["what"])}.</p>', _table(rows)]


def _pictures(sheets: Mapping[str, np.ndarray]) -> list[str]:
    if 'pairs' in sheets:
        said = 'Held-out pictures: input, translation and target.'
        return ['<h2>Pictures</h2>', f'<p>{said}</p>', _sheet(sheets['pairs'], sheets['pairs'].shape[1] * 2)]
    if 'nearest' in sheets:
        return [
            '<h2>What the features find</h2><p>Held-out pictures, each with the nearest training pictures to its '
            'right.</p>',
            _sheet(sheets['nearest']),
        ]
    sides = [f'<div><h3>{name}</h3>{_sheet(sheets[name])}</div>' for name in ('measured', 'real') if name in sheets]
    return ['<h2>Pictures</h2><div class="two">', *sides, '</div>']


def _copies(copies: Mapping[str, Any] | None, sheets: Mapping[str, np.ndarray]) -> list[str]:
    if not copies:
        return []
    found = [
        '<h2>Memorisation: copies of training pictures?</h2>',
        f'<p>Each picture was compared with {copies["searched"]:,} training pictures, and so were '
        f'{copies["held_out"]:,} held-out ones, one of each product where these are enough. C<sub>T</sub> (Meehan et '
        'al. 2020) is near 0 where pictures are about as far from the training pictures as new real ones are, and far '
        'below for copies; p is the chance of so small a value without copying. Pixels are those of thumbnails.</p>',
    ]
    rows = []
    for name in ('features', 'pixels'):
        c = copies[name]
        near = f'{c["share"]:.1%} are as near as the nearest {c["expected_share"]:.0%} of held-out pictures'
        rows.append([name, near, c['c_t'], c['p']])
    found.append(_table(rows, ['by', 'share', 'C_T', 'p']))
    for name in ('features', 'pixels'):
        if f'copies, {name}' in sheets:
            found += [f'<p>The closest pairs by {name}, each with the training picture to its right:</p>']
            found += [_sheet(sheets[f'copies, {name}'])]
    return found


def _duplicates(found: Mapping[str, Any] | None, sheets: Mapping[str, np.ndarray]) -> list[str]:
    """Near duplicates in the data set."""
    if not found:
        return []
    lines = [
        '<h2>Near duplicates in the data set</h2>',
        f'<p>Of {found["searched"]:,} training pictures, each with its nearest, {found["training"]:,} pairs differ by '
        f'less than {found["limit"]:g} grey levels in the root mean square of their thumbnails; {found["held_out"]:,} '
        f'held-out pictures ({found["held_out_share"]:.1%}) are as near to a training picture, which makes every '
        'comparison with them look better than it is. Their names are in report.json.</p>',
    ]
    for name, what in (('training', 'training pictures'), ('held_out', 'a held-out and a training picture')):
        if f'alike, {name}' in sheets:
            lines += [f'<p>The nearest pairs of {what}:</p>', _sheet(sheets[f'alike, {name}'])]
    return lines


def _truncation(rows: Sequence[Mapping[str, float]] | None) -> list[str]:
    if not rows:
        return []
    names = [name for name in rows[0] if name != 'truncation' and not name.endswith(ERRORS)]
    table = _table([[row['truncation'], *(_with_error(row, name) for name in names)] for row in rows], ['psi', *names])
    return ['<h2>Truncation: quality against diversity</h2>', table, _plot(plots.truncation(rows))]


def _classes(classes: Mapping[str, Mapping[str, Mapping[str, Any]]] | None) -> list[str]:
    """Of each class, for each column."""
    if not classes or not any(classes.values()):
        return []
    rows = []
    for value in dict.fromkeys(value for found in classes.values() for value in found):
        cells = []
        for c in (found.get(value, {}) for found in classes.values()):
            low, high = c.get('frechet_distance_interval', (None, None))
            frechet = '' if low is None else f'{c["frechet_distance"]:.4g} ({low:.4g} to {high:.4g})'
            cells += [c.get('pictures', ''), _with_error(c, 'kernel_distance'), frechet]
        rows.append([value, *cells])
    said = (
        '<p>Kernel distances with their standard errors. A Fréchet distance, with its 95 % bootstrap interval, stands '
        'where a class has more pictures than there are features: below that it would be mostly bias.</p>'
    )
    return [
        '<h2>By class</h2>',
        said,
        _table(rows, ['', *(word for name in classes for word in (TITLES.get(name, name), 'kernel', 'Fréchet'))]),
    ]


def _confusion(confusion: Mapping[str, Any] | None, truth: str) -> list[str]:
    if not confusion:
        return []
    plot = _plot(plots.confusion(confusion['values'], confusion['counts'], truth))
    return [f'<h2>Confusion matrix: {html.escape(confusion["attribute"])}</h2>', plot]


def _training(log: Path | None) -> list[str]:
    found = [f'<p>{_plot(figure)}</p>' for figure in plots.training(log)] if log and log.exists() else []
    return ['<h2>Training</h2>', *found] if found else []


def _embedded(save: Callable[[io.BytesIO], None]) -> str:
    """The PNG that `save` writes, inside the page."""
    file = io.BytesIO()
    save(file)
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _sheet(images: np.ndarray, columns: int = COLUMNS) -> str:
    """Pictures [N, H, W, 3] or [N, M, H, W, 3] as a grid, large ones smaller."""
    images = images.reshape(-1, *images.shape[-3:])
    height, width = images.shape[1:3]
    if max(height, width) > CELL:
        side = tuple(max(round(x * CELL / max(height, width)), 1) for x in (width, height))
        images = np.stack([np.asarray(Image.fromarray(x).resize(side, Image.Resampling.LANCZOS)) for x in images])
    sheet = grid(images, columns)
    return _embedded(lambda file: Image.fromarray(sheet).save(file, 'PNG'))


def _plot(figure: matplotlib.figure.Figure) -> str:
    return _embedded(lambda file: figure.savefig(file, format='png', dpi=110, bbox_inches='tight'))
