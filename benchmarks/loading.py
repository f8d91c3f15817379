"""Times loading of a folder of JPEGs beside PyTorch's DataLoader, turn by turn.

  python benchmarks/loading.py --python=VENV/bin/python --scratch=SCRATCH --photos=PHOTOS

VENV has PyTorch and Pillow. SCRATCH gets `--count` JPEGs whose shorter side is 256, made of the photos below PHOTOS, or
of random shapes without; they are kept for the next time. Both sides bring them to 128 x 128 by resizing and cropping
the centre, in batches of 64. Ours is what training reads from, `productgen.data.pipeline.Batches` over
`folder:SCRATCH` with nothing kept in memory, in threads; theirs a `Dataset` that opens, resizes by Lanczos, crops and
makes a tensor, under `DataLoader` with as many worker processes. Each side starts anew for every repeat and loads some
batches that are not counted (start of the workers) before the timed ones. Files of this size are decoded in full by
both: ours lets libjpeg shrink only what has more than twice the side that is asked for.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import turns
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
SIZE, SHORTER, BATCH, WARM = 128, 256, 64, 8  # of the result; of the files; pictures; batches not counted


def drawn(index: int) -> Image.Image:
    """A picture of random shapes with some noise, of 256 x 320."""
    rng = np.random.default_rng(index)
    image = Image.new('RGB', (SHORTER, 320), tuple(rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, w, h = rng.integers(0, 200, 4)
        draw.ellipse((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3)))
    noise = rng.normal(0, 8, (320, SHORTER, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def make_folder(folder: Path, photos: Path | None, count: int) -> None:
    """Writes what is missing of `count` JPEGs of quality 90."""
    files = sorted(p for p in photos.rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg', '.png')) if photos else []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f'{i:05d}.jpg'
        if path.exists():
            continue
        image = Image.open(files[i % len(files)]).convert('RGB') if files else drawn(i)
        scale = SHORTER / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        image.save(path, quality=90)


def timed(batches: Iterable, count: int) -> dict[str, float]:
    """Pictures a second from the WARM-th batch on, and seconds until the first one was there."""
    began, batches = time.perf_counter(), iter(batches)
    next(batches)
    first = time.perf_counter() - began
    for _ in range(WARM - 1):
        next(batches)
    start, seen = time.perf_counter(), 0
    for images in itertools.islice(batches, count):
        seen += len(images)
    return {'rate': seen / (time.perf_counter() - start), 'first batch after': first}


def ours(folder: Path, workers: int, count: int) -> dict[str, float]:
    """What is measured of ours; examining the folder, which happens once before training, is not in it."""
    sys.path.insert(0, str(ROOT))
    from productgen.data.folder import Folder
    from productgen.data.pipeline import Batches

    source = Folder(folder, (SIZE, SIZE), fit='crop', cache_bytes=0, workers=workers)
    batches = Batches(source, np.arange(len(source)), (), BATCH, seed=0, threads=workers)
    return timed((batch['image'] for batch in batches.iterate(0)), count)


def peer(folder: Path, workers: int, count: int) -> dict[str, float]:
    """The same of PyTorch's DataLoader."""
    import torch

    class Photos(torch.utils.data.Dataset):
        """uint8 [3, SIZE, SIZE] of every file."""

        def __init__(self):
            self.files = sorted(folder.glob('*.jpg'))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(self.files[index]) as image:
                image = image.convert('RGB')
            scale = SIZE / min(image.size)
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
            left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
            image = image.crop((left, top, left + SIZE, top + SIZE))
            return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)

    photos = Photos()
    # One sampler over as many pictures as are needed: epochs would start the workers anew.
    order = torch.utils.data.RandomSampler(photos, True, num_samples=BATCH * (WARM + count + 2 * workers))
    loader = torch.utils.data.DataLoader(photos, BATCH, sampler=order, num_workers=workers)
    return timed(loader, count)


def main() -> None:
    parser = turns.parser(__doc__, 'peer')
    parser.add_argument('--scratch', type=Path, required=True, help='folder of the JPEGs')
    parser.add_argument('--photos', type=Path, help='folder of photos to make them of')
    parser.add_argument('--count', type=int, default=2000, help='JPEGs')
    parser.add_argument('--workers', default='1,2', help='threads of ours and processes of theirs, such as 1,2,16')
    parser.add_argument('--batches', type=int, default=40, help='that are timed')
    args = parser.parse_args()
    if args.side:
        rest = args.scratch, int(args.workers), args.batches
        print(json.dumps(ours(*rest) if args.side == 'ours' else peer(*rest)))
        return
    make_folder(args.scratch, args.photos, args.count)
    for workers in args.workers.split(','):
        rest = [__file__, '--python=', f'--scratch={args.scratch}', f'--workers={workers}', f'--batches={args.batches}']
        pythons = {'ours': sys.executable, 'peer': args.python}
        turns.take_turns(f'{workers} worker(s)', pythons, rest, 'pictures/s', args.repeats)


if __name__ == '__main__':
    main()
