"""Trains the small feature network that the project ships, or one like it on your own photos, and writes its weights.

  python benchmarks/small_features.py --out=runs/small --data clothing=PATH/train groceries=PATH/train \
      groceries=PATH/packshots --held_out clothing=PATH/validation groceries=PATH/val

Each `NAME=FOLDER` has photos with a `label` (docs/data.md), which becomes `NAME/label`; pictures of the embedded
catalog join them, with their class, colour and pattern. `OUT/pictures` gets all of them, cropped to 64 x 64. `OUT/run`
is a run of configs/classifier.py on that folder, which resumes if it is interrupted. `OUT/small_features.safetensors`
has its averaged weights as float16. The sha256 of the file and the accuracy on the held-out folders are printed.

To measure with a network of your own give `--config.eval.features=OUT/run`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from productgen.data import DataConfig, Source, open_source  # noqa: E402
from productgen.model.trained import Trained  # noqa: E402
from productgen.nets.features.small import BLOCKS, PATCH, SIDE, WIDTH, named  # noqa: E402
from productgen.published import tensors  # noqa: E402

CATALOG_ITEMS = 3000
FROM_CATALOG = ('label', 'colour', 'pattern')
VIEWS = 'xflip,scale,xfrac,brightness,contrast,saturation'  # of training


def read(name: str, source: str) -> tuple[Source, list[str]]:
    """A source of cropped pictures, and the label of each, `NAME/label`; empty where it has none."""
    data = open_source(DataConfig(source, SIDE, fit='crop', catalog_items=CATALOG_ITEMS))
    values, codes = data.attributes['label'], data.codes['label']
    return data, [f'{name}/{values[code]}' if code >= 0 else '' for code in codes]


def folders(pairs: list[str]) -> Iterator[tuple[str, str]]:
    """(NAME, `folder:FOLDER`) of each `NAME=FOLDER`."""
    for pair in pairs:
        name, _, folder = pair.partition('=')
        yield name, f'folder:{folder}'


def merge(pairs: list[str], out: Path) -> None:
    """Writes all pictures and their labels into one folder, unless it is complete."""
    table = out / 'metadata.jsonl'
    if table.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, source in (*folders(pairs), ('catalog', 'catalog')):
        data, labels = read(name, source)
        for i, label in enumerate(labels):
            file = f'{len(rows):06d}.png'
            Image.fromarray(data[i]['image']).save(out / file)
            row = {'file_name': file, 'label': label}
            if name == 'catalog':
                row |= {a: data.attributes[a][data.codes[a][i]] for a in FROM_CATALOG if a != 'label'}
            rows.append({key: value for key, value in row.items() if value})
        print(f'{name}: {len(labels)} pictures, {len(set(labels))} labels', flush=True)
    table.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def train(pictures: Path, workdir: Path, duration: str) -> None:
    """Runs configs/classifier.py, in a process of its own."""
    changes = {
        'data.source': f'folder:{pictures}',
        'data.resolution': SIDE,
        'data.labels': ','.join(FROM_CATALOG),
        'data.validation': 0.02,
        'model.width': WIDTH,
        'model.blocks': ','.join(map(str, BLOCKS)),
        'model.patch': PATCH,
        'method.augment.transforms': VIEWS,
        'optim.classifier.learning_rate': 0.002,
        'train.duration': duration,
    }
    flags = [f'--config.{name}={value}' for name, value in changes.items()]
    command = [sys.executable, 'launch.py', '--config=configs/classifier.py', f'--workdir={workdir}', *flags]
    subprocess.run(command, cwd=ROOT, check=True)


def accuracy(trained: Trained, name: str, source: str) -> float:
    """The fraction of a folder's pictures with a label whose label is predicted, among all labels of the training."""
    data, labels = read(name, source)
    known = [i for i, label in enumerate(labels) if label]
    predicted = trained.classify(np.stack([data[i]['image'] for i in known]))['label'].argmax(-1)
    values = trained.model.facts.labels.attributes['label']
    return float(np.mean([values[code] == labels[i] for code, i in zip(predicted, known, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--data', nargs='+', required=True, metavar='NAME=FOLDER')
    parser.add_argument('--held_out', nargs='*', default=[], metavar='NAME=FOLDER')
    parser.add_argument('--duration', default='80kimg')
    args = parser.parse_args()
    out = args.out.resolve()
    merge(args.data, out / 'pictures')
    train(out / 'pictures', out / 'run', args.duration)
    trained = Trained.open(out / 'run')
    file = out / 'small_features.safetensors'
    arrays = named(jax.device_get(trained.state.nets['classifier'].ema['body']))
    tensors.write_safetensors(file, {name: array.astype(np.float16) for name, array in arrays.items()})
    print(f'{file}: {file.stat().st_size:,} bytes, sha256 {tensors.digest(file)}')
    for name, source in folders(args.held_out):
        print(f'{source}: accuracy {accuracy(trained, name, source):.3f}')


if __name__ == '__main__':
    main()
