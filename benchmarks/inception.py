"""Compares the speed of FID's features with pytorch-fid, on the same images and random weights.

  python benchmarks/inception.py --peer=VENV/bin/python

VENV has torch, torchvision and pytorch-fid 0.3.0 with its dependencies; nothing of this project is imported there. The
two implementations alternate, each repeat in a new process: it computes one batch for warm-up, then reads, resizes and
processes all images of a folder. Printed are images per second and the ratio of each repeat.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from turns import take_turns

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
BATCH, SIZE = 50, 64  # pytorch-fid's batch size; side of the images


def ours(folder: Path, count: int) -> float:
    """Seconds for all images of a folder."""
    from peers.features import tensors

    from productgen.data.folder import Folder
    from productgen.evaluation.sets import PictureSet
    from productgen.model import features
    from productgen.published import tensors as files
    from productgen.published import weights

    weights.locate, files.read, files.digest = lambda *_: '', lambda *_: tensors('inception'), lambda *_: 'random'
    source = Folder(str(folder), (SIZE, SIZE), fit='pad', background='white', group='', cache_bytes=0, workers=2)
    load = lambda index: np.stack([source[int(i)]['image'] for i in index])
    pictures = PictureSet('', load, np.zeros((count, 0), np.int32), workers=2)
    net = features.open_features('inception', BATCH)
    net(load(np.arange(BATCH)))
    began = time.perf_counter()
    found = np.concatenate([net(images)[0] for images in pictures.parts(BATCH)])
    assert found.shape == (count, 2048)
    return time.perf_counter() - began


def peer(folder: Path, count: int) -> float:
    """As `ours`, for pytorch-fid."""
    import peers.features as peers
    import torch

    library = peers.stub()
    import pytorch_fid.inception
    from pytorch_fid.fid_score import get_activations
    from torchvision.models import Inception3

    del library
    shapes = {n: v.shape for n, v in Inception3(1008, aux_logits=False, init_weights=False).state_dict().items()}
    state = {name: torch.from_numpy(value) for name, value in peers.fill(shapes).items()}
    pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: state
    net = pytorch_fid.inception.InceptionV3((3,)).eval()
    files = sorted(folder.glob('*.png'))
    get_activations(files[:BATCH], net, BATCH, 2048, 'cpu', 1)
    began = time.perf_counter()
    found = get_activations(files, net, BATCH, 2048, 'cpu', 1)
    assert found.shape == (count, 2048)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--peer', required=True, help='Python of an environment with pytorch-fid')
    parser.add_argument('--count', type=int, default=200)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--side', choices=('ours', 'peer'), help=argparse.SUPPRESS)
    parser.add_argument('--folder', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        seconds = {'ours': ours, 'peer': peer}[args.side](args.folder, args.count)
        print(json.dumps({'rate': args.count / seconds}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for i, image in enumerate(np.random.default_rng(0).integers(0, 256, (args.count, SIZE, SIZE, 3), np.uint8)):
            Image.fromarray(image).save(Path(scratch) / f'{i:05d}.png')
        rest = [__file__, '--peer=', f'--folder={scratch}', f'--count={args.count}']
        sides = {'ours': sys.executable, 'peer': args.peer}
        take_turns('Inception-v3', sides, rest, 'images/s', args.repeats)


if __name__ == '__main__':
    main()
