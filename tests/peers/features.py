"""Writes features.npz: reference outputs of the published feature networks, by their original implementations.

    python tests/peers/features.py

It needs torch 2.13.0, torchvision 0.29.2, torch-fidelity 0.4.0, pytorch-fid 0.3.0, lpips 0.1.4 (the last four with
`--no-deps`), tqdm, safetensors 0.8 and SciPy 1.17.1.

Arrays: `NET/OUTPUT`, the values of an output that `pick` selects; `lpips/NET`, distances; `resize/PROTOCOL/SIZE`;
`shapes/NET`, JSON of the shapes of the published tensors; `fid/WIDTH`, torch-fidelity's distance between `pictures(0)`
and `pictures(1)` in its features of that width, and `fid/features/0` and `1`, the features of width 192, [16, 192];
`file/KIND`, bytes.

The published weights would be half a gigabyte. Instead, both implementations are filled with random tensors from
NumPy, seeded by the published names.
"""

import io
import json
import pathlib
import re
import sys
import tempfile
import zlib

import numpy as np

FILE = pathlib.Path(__file__).with_suffix('.npz')
COUNT = 16  # images in each of the two sets whose Frechet distance is stored


def fill(shapes):
    """{published name: shape} -> {name: array}, scaled so that ReLU networks keep the variance of activations."""
    return {name: _fill(name, tuple(shape)) for name, shape in shapes.items()}


def _fill(name, shape):
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if name.endswith('running_var') or (name.endswith('weight') and len(shape) == 1):
        return draw.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.startswith('lin'):  # heads of LPIPS are non-negative
        return draw.uniform(0, 2 / shape[1], shape).astype(np.float32)
    if len(shape) == 1:
        return (0.1 * draw.standard_normal(shape)).astype(np.float32)
    # A repeated block of prime length, since the largest tensors have a hundred million values.
    scale = np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return np.resize(scale * draw.standard_normal(65537, np.float32), shape)


def stored(prefix):
    """Loads the arrays under `prefix`/, by the rest of their names."""
    with np.load(FILE) as found:
        return {name.removeprefix(f'{prefix}/'): found[name] for name in found if name.startswith(f'{prefix}/')}


def tensors(net, prefix=''):
    """Random tensors named and shaped as in the published file of a network, optionally only those with a prefix."""
    shapes = json.loads(stored('shapes')[net].tobytes())
    return fill({name: shape for name, shape in shapes.items() if name.startswith(prefix)})


def pictures(seed, count=COUNT, size=32):
    """Smooth noisy images, uint8 [count, size, size, 3]; odd seeds have less contrast."""
    draw = np.random.default_rng(seed)
    waves = np.cumsum(np.cumsum(draw.standard_normal((count, size, size, 3)), 1), 2) / size
    x = 128 + (50 - 25 * (seed % 2)) * waves + 10 * draw.standard_normal(waves.shape)
    return np.clip(x, 0, 255).astype(np.uint8)


def floats(seed, count=2, size=64):
    """Images float32 in [-1, 1]."""
    return pictures(seed, count, size).astype(np.float32) / 127.5 - 1


def pick(x, count=64):
    """Selects some values from all over an NHWC array, in a fixed order."""
    x = np.asarray(x)
    return x.ravel()[(np.arange(min(count, x.size)) * 1_000_003) % x.size].astype(np.float32)


def stub():
    """Declares torchvision's compiled operators, which are not used here: its wheel may not match a CPU torch."""
    import torch

    library = torch.library.Library('torchvision', 'DEF')
    for name in ('nms', 'qnms', 'roi_align', 'ps_roi_align', 'roi_pool', 'ps_roi_pool', 'deform_conv2d'):
        library.define(f'{name}(Tensor a, Tensor b, float c) -> Tensor')
        library.define(f'_{name}_backward(Tensor a) -> Tensor')
    return library


def store_shapes(found, net, state):
    shapes = {name: list(value.shape) for name, value in state.items()}
    found[f'shapes/{net}'] = np.frombuffer(json.dumps(shapes).encode(), np.uint8)


def load(found, name):
    """Builds a network of torchvision with the tensors of `fill`."""
    import torch
    from torchvision import models

    net = getattr(models, name)()
    state = net.state_dict()
    store_shapes(found, name, state)
    filled = fill({name: value.shape for name, value in state.items()})
    net.load_state_dict({name: torch.from_numpy(value) for name, value in filled.items()})
    return net.eval()


def nhwc(x):
    x = x.detach().numpy()
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def nchw(x):
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def inception(found):
    """Both protocols, and Frechet distances of two sets of images."""
    import pytorch_fid.inception
    import torch
    import torch_fidelity.feature_extractor_inceptionv3 as fidelity
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchvision.models import Inception3

    # Both implementations have torchvision's tensor names.
    state = Inception3(1008, aux_logits=False, init_weights=False).state_dict()
    store_shapes(found, 'inception', state)
    filled = fill({name: value.shape for name, value in state.items()})
    state = {name: torch.from_numpy(value) for name, value in filled.items()}
    fidelity.load_state_dict_from_url = pytorch_fid.inception.load_state_dict_from_url = lambda *_, **__: state
    names = ['64', '192', '768', '2048', 'logits_unbiased', 'logits']
    image = pictures(0)[:1]
    net = fidelity.FeatureExtractorInceptionV3('inception-v3-compat', names)
    for name, value in zip(names, net(nchw(image)), strict=True):
        found[f'torch-fidelity/{name}'] = pick(value)
    other = pytorch_fid.inception.InceptionV3((0, 1, 2, 3)).eval()
    for name, value in zip(names, other(nchw(image / np.float32(255))), strict=False):
        found[f'pytorch-fid/{name}'] = pick(value.mean((2, 3)).detach())
    for size in (17, 299, 340):
        x = nchw(pictures(5, 1, size)).float()
        resized = fidelity.interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False)
        found[f'resize/torch-fidelity/{size}'] = pick(nhwc(resized), 200)
        resized = torch.nn.functional.interpolate(x, (299, 299), mode='bilinear', align_corners=False)
        found[f'resize/pytorch-fid/{size}'] = pick(nhwc(resized), 200)
    sets = [net(nchw(pictures(seed))) for seed in (0, 1)]
    for i, name in enumerate(names[:4]):
        both = [fid_features_to_statistics(features[i]) for features in sets]
        found[f'fid/{name}'] = fid_statistics_to_metric(*both, False)['frechet_inception_distance']
    for seed, features in enumerate(sets):
        found[f'fid/features/{seed}'] = features[1].numpy()  # the 192


