"""An evaluation as a page that opens offline, and as JSON."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from PIL import Image

from productgen.pictures import grid

COLUMNS = 8
PLOTS = {  # beginnings of the names of what is logged, by the title of their plot
    'losses': ('loss', 'unet', 'vae'),
    'logits of real and fake pictures': ('logits/', 'sign/'),
    'augmentation and penalty': ('augment_p', 'penalty'),
    'held-out pictures': ('validation/',),
    'diversity of the samples, as a share of the real pictures\u2019': ('diversity',),
}
MEANINGS = {
    'frechet_distance': 'Fréchet distance of the features (Heusel et al. 2017), biased upwards at few pictures',
    'kernel_distance': 'kernel distance of the features (KID, Binkowski et al. 2018), unbiased, ± one standard error',
    'precision': 'share of the pictures that lie among the real ones (Kynkäänniemi et al. 2019)',
    'recall': 'share of the real pictures that lie among these',
    'density': 'how densely real pictures surround them (Naeem et al. 2020); 1 for real ones',
    'coverage': 'share of the real pictures that have one of these near them',
    'sliced_wasserstein': 'distance of patches on all levels of a pyramid (Karras et al. 2018) × 1000',
    'ms_ssim_of_pairs': 'likeness of random pairs (Odena et al. 2017); compare with the real pictures’',
    'product/off_white': 'backdrop: ΔE 2000 from white',
    'product/unevenness': 'backdrop: ΔE 2000 within it',
    'product/box_x': 'product: distance of its box from the middle, shares of the width',
    'product/box_y': 'product: the same, shares of the height',
    'product/mass_x': 'product: distance of its mass from the middle, shares of the width',
    'product/mass_y': 'product: the same, shares of the height',
    'product/box_share': 'product: share of the picture its box takes',
    'product/area_share': 'product: share of the picture it takes',
    'product/edge_sharpness': 'product: sharpness of its outline, 0.5 for a step',
}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}pre{background:#f6f6f6;padding:1rem;
overflow:auto}h2{margin-top:2.5rem}.two{display:flex;gap:1rem;flex-wrap:wrap}.two>div{flex:1;min-width:20rem}"""


def write_report(
    out: Path,
    result: Mapping[str, Any],
    sheets: Mapping[str, np.ndarray],
    earlier: Mapping[str, Any] | None,
    log: Path | None,
) -> Path:
    """Writes `report.json` and `report.html`; earlier ones of that name are kept as `report.N.*`.

    Args:
      out: the folder.
      result: as `productgen.evaluate` makes it.
      sheets: uint8 [N, H, W, 3] by name: `measured`, `real`, and `pairs`, in which they take turns.
      earlier: a report of the same protocol to stand beside, or None.
      log: metrics.jsonl of the run, for the plots, or None; it need not exist.

    Returns:
      the HTML file.
    """
    columns = {'measured': result['figures']['measured'], 'real pictures': result['figures']['real']}
    if earlier:
        name = earlier['measured'].get('checkpoint') or earlier['measured'].get('folder')
        columns[f'earlier: {name}'] = earlier['figures']
    copying = result['memorisation']
    body = [
        '<h1>Evaluation</h1>',
        _pairs_table(result['measured']),
        '<h2>Figures</h2>',
        '<p>Both columns are measured against the same reference. The second is of real pictures that are not in it: '
        'what a perfect generator would come to. Both are of as many pictures.</p>',
        _figures_table(columns),
        '<h2>Pictures</h2><div class="two">',
        f'<div><h3>measured</h3>{_picture(grid(sheets["measured"], COLUMNS))}</div>',
        f'<div><h3>real</h3>{_picture(grid(sheets["real"], COLUMNS))}</div></div>',
        '<h2>Copies of training pictures?</h2>',
        f'<p>{copying["share"]:.1%} of the pictures are as near to a training picture as the nearest '
        f'{copying["expected_share"]:.0%} of held-out pictures are. C<sub>T</sub> (Meehan et al. 2020) is '
        f'{copying["c_t"]:.2f}, far below 0 for copies; the chance of so small a value without copying is '
        f'p = {copying["p"]:.3g}. Searched were {copying["searched"]:,} training pictures; held out were '
        f'{copying["held_out"]:,} pictures, one of each product where these are enough.</p>'
        '<p>The closest pairs, each with the training picture to its right:</p>',
        _picture(grid(sheets['pairs'], COLUMNS)),
        *_classes(result['classes']),
        *_confusion(result['confusion']),
        *_plots(log),
        f'<h2>Protocol</h2><pre>{html.escape(json.dumps(result["protocol"], indent=2))}</pre>',
    ]
    page = f'<!doctype html><meta charset="utf-8"><title>Evaluation</title><style>{STYLE}</style>' + '\n'.join(body)
    out.mkdir(parents=True, exist_ok=True)
    _keep_earlier(out)
    _write(out / 'report.html', page + '\n')
    _write(out / 'report.json', json.dumps(result, indent=2) + '\n')
    return out / 'report.html'


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f'.{path.name}')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


