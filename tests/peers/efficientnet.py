"""Writes efficientnet.npz: reference outputs of EfficientNet-lite0 by the PyTorch code of its published weights.

    python tests/peers/efficientnet.py

It needs torch 2.13.0 and efficientnet_lite_pytorch 0.1.0 (with `--no-deps`). As in `features.py`, the network is filled
with random tensors, seeded by the published names. Arrays: `shapes`, JSON of the shapes of the published tensors, and
the values of two outputs that `pick` selects. That code pads every picture as one of 224 pixels, so the sides are
multiples of 32 here.
"""

import json
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')


def main():
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    sys.path.insert(0, str(FILE.parents[1]))
    from peers.features import fill, pick, pictures

    net = EfficientNet.from_name('efficientnet-lite0').eval()
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict({name: torch.tensor(x) for name, x in fill(shapes).items()})
    x = (torch.tensor(pictures(0, 2, 64)).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        outputs = {'head': net.extract_features(x).permute(0, 2, 3, 1), 'logits': net(x)}
    picked = {name: pick(x.numpy()) for name, x in outputs.items()}
    np.savez_compressed(FILE, shapes=np.frombuffer(json.dumps(shapes).encode(), np.uint8), **picked)


if __name__ == '__main__':
    main()
