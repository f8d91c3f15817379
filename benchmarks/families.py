"""Trains every method on the same data for the same number of images, and writes tables and sample grids to the docs.

  python benchmarks/families.py --out=runs/families --clothing=PATH

Each run is `python launch.py --config=configs/NAME.py ...` with the networks and learning rates of the config. `--jobs`
runs several in parallel, with the cores divided among them. Finished runs are reused. The tables replace the text
between the markers of `docs/families.md`; `docs/images/` gets the grids, one row of samples per method. With
`--features` every run is also evaluated by `--mode=eval`, unless it has been with these features.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.data import spread  # noqa: E402
from productgen.data.pictures import MARGIN, grid, save_png  # noqa: E402
from productgen.methods.base import parameter_counts  # noqa: E402
from productgen.metrics.swd import SlicedWasserstein  # noqa: E402
from productgen.model.config import Config  # noqa: E402
from productgen.model.prepared import prepare  # noqa: E402
from productgen.model.workdir import read_config, read_facts  # noqa: E402
from productgen.train.run import open_run  # noqa: E402

SHOWN = 16  # samples per method
DOCS = ROOT / 'docs'

# Methods in the order of the table, with overrides that their small networks need at 64 x 64.
METHODS = {
    'gan': [],
    'dcgan': [],
    'lsgan': [],
    'wgan': [],
    'wgan_gp': [],
    'dragan': [],
    'cgan': [],
    'acgan': [],
    'sngan': ['--config.model.down_blocks=4', '--config.model.discriminator_max=128'],
    'stylegan': ['--config.model.channel_base=1024'],
    'r3gan': [],
    'vae': [],
    'beta_vae': [],
    'cvae': [],
    'vaegan': [],
    'vqvae': [],
    'ddpm': [],
    'latent_diffusion': [],
}


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set to compare the methods on.

    Attributes:
      name: name of its markers and files.
      flags: flags of the launcher.
      budget: training duration of every method.
      features: value of `eval.features`; empty for no evaluation.
    """

    name: str
    flags: list[str]
    budget: str
    features: str


def train(method: str, data: Data, out: Path, extra: list[str], cores: set[int]) -> Path:
    """Trains a method on the given cores, unless the run exists already; returns its workdir."""
    workdir = out / f'{method}-{data.name}'
    if (workdir / 'wall.json').exists():
        if read_config(workdir).train.duration != data.budget:
            raise SystemExit(f'{workdir} holds a run of a different duration; choose another --out, or remove it')
        return workdir
    if workdir.exists():
        raise SystemExit(f'{workdir} holds an interrupted run, whose time is not known; remove it')
    every = [f'--config.train.{name}_every={data.budget}' for name in ('sample', 'checkpoint', 'validate')]
    flags = [f'--workdir={workdir}', f'--config.train.duration={data.budget}', *every, *data.flags, *extra]
    command = [sys.executable, 'launch.py', f'--config=configs/{method}.py', *flags]
    began = time.monotonic()
    launch(command, cores)
    (workdir / 'wall.json').write_text(json.dumps({'seconds': time.monotonic() - began}))
    return workdir


def launch(command: list[str], cores: set[int]) -> None:
    """Runs a command on the given cores."""
    print('+', *command[1:], flush=True)
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.sched_setaffinity(run.pid, cores)  # before it starts any thread
    _, text = run.communicate()
    if run.returncode:
        raise SystemExit(f'{" ".join(command[1:])} failed:\n{text[-2000:]}')


def measure(workdir: Path, data: Data, cores: set[int]) -> None:
    """Evaluates a run, unless it has been with these features."""
    report = workdir / 'eval' / 'report.json'
    if not report.exists() or json.loads(report.read_text())['measured']['features'] != data.features:
        flags = ['--mode=eval', f'--workdir={workdir}', f'--config.eval.features={data.features}']
        launch([sys.executable, 'launch.py', *flags], cores)


