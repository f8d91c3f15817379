"""Writes restoration.npz: reference outputs of restoring networks and a discriminator by published code.

    python tests/peers/restoration.py NAFNET BASICSR

NAFNET is a checkout of github.com/megvii-research/NAFNet (MIT), BASICSR one of github.com/XPixelGroup/BasicSR
(Apache-2.0); it needs torch 2.13.0. As in `features.py`, networks are filled with random tensors, seeded by names.
Arrays: `shapes/NET`, JSON of the shapes of the tensors; `NET`, values of the output for `picture` that `pick` selects;
`counts`, JSON of the numbers of parameters at the published widths.
"""

import importlib
import json
import pathlib
import sys
import types

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')
SIZE = 24, 40
POWER = 60  # passes in which spectral norms converge


def picture():
    """Float32 [2, H, W, 3] in [-1, 1]."""
    return np.random.default_rng(3).uniform(-1, 1, (2, *SIZE, 3)).astype(np.float32)


def networks(checkout, *modules):
    """Modules of a checkout without what its packages import besides."""
    for name in [name for name in sys.modules if name.startswith('basicsr')]:
        del sys.modules[name]
    for package in {'basicsr', *(name.rpartition('.')[0] for name in modules), 'basicsr.models', 'basicsr.ops'}:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [f'{checkout}/{package.replace(".", "/")}']
    dcn, utils, registry = (types.ModuleType(f'basicsr.{name}') for name in ('ops.dcn', 'utils', 'utils.registry'))
    utils.__path__, utils.get_root_logger = [], None
    dcn.ModulatedDeformConvPack, dcn.modulated_deform_conv = object, None
    registry.ARCH_REGISTRY = types.SimpleNamespace(register=lambda **_: lambda cls: cls)
    sys.modules |= {module.__name__: module for module in (dcn, utils, registry)}
    return [importlib.import_module(name) for name in modules]


def main(nafnet, basicsr):
    import torch

    sys.path[:0] = [str(FILE.parents[1])]
    sys.modules.setdefault('distutils.version', types.SimpleNamespace(LooseVersion=None))
    sys.modules.setdefault('torchvision', types.ModuleType('torchvision'))
    from peers.features import fill, pick

    found = {}

    def store(name, module):
        shapes = {n: list(x.shape) for n, x in module.state_dict().items()}
        module.load_state_dict({n: torch.tensor(x) for n, x in fill(shapes).items()})
        with torch.no_grad():
            made = module.eval()(torch.tensor(picture()).permute(0, 3, 1, 2))
        found[f'shapes/{name}'] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
        found[name] = pick(made.permute(0, 2, 3, 1).numpy(), 256)

    size = lambda net: sum(p.numel() for p in net.parameters())
    (naf,) = networks(nafnet, 'basicsr.models.archs.NAFNet_arch')
    levels = {'width': 4, 'enc_blk_nums': [1, 2], 'middle_blk_num': 1, 'dec_blk_nums': [1, 1]}
    store('nafnet', naf.NAFNet(**levels))
    store('nafnet_local', naf.NAFNetLocal(train_size=(1, 3, 16, 16), **levels))
    sidd = {'enc_blk_nums': [2, 2, 4, 8], 'middle_blk_num': 12, 'dec_blk_nums': [2, 2, 2, 2]}
    counts = {f'nafnet{width}': size(naf.NAFNet(width=width, **sidd)) for width in (32, 64)}
    edsr, rrdb = networks(basicsr, 'basicsr.archs.edsr_arch', 'basicsr.archs.rrdbnet_arch')
    for scale in (2, 4):
        store(f'edsr{scale}', edsr.EDSR(3, 3, 8, 2, scale, res_scale=0.1, img_range=2))
        counts[f'edsr{scale}'] = size(edsr.EDSR(3, 3, upscale=scale))
    for scale in (1, 2, 4):
        store(f'rrdb{scale}', rrdb.RRDBNet(3, 3, scale, 8, 1, 4))
        counts[f'rrdb{scale}'] = size(rrdb.RRDBNet(3, 3, scale))
    (critic,) = networks(basicsr, 'basicsr.archs.discriminator_arch')
    counts['critic'] = size(critic.UNetDiscriminatorSN(3))
    net = critic.UNetDiscriminatorSN(3, 4)
    shapes = {n: list(x.shape) for n, x in net.named_parameters()}
    net.load_state_dict({n: torch.tensor(x) for n, x in fill(shapes).items()}, strict=False)
    with torch.no_grad():
        for _ in range(POWER):
            made = net(torch.tensor(picture()).permute(0, 3, 1, 2))
    found['shapes/critic'] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)
    found['critic'] = pick(made.permute(0, 2, 3, 1).numpy(), 256)
    found['counts'] = np.frombuffer(json.dumps(counts).encode(), np.uint8)
    np.savez_compressed(FILE, **found)
    print(counts)


if __name__ == '__main__':
    main(*sys.argv[1:])
