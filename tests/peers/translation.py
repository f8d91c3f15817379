"""Writes translation.npz: reference outputs of the networks of pix2pix, CycleGAN and CUT by the authors' code.

    python tests/peers/translation.py CHECKOUT

CHECKOUT is github.com/taesungp/contrastive-unpaired-translation, which has the networks of pix2pix and CycleGAN too; it
needs torch 2.13.0 and packaging. As in `features.py`, networks are filled with random tensors, seeded by their names.
Arrays: `shapes/NET`, JSON of the shapes of the tensors; `NET`, values of the output for `picture` that `pick` selects;
`counts`, JSON of the numbers of parameters at the published widths; `taps/I`, values of the maps that CUT compares;
`vectors/I`, of the projections of their first 48 places, and `nce`, PatchNCE of these with those of another picture.
"""

import json
import pathlib
import sys
import types

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')
WIDTH = 4
# What the generators are made of: name, arguments of the authors' define_G or define_D without the widths.
GENERATORS = {
    'unet_batch': ('unet_128', 'batch', False),
    'unet_instance': ('unet_128', 'instance', False),
    'resnet': ('resnet_6blocks', 'instance', False),
    'resnet_batch': ('resnet_6blocks', 'batch', False),
    'resnet_antialias': ('resnet_6blocks', 'instance', True),
}
DISCRIMINATORS = {
    'patch_batch': ('batch', False),
    'patch_instance': ('instance', False),
    'patch_antialias': ('instance', True),
}
PLACES = 48


def picture(net='', channels=3):
    """Float32 [2, H, W, C] in [-1, 1]: 128 x 128 for a U-Net, 24 x 40 otherwise."""
    size = (128, 128) if net.startswith('unet') else (64, 72) if net.startswith('patch') else (24, 40)
    return np.random.default_rng(3).uniform(-1, 1, (2, *size, channels)).astype(np.float32)


def main(checkout):
    import torch

    sys.path[:0] = [str(FILE.parents[1]), checkout]
    sys.modules['models'] = types.ModuleType('models')  # without the package's own imports
    sys.modules['models'].__path__ = [f'{checkout}/models']
    from models import networks
    from models.patchnce import PatchNCELoss
    from peers.features import fill, pick

    found = {}
    tensor = lambda x: torch.tensor(x).permute(0, 3, 1, 2)
    image = lambda x: x.detach().permute(0, 2, 3, 1).numpy()

    def filled(name, module):
        shapes = {n: list(x.shape) for n, x in module.state_dict().items() if not n.endswith('filt')}
        module.load_state_dict({n: torch.tensor(x) for n, x in fill(shapes).items()}, strict=False)
        found[f'shapes/{name}'] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        return module.train()

    def generator(kind, norm, antialias, width, channels=3):
        return networks.define_G(channels, 3, width, kind, norm, False, 'normal', 0.02, not antialias, not antialias)

    def discriminator(norm, antialias, width, channels):
        return networks.define_D(channels, width, 'basic', 3, norm, 'normal', 0.02, not antialias)

    size = lambda net: sum(p.numel() for p in net.parameters())
    counts = {
        name: size(generator(f'{name}', norm, False, 64))
        for name, norm in (('unet_256', 'batch'), ('resnet_9blocks', 'instance'))
    }
    counts |= {
        'patch_batch_6': size(discriminator('batch', False, 64, 6)),
        'patch_instance_3': size(discriminator('instance', False, 64, 3)),
    }
    found['counts'] = np.frombuffer(json.dumps(counts).encode(), np.uint8)
    for name, (kind, norm, antialias) in GENERATORS.items():
        net = filled(name, generator(kind, norm, antialias, WIDTH))
        found[name] = pick(image(net(tensor(picture(name)))), 256)
    for name, (norm, antialias) in DISCRIMINATORS.items():
        net = filled(name, discriminator(norm, antialias, WIDTH, 6))
        found[name] = image(net(tensor(picture(name, 6)))).reshape(2, -1)
    net = filled('resnet_antialias', generator('resnet_6blocks', 'instance', True, WIDTH))
    layers = [0, 4, 8, 12, 16]
    keys, queries = (net(tensor(x), layers, encode_only=True) for x in (picture(), picture()[::-1].copy()))
    found |= {f'taps/{i}': pick(image(x), 256) for i, x in enumerate(keys) if i}
    heads = networks.PatchSampleF(use_mlp=True, nc=8)
    heads.create_mlp(keys)
    filled('heads', heads)
    # The first map is that of the padded picture: its places are those of the picture itself.
    across = keys[0].shape[3]
    ids = [np.arange(PLACES) for _ in keys]
    ids[0] = (ids[0] // (across - 6) + 3) * across + ids[0] % (across - 6) + 3
    key, _ = heads(keys, PLACES, ids)
    query, _ = heads(queries, PLACES, ids)
    options = types.SimpleNamespace(nce_includes_all_negatives_from_minibatch=False, batch_size=2, nce_T=0.07)
    nce = PatchNCELoss(options)
    found |= {f'vectors/{i}': x.detach().numpy().reshape(2, PLACES, -1)[:, ::8] for i, x in enumerate(key)}
    found['nce'] = np.array([nce(q, k).mean().item() for q, k in zip(query, key, strict=True)])
    np.savez_compressed(FILE, **found)
    print(counts)


if __name__ == '__main__':
    main(sys.argv[1])