def train_all(methods: list[str], data: Data, out: Path, jobs: int) -> dict[str, Path]:
    """Trains and evaluates all methods, `jobs` at a time with the cores divided among them; returns the workdirs."""
    cores, free = sorted(os.sched_getaffinity(0)), SimpleQueue()
    for i in range(jobs):
        free.put(set(cores[i::jobs]))

    def one(name):
        own = free.get()
        try:
            workdir = train(name, data, out, METHODS[name] if data.name == 'clothing' else [], own)
            if data.features:
                measure(workdir, data, own)
            return workdir
        finally:
            free.put(own)

    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(methods, pool.map(one, methods), strict=True))


def samples(workdir: Path) -> np.ndarray:
    """First two images of each row of the last sample grid, uint8 [N, 64, 64, 3]; rows are values of the label."""
    sheet = np.asarray(Image.open(max((workdir / 'samples').glob('fakes_*.png'))).convert('RGB'))
    columns = read_config(workdir).train.grid_columns
    side = 64  # grids show images of both data sets at this size
    left = sheet.shape[1] - columns * (side + MARGIN)
    corners = [(MARGIN + r * (side + MARGIN), left + c * (side + MARGIN)) for r in range(SHOWN // 2) for c in (0, 1)]
    return np.stack([sheet[y : y + side, x : x + side] for y, x in corners])


def row(workdir: Path) -> dict[str, float | str | None]:
    """Values of a row of the table."""
    facts = read_facts(workdir)
    counts = parameter_counts(prepare(read_config(workdir), facts).abstract()[0])
    points = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    rates = [p['images_per_second'] for p in points if 'images_per_second' in p]
    wall = json.loads((workdir / 'wall.json').read_text())
    figures = {name: v for p in points for name, v in p.items() if name.startswith('validation/')}
    return {
        'labels': 'yes' if facts.labels.names else 'no',
        'parameters': sum(counts.values()),
        'rate': float(np.median(rates[len(rates) // 5 :])),
        'seconds': wall['seconds'],
        'swd': figures['validation/swd'],
        'bits': figures.get('validation/bits_per_dim'),
    }


def provenance(workdirs: Iterable[Path]) -> str:
    """Commits and dates of runs."""
    lines = [json.loads((w / 'environment.jsonl').read_text().splitlines()[-1]) for w in workdirs]
    dirty = lambda line: '+' if line['git_dirty'] else ''
    commits, days = (
        sorted({line['git'][:7] + dirty(line) for line in lines}),
        sorted({line['time'][:10] for line in lines}),
    )
    return f'commit {", ".join(commits)}, {", ".join(days)}'


def floor(config: Config) -> float:
    """Distance of training images to held-out ones, which a perfect generator would reach."""
    run = open_run(config)
    batches, held_out = run.batches(), spread(run.held_out, config.train.validate_items)
    distance = SlicedWasserstein([batches.load(held_out)['image']], len(held_out), config.seed)
    return distance([batches.load(spread(run.items, len(held_out)))['image']])['swd']


def table(rows: dict[str, dict], reals: float) -> str:
    """First table of a data set, as Markdown."""
    lines = ['| config | labels | parameters | img/s | seconds | SWD | bits/dim |', '|---|---|---|---|---|---|---|']
    for name, r in rows.items():
        bits = f'{r["bits"]:.2f}' if r['bits'] else ''
        figures = f'{r["parameters"]:,} | {r["rate"]:.0f} | {r["seconds"]:.0f} | {r["swd"]:.0f} | {bits}'
        lines.append(f'| `{name}` | {r["labels"]} | {figures} |')
    return '\n'.join([*lines, f'| (training images) | | | | | {reals:.0f} | |'])


def evaluation_table(runs: dict[str, Path]) -> str:
    """Second table of a data set, with the results of the evaluation, as Markdown."""
    reports = {name: json.loads((workdir / 'eval' / 'report.json').read_text()) for name, workdir in runs.items()}
    first = next(iter(reports.values()))
    lines = [
        '| config | Fréchet | kernel | precision | recall | density | coverage | accuracy | copies, C_T |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    rows = {f'`{name}`': (r['figures']['measured'], r['copies']['features']['c_t']) for name, r in reports.items()}
    for name, (f, copies) in {**rows, '(held-out images)': (first['figures']['real'], None)}.items():
        accuracy = next((f'{v:.2f}' for n, v in f.items() if n.startswith('accuracy/')), '')
        fractions = ' | '.join(f'{f[n]:.2f}' for n in ('precision', 'recall', 'density', 'coverage'))
        kernel = f'{f["kernel_distance"]:.3g} ± {f["kernel_distance_error"]:.2g}'
        c_t = '' if copies is None else f'{copies:.1f}'
        lines.append(f'| {name} | {f["frechet_distance"]:.3g} | {kernel} | {fractions} | {accuracy} | {c_t} |')
    counts, net = first['protocol']['counts'], first['protocol']['features']
    about = (
        f'{counts["measured"]} images of each against {counts["reference"]} training images, by {net["features"]} '
        f'features of `configs/classifier.py` (weights {net["weights"]}).'
    )
    return '\n'.join([about, '', *lines])


def write(marker: str, text: str) -> None:
    """Replaces the text between two markers of docs/families.md."""
    path = DOCS / 'families.md'
    page = path.read_text()
    begin, end = f'<!-- {marker} -->\n', f'\n<!-- end {marker} -->'
    head, _, rest = page.partition(begin)
    if not rest or end not in rest:
        raise SystemExit(f'{path}: the markers of {marker!r} are missing')
    path.write_text(head + begin + text + end + rest.partition(end)[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, help='folder for the runs')
    parser.add_argument('--clothing', type=Path, help='folder of clothing photos; by default only the catalog is used')
    parser.add_argument('--catalog_budget', default='40kimg')
    parser.add_argument('--clothing_budget', default='4kimg')
    parser.add_argument('--jobs', type=int, default=1, help='runs at a time; the cores are divided among them')
    parser.add_argument('--features', default='', help='workdir of configs/classifier.py on the catalog')
    parser.add_argument('--clothing_features', default='', help='the same, on the clothing photos')
    parser.add_argument('--methods', default=','.join(METHODS), help='comma-separated names')
    args = parser.parse_args()
    found = {
        name: str(Path(text).resolve()) if text else ''
        for name, text in (('catalog', args.features), ('clothing', args.clothing_features))
    }
    # Few items, so that the time to render them is negligible.
    sets = [Data('catalog', ['--config.data.catalog_items=5000'], args.catalog_budget, found['catalog'])]
    if args.clothing:
        flags = [f'--config.data.source=folder:{args.clothing.resolve()}', '--config.data.resolution=64']
        flags.append('--config.data.fit=crop')
        sets.append(Data('clothing', flags, args.clothing_budget, found['clothing']))
    for data in sets:
        runs = train_all(args.methods.split(','), data, args.out.resolve(), args.jobs)
        rows = {name: row(workdir) for name, workdir in runs.items()}
        first = next(iter(runs.values()))
        side = f'{args.jobs} runs at a time' if args.jobs > 1 else 'one run at a time'
        about = f'{data.budget} each, {provenance(runs.values())}; {side} on {len(os.sched_getaffinity(0))} cores.'
        text = '\n'.join([about, '', table(rows, floor(read_config(first)))])
        write(data.name, f'{text}\n\n{evaluation_table(runs)}' if data.features else text)
        sheet = grid(np.concatenate([samples(workdir) for workdir in runs.values()]), SHOWN, list(rows))
        save_png(args.out / f'{data.name}.png', sheet)
        Image.fromarray(sheet).save(DOCS / 'images' / f'families_{data.name}.jpg', quality=88)


if __name__ == '__main__':
    main()