def classifiers(found):
    import torch

    def watch(net, indices, prefix):
        for name, index in indices.items():
            keep = lambda module, args, out, name=name: found.__setitem__(f'{prefix}/{name}', pick(nhwc(out.clone())))
            net.features[index].register_forward_hook(keep)

    x = nchw(floats(2))
    for name in ('vgg16', 'vgg19'):
        net = load(found, name)
        level, i, indices = 1, 0, {}
        for index, layer in enumerate(net.features):
            if isinstance(layer, torch.nn.ReLU):
                i += 1
                indices[f'relu{level}_{i}'] = index
                layer.inplace = False
            elif isinstance(layer, torch.nn.MaxPool2d):
                level, i = level + 1, 0
        watch(net, indices, name)
        found[f'{name}/logits'] = pick(net(x).detach())
        del net
    for name, indices in {
        'alexnet': {'relu1': 1, 'relu2': 4, 'relu3': 7, 'relu4': 9, 'relu5': 11},
        'squeezenet1_1': {'relu1': 1} | {f'fire{i}': n for i, n in enumerate((3, 4, 6, 7, 9, 10, 11, 12), 2)},
    }.items():
        net = load(found, name)
        watch(net, indices, name)
        picture = nchw(floats(2, size=62)) if name == 'squeezenet1_1' else x  # with 62 pixels one pool rounds up
        found[f'{name}/logits'] = pick(net(picture).detach())
    for name in ('resnet18', 'resnet34', 'resnet50'):
        net = load(found, name)
        for part in ('layer1', 'layer2', 'layer3', 'layer4', 'avgpool'):
            keep = lambda module, args, out, part=part, name=name: found.__setitem__(
                f'{name}/{part.replace("avgpool", "pool")}', pick(nhwc(out))
            )
            getattr(net, part).register_forward_hook(keep)
        found[f'{name}/logits'] = pick(net(x).detach())


def distances(found):
    import lpips
    import torch

    a, b = nchw(floats(3)), nchw(floats(4))
    for name in ('alex', 'vgg', 'squeeze'):
        net = lpips.LPIPS(pretrained=False, pnet_rand=True, net=name, verbose=False)
        published = lambda own: re.sub(r'^lins\.(\d)', r'lin\1', re.sub(r'^net\.slice\d\.', 'features.', own))
        state = {own: value for own, value in net.state_dict().items() if not own.startswith('scaling_layer')}
        filled = fill({published(own): value.shape for own, value in state.items()})
        store_shapes(found, f'lpips_{name}', {k: v for k, v in filled.items() if k.startswith('lin')})
        net.load_state_dict({own: torch.from_numpy(filled[published(own)]) for own in state}, strict=False)
        found[f'lpips/{name}'] = net(a, b).detach().numpy().ravel()


def files(found):
    """Files written by PyTorch and safetensors; `tests/model/test_weights.py` checks their contents."""
    import collections

    import safetensors.torch
    import torch

    whole = torch.arange(24, dtype=torch.float32)
    table = collections.OrderedDict(
        plain=whole.reshape(2, 3, 4),
        turned=whole.reshape(4, 6).T,
        part=whole[5:11:2],
        parameter=torch.nn.Parameter(torch.tensor([1.5, -2.0])),
        half=torch.tensor([0.1, 3.0]).half(),
        brain=torch.tensor([0.1, 3.0]).bfloat16(),
        double=torch.tensor([[0.25]]).double(),
        count=torch.tensor(7),
        flags=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
    )
    table._metadata = {'': {'version': 1}}

    def saved(value, **options):
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        return np.frombuffer(buffer.getvalue(), np.uint8)

    found['file/zip'] = saved(table)
    found['file/legacy'] = saved(table, _use_new_zipfile_serialization=False)
    found['file/module'] = saved(torch.nn.Linear(2, 2))
    found['file/nested'] = saved({'state_dict': {'plain': whole}, 'epoch': 3})
    with tempfile.NamedTemporaryFile() as file:
        torch.jit.script(torch.nn.Linear(2, 2)).save(file.name)
        found['file/program'] = np.fromfile(file.name, np.uint8)
    table = {name: value.detach().contiguous().clone() for name, value in table.items()}
    found['file/safetensors'] = np.frombuffer(safetensors.torch.save(table, {'format': 'pt'}), np.uint8)


def main():
    import torch

    library = stub()  # the operators exist as long as this reference
    torch.set_num_threads(1)
    found = {}
    for make in (files, distances, classifiers, inception):
        with torch.no_grad():
            make(found)
        print(make.__name__, file=sys.stderr)
    del library
    np.savez_compressed(FILE, **found)
    print(FILE, FILE.stat().st_size)


if __name__ == '__main__':
    main()
