"""Compares the speed of loading a folder of JPEGs with PyTorch's DataLoader.

  python benchmarks/loading.py --python=VENV/bin/python --scratch=SCRATCH --photos=PHOTOS

VENV has PyTorch and Pillow. SCRATCH gets `--count` JPEGs with a shorter side of 256, made from the photos below PHOTOS,
or else from random shapes; they are reused next time. Both implementations resize and centre-crop them to 128 x 128, in
batches of 64. Ours is the input pipeline of training, `productgen.data.pipeline.Batches` over `folder:SCRATCH` without
a memory cache, in threads; the peer is a `Dataset` that opens, resizes by Lanczos, crops and converts to a tensor, in a
`DataLoader` with as many worker processes. They alternate, each repeat in a new process, which loads some batches for
warm-up (start of the workers) before the timed ones. Both decode files of this size in full: ours uses the scaling of
libjpeg only above twice the target size.
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
SIZE, SHORTER, BATCH, WARM = 128, 256, 64, 8  # side of the result; of the files; images per batch; warm-up batches


def random_image(index: int) -> Image.Image:
    """Draws random shapes with some noise, 256 x 320."""
    rng = np.random.default_rng(index)
    image = Image.new('RGB', (SHORTER, 320), tuple(rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(30):
        x, y, w, h = rng.integers(0, 200, 4)
        draw.ellipse((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3)))
    noise = rng.normal(0, 8, (320, SHORTER, 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def make_folder(folder: Path, photos: Path | None, count: int) -> None:
    """Writes the missing ones of `count` JPEGs of quality 90."""
    files = sorted(p for p in photos.rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg', '.png')) if photos else []
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f'{i:05d}.jpg'
        if path.exists():
            continue
        image = Image.open(files[i % len(files)]).convert('RGB') if files else random_image(i)
        scale = SHORTER / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        image.save(path, quality=90)


def timed(batches: Iterable, count: int) -> dict[str, float]:
    """Images per second from batch WARM on, and seconds until the first batch."""
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
    """Rate of our pipeline, without the scan of the folder, which happens once before training."""
    sys.path.insert(0, str(ROOT))
    from productgen.data.folder import Folder
    from productgen.data.pipeline import Batches

    source = Folder(folder, (SIZE, SIZE), fit='crop', cache_bytes=0, workers=workers)
    batches = Batches(source, np.arange(len(source)), (), BATCH, seed=0, threads=workers)
    return timed((batch['image'] for batch in batches.iterate(0)), count)


def peer(folder: Path, workers: int, count: int) -> dict[str, float]:
    """As `ours`, for PyTorch's DataLoader."""
    import torch

    class Photos(torch.utils.data.Dataset):
        """Images of the folder, uint8 [3, SIZE, SIZE]."""

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
    # A single epoch with as many images as needed, since every epoch restarts the workers.
    order = torch.utils.data.RandomSampler(photos, True, num_samples=BATCH * (WARM + count + 2 * workers))
    loader = torch.utils.data.DataLoader(photos, BATCH, sampler=order, num_workers=workers)
    return timed(loader, count)


def main() -> None:
    parser = turns.parser(__doc__, 'peer')
    parser.add_argument('--scratch', type=Path, required=True, help='folder for the JPEGs')
    parser.add_argument('--photos', type=Path, help='folder of photos to make them from')
    parser.add_argument('--count', type=int, default=2000, help='number of JPEGs')
    parser.add_argument('--workers', default='1,2', help='numbers of workers (threads or processes), such as 1,2,16')
    parser.add_argument('--batches', type=int, default=40, help='timed batches')
    args = parser.parse_args()
    if args.side:
        rest = args.scratch, int(args.workers), args.batches
        print(json.dumps(ours(*rest) if args.side == 'ours' else peer(*rest)))
        return
    make_folder(args.scratch, args.photos, args.count)
    for workers in args.workers.split(','):
        rest = [__file__, '--python=', f'--scratch={args.scratch}', f'--workers={workers}', f'--batches={args.batches}']
        pythons = {'ours': sys.executable, 'peer': args.python}
        turns.take_turns(f'{workers} worker(s)', pythons, rest, 'images/s', args.repeats)


if __name__ == '__main__':
    main()