def _keep_earlier(out: Path) -> None:
    """Moves what an earlier evaluation left out of the way."""
    if (out / 'report.json').exists():
        number = 1 + max((int(p.suffixes[0][1:]) for p in out.glob('report.[0-9]*.json')), default=-1)
        for ending in ('json', 'html'):
            if (out / f'report.{ending}').exists():
                os.replace(out / f'report.{ending}', out / f'report.{number}.{ending}')


def _cell(value: Any) -> str:
    text = f'{value:.4g}' if isinstance(value, float) else str(value)
    return f'<td{" class=n" if isinstance(value, (int, float)) else ""}>{html.escape(text)}</td>'


def _pairs_table(values: Mapping[str, Any]) -> str:
    rows = (f'<tr><th>{html.escape(name)}</th>{_cell(value)}</tr>' for name, value in values.items())
    return f'<table>{"".join(rows)}</table>'


def _figures_table(columns: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f'<tr><th></th>{"".join(f"<th>{html.escape(name)}</th>" for name in columns)}<th></th></tr>']
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        if name.endswith('_error'):
            continue
        cells = []
        for figures in columns.values():
            text = f'{figures[name]:.4g}' if name in figures else ''
            error = figures.get(f'{name}_error')
            cells.append(f'<td class=n>{text}{f" ± {error:.2g}" if error is not None else ""}</td>')
        meaning = MEANINGS.get(name, 'share told to be what was asked for' if name.startswith('accuracy/') else '')
        lines.append(f'<tr><th>{html.escape(name)}</th>{"".join(cells)}<td>{meaning}</td></tr>')
    return f'<table>{"".join(lines)}</table>'


def _embedded(save: Callable[[io.BytesIO], None]) -> str:
    """The PNG that `save` writes, inside the page."""
    file = io.BytesIO()
    save(file)
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _picture(image: np.ndarray) -> str:
    return _embedded(lambda file: Image.fromarray(image).save(file, 'PNG'))


def _plot(figure: matplotlib.figure.Figure) -> str:
    return _embedded(lambda file: figure.savefig(file, format='png', dpi=110, bbox_inches='tight'))


def _classes(classes: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not classes:
        return []
    rows = [
        f'<tr><th>{html.escape(name)}</th><td class=n>{c["pictures"]}</td>'
        f'<td class=n>{c["kernel_distance"]:.4g} ± {c["kernel_distance_error"]:.2g}</td></tr>'
        for name, c in classes.items()
    ]
    head = '<tr><th></th><th>pictures</th><th>kernel distance</th></tr>'
    return ['<h2>By class</h2>', f'<table>{head}{"".join(rows)}</table>']


def _confusion(confusion: Mapping[str, Any] | None) -> list[str]:
    """Shares of each asked-for value that were told to be each value."""
    if not confusion:
        return []
    counts = np.asarray(confusion['counts'], float)
    values = [value.replace('$', r'\$') for value in confusion['values']]  # no formulas
    figure = matplotlib.figure.Figure(figsize=(7, 6))
    axes = figure.subplots()
    shown = axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap='Blues', vmin=0, vmax=1)
    axes.set_xticks(range(len(values)), values, rotation=60, ha='right')
    axes.set_yticks(range(len(values)), values)
    axes.set_xlabel('told')
    axes.set_ylabel('asked for')
    figure.colorbar(shown)
    return [f'<h2>{html.escape(confusion["attribute"])}: asked for and told</h2>', _plot(figure)]


def _plots(log: Path | None) -> list[str]:
    """What was logged in training, over thousands of images."""
    if log is None or not log.exists():
        return []
    points, found = [], []
    for line in log.read_text().splitlines():
        with contextlib.suppress(ValueError):  # a run that is training may be about to write its last line
            points.append(json.loads(line))
    for title, beginnings in PLOTS.items():
        names = sorted({n for p in points for n in p if n.startswith(beginnings)})
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
        found.append(f'<p>{_plot(figure)}</p>')
    return ['<h2>Training</h2>', *found] if found else []
