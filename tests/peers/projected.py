"""Writes projected.npz: reference outputs of Projected GAN's networks by the authors' code.

    python tests/peers/projected.py CHECKOUT

CHECKOUT is github.com/autonomousvision/projected-gan; it needs torch 2.13.0. As in `features.py`, networks are filled
with random tensors, seeded by their names, but the strengths of the noise are 0. Arrays: `shapes/NET`, JSON of the
shapes of the tensors; `logits/plain` and `logits/labels`, [2, P], of the maps that `maps` returns; values of the images
of the two generators that `pick` selects.
"""

import json
import pathlib
import sys
import types

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')
CHANNELS = 6, 10, 12, 20  # of the backbone's maps
Z, CLASSES = 16, 5
LABEL = (3, 0)


def maps():
    """Maps at four scales, as of pictures of 128 x 128, float32 [2, H, W, C]."""
    draw = np.random.default_rng(1)
    return [draw.standard_normal((2, 32 >> i, 32 >> i, c)).astype(np.float32) for i, c in enumerate(CHANNELS)]


def latents():
    """Float32 [2, Z]."""
    return np.random.default_rng(2).standard_normal((2, Z)).astype(np.float32)


def tensors(shapes):
    """Random tensors by name, without noise."""
    from peers.features import fill

    return {name: x * 0 if x.shape == (1,) else x for name, x in fill(shapes).items()}


def main(checkout):
    import torch

    sys.path[:0] = [str(FILE.parents[1]), checkout]
    from peers.features import pick

    conv = lambda i: torch.nn.Conv2d((3, *CHANNELS)[i], CHANNELS[i], 1)
    same = torch.nn.Identity
    blocks = [same(), conv(0), conv(1), same(), conv(2), same(), same(), same(), conv(3)]
    net = types.SimpleNamespace(conv_stem=same(), bn1=same(), act1=same(), blocks=blocks)
    sys.modules['timm'] = types.SimpleNamespace(create_model=lambda *args, **kwargs: net)
    from pg_modules.discriminator import MultiScaleD
    from pg_modules.networks_fastgan import FastganSynthesis
    from pg_modules.projector import F_RandomProj

    class Given(torch.nn.Module):
        def __init__(self, x):
            super().__init__()
            self.x = torch.tensor(x).permute(0, 3, 1, 2)

        def forward(self, _):
            return self.x

    found = {}

    def filled(name, module):
        shapes = {n: list(x.shape) for n, x in module.state_dict().items()}
        module.load_state_dict({n: torch.tensor(x) for n, x in tensors(shapes).items()})
        found[f'shapes/{name}'] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        return module.train()

    projector = F_RandomProj(cout=64, expand=True, proj_type=2)
    filled('projector', projector.scratch)
    for i, x in enumerate(maps()):
        setattr(projector.pretrained, f'layer{i}', Given(x))
    label = torch.nn.functional.one_hot(torch.tensor(LABEL), CLASSES)
    with torch.no_grad():
        for name, cond in (('plain', 0), ('labels', 1)):
            more = {'cond': cond, 'c_dim': CLASSES}
            discs = MultiScaleD(projector.CHANNELS, projector.RESOLUTIONS, num_discs=4, **more)
            if cond:
                for disc in discs.mini_discs.values():
                    disc.embed = torch.nn.Embedding(CLASSES, 128)
            found[f'logits/{name}'] = filled(name, discs)(projector(None), label).numpy()
        for name, lite in (('fastgan', False), ('fastgan_lite', True)):
            generator = filled(name, FastganSynthesis(ngf=8, z_dim=Z, img_resolution=256, lite=lite))
            image = generator(torch.tensor(latents())[:, None], None)
            found[name] = pick(image.permute(0, 2, 3, 1).numpy(), 256)
    np.savez_compressed(FILE, **found)


if __name__ == '__main__':
    main(sys.argv[1])
