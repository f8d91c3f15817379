"""Measures the search for near duplicates: known copies of real photos, and pairs of photos that are none.

  python benchmarks/duplicates.py --photos=PHOTOS --features=efficientnet --count=300 --sheet=FOUND.png

A copy of each kind is made of `--count` random photos and encoded as JPEG; photos and copies are read at `--size` with
`fit=pad`. Copies are searched for as the report searches for held-out pictures that are among the training pictures,
and pairs within all photos as it does within those. What is found there is drawn, the least certain pairs last, to
judge by eye: a folder of photos may have real duplicates. `equal` counts what thumbnails alone find.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.data.folder import Folder  # noqa: E402
from productgen.data.images import load_image  # noqa: E402
from productgen.data.pictures import grid  # noqa: E402
from productgen.evaluation.copies import duplicates_across, duplicates_within  # noqa: E402
from productgen.evaluation.sets import PictureSet, measure, mixed  # noqa: E402
from productgen.model.features import open_features  # noqa: E402

BATCH, SHOWN = 32, 48


def _cropped(side: float, draw: Callable[[], float]) -> Callable[[Image.Image], Image.Image]:
    """Cuts out a part; `draw` gives its place, 0 to 1."""

    def cut(image: Image.Image) -> Image.Image:
        width, height = (max(round(side * x), 1) for x in image.size)
        left, top = (round(draw() * (x - y)) for x, y in zip(image.size, (width, height), strict=True))
        return image.crop((left, top, left + width, top + height))

    return cut


def _kinds() -> dict[str, tuple[Callable[[Image.Image], Image.Image], int]]:
    """What is done to a photo, and the quality of its JPEG."""
    random = _cropped(0.8, np.random.default_rng(0).random)
    halved = lambda image: image.resize((max(image.width // 2, 1), max(image.height // 2, 1)))
    return {
        'unchanged': (lambda image: image, 95),
        'JPEG of quality 30, half the size': (halved, 30),
        'brightness + 10 %': (lambda image: image.point([min(round(1.1 * i), 255) for i in range(256)] * 3), 95),
        'mirrored': (ImageOps.mirror, 95),
        'centre of 90 %': (_cropped(0.9, lambda: 0.5), 95),
        'random part of 80 %': (random, 95),
        'random part of 80 %, mirrored': (lambda image: ImageOps.mirror(random(image)), 95),
    }


def _encoded(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=quality)
    return file.getvalue()


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert('RGB')


def _set(name: str, images: np.ndarray) -> PictureSet:
    files = tuple(str(i) for i in range(len(images)))
    return PictureSet(name, lambda i: images[i], np.zeros((len(images), 0), np.int32), files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--photos', type=Path, required=True, help='folder of photos')
    parser.add_argument('--features', default='efficientnet', help='as eval.features')
    parser.add_argument('--count', type=int, default=300, help='photos that are copied')
    parser.add_argument('--size', type=int, default=64, help='side of the pictures')
    parser.add_argument('--sheet', type=Path, help='PNG of pairs that are found within the photos')
    args = parser.parse_args()
    size, net = (args.size, args.size), open_features(args.features, BATCH)
    source = Folder(str(args.photos), size, fit='pad', background='white', workers=1)
    photos = np.stack([source[i]['image'] for i in range(len(source))])
    chosen = mixed(np.arange(len(source)))[: args.count]
    known = measure(net, _set('photos', photos), BATCH)

    began = time.perf_counter()
    pairs = duplicates_within(known)
    seconds = time.perf_counter() - began
    print(f'{len(photos)} photos: {len(pairs.how)} pairs, {pairs.counts()}, in {seconds:.0f} s', flush=True)
    if args.sheet and pairs.how:
        ends = np.stack([pairs.first, pairs.second], 1)
        shown = photos[ends[:SHOWN]]
        Image.fromarray(grid(shown.reshape(-1, *shown.shape[2:]), 12)).save(args.sheet)

    for name, (change, quality) in _kinds().items():
        encoded = (_encoded(change(_opened(args.photos / source.names[i])), quality) for i in chosen)
        copies = np.stack([load_image(data, size) for data in encoded])
        across = duplicates_across(measure(net, _set(name, copies), BATCH), known)
        right = chosen[across.first] == across.second
        equal = np.asarray([how == 'equal' for how in across.how], bool)
        print(
            f'{name}: {right.sum() / len(chosen):.3f} found, {(right & equal).sum() / len(chosen):.3f} by thumbnails, '
            f'{(~right).sum()} of another photo; {across.counts()}',
            flush=True,
        )


if __name__ == '__main__':
    main()
