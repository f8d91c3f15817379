"""Compares how fast generators become good: kernel distances over images and over minutes, at several checkpoints.

  python benchmarks/convergence.py --source=folder:PHOTOS --resolution=32 --features=vgg,small --out=runs/convergence \
      projected_gan=20kimg stylegan:ada=100kimg r3gan=30kimg

Each argument is a config and the images that it is trained on; `:ada` adds adaptive augmentation. Choose the images so
that the minutes are alike, in which compilation is not counted. A run keeps `--points` checkpoints; a finished run is
reused. `--jobs` runs several in parallel, with the cores divided among them.

At each checkpoint `--count` pictures are compared with `--reference` training photos, and so are the held-out photos,
whose distance is that of a perfect generator. `table.md` and `grid.png` are written to `--out`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.core.checkpoint import Checkpoints  # noqa: E402
from productgen.data.pictures import grid, save_png  # noqa: E402
from productgen.evaluation.sets import measure, real_pictures  # noqa: E402
from productgen.metrics.kernel import kernel_distance  # noqa: E402
from productgen.model.features import FeatureNet, open_features  # noqa: E402
from productgen.model.trained import Trained  # noqa: E402
from productgen.model.workdir import read_config  # noqa: E402
from productgen.train.log import read_points  # noqa: E402
from productgen.train.run import open_run  # noqa: E402

SHOWN, BATCH = 16, 32
# What the small networks of a config need at 64 x 64, as in the README.
LARGER = {'stylegan': ['--config.model.channel_base=1024'], 'r3gan': ['--config.model.channel_base=1024']}


class Point(NamedTuple):
    """A checkpoint: its step, thousands of images, and minutes of training."""

    step: int
    kimg: float
    minutes: float


def train(name: str, args: argparse.Namespace, cores: set[int]) -> Path:
    """Trains a config on the given cores, unless that has been done; returns its workdir."""
    name, _, kimg = name.removesuffix('kimg').partition('=')
    config, _, more = name.partition(':')
    workdir = Path(args.out) / f'{config}_{args.resolution}'
    if args.trained:
        return workdir
    flags = [
        f'--config=configs/{config}.py',
        f'--workdir={workdir}',
        f'--config.data.source={args.source}',
        f'--config.data.resolution={args.resolution}',
        f'--config.train.duration={kimg}kimg',
        f'--config.train.checkpoint_every={float(kimg) / args.points:g}kimg',
        f'--config.train.keep={args.points + 1}',
        *(['--config.method.augment.name=ada'] if more == 'ada' else []),
        *(LARGER.get(config, []) if args.resolution >= 64 else []),
    ]
    command = [sys.executable, 'launch.py', *flags]
    print('+', *command[1:], flush=True)
    with open(f'{workdir}.txt', 'a') as log:
        run = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        os.sched_setaffinity(run.pid, cores)  # before it starts any thread
        if run.wait():
            raise SystemExit(f'{name} failed, see {workdir}.txt')
    return workdir


def points(workdir: Path) -> list[Point]:
    """The checkpoints of a run but the one of step 0."""
    found = []
    for step in Checkpoints(workdir, writing=False).steps():
        notes = json.loads((workdir / 'checkpoints' / str(step) / 'notes' / 'metadata').read_text())
        if step:
            found.append(Point(step, notes['images'] / 1000, notes['seconds'] / 60))
    return found


def distances(
    workdir: Path, nets: dict[str, FeatureNet], args: argparse.Namespace
) -> tuple[list[tuple[Point, dict[str, str]]], dict[str, str], np.ndarray]:
    """Kernel distances of each checkpoint or the last, those of held-out photos, and pictures of the last one."""
    run = open_run(read_config(workdir), devices=1, training=False)
    train, held_out, _ = real_pictures(run)
    real = {name: measure(net, train.first(args.reference), BATCH).features for name, net in nets.items()}

    def compare(name: str, features: np.ndarray) -> str:
        found = kernel_distance(features, real[name])
        return f'{found.value:.4g} ± {found.standard_error:.2g}'

    floor = {name: compare(name, measure(net, held_out, BATCH).features) for name, net in nets.items()}
    rows, images = [], np.zeros(0)
    for point in points(workdir)[-1 if args.last else 0 :]:
        images = Trained.open(workdir, point.step, batch_size=BATCH).generate(range(args.count))
        parts = np.array_split(images, -(-args.count // BATCH))
        rows.append((point, {n: compare(n, np.concatenate([net(x)[0] for x in parts])) for n, net in nets.items()}))
        print(workdir.name, *point, rows[-1][1], flush=True)
    return rows, floor, images[:SHOWN]


def speed(workdir: Path) -> float:
    """Median images per second between two lines of the log, without the first quarter."""
    rates = [x['images_per_second'] for x in read_points(workdir / 'metrics.jsonl') if 'images_per_second' in x]
    return float(np.median(rates[len(rates) // 4 :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG=IMAGES')
    parser.add_argument('--source', required=True)
    parser.add_argument('--resolution', type=int, default=32)
    parser.add_argument('--points', type=int, default=4)
    parser.add_argument('--features', required=True, help='those of eval.features, separated by commas')
    parser.add_argument('--count', type=int, default=500)
    parser.add_argument('--reference', type=int, default=2000, help='training photos at most')
    parser.add_argument('--trained', action='store_true', help='measure what there is, and train nothing')
    parser.add_argument('--last', action='store_true', help='measure the last checkpoint only')
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--out', required=True)
    args = parser.parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    cores, free = sorted(os.sched_getaffinity(0)), SimpleQueue()
    for i in range(args.jobs):
        free.put(set(cores[i :: args.jobs]))

    def one(name: str) -> Path:
        own = free.get()
        try:
            return train(name, args, own)
        finally:
            free.put(own)

    with ThreadPoolExecutor(args.jobs) as pool:
        workdirs = list(pool.map(one, args.configs))
    nets = {name: open_features(name, BATCH) for name in args.features.split(',')}
    table = [f'| config | img/s | minutes | kimg | {" | ".join(f"kernel, {name}" for name in nets)} |']
    table.append('|' + '---|' * (4 + len(nets)))
    shown = []
    for name, workdir in zip(args.configs, workdirs, strict=True):
        rows, floor, images = distances(workdir, nets, args)
        for point, found in rows:
            values = f'{speed(workdir):.0f} | {point.minutes:.1f} | {point.kimg:.1f}'
            table.append(f'| `{name}` | {values} | {" | ".join(found.values())} |')
        shown.append(images)
    table.append(f'| held-out photos | | | | {" | ".join(floor.values())} |')
    (out / 'table.md').write_text('\n'.join(table) + '\n')
    save_png(out / 'grid.png', grid(np.concatenate(shown), SHOWN, args.configs))
    print('\n'.join(table))


if __name__ == '__main__':
    main()
