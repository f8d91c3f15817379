"""The networks of pix2pix, CycleGAN and CUT: the authors' outputs and sizes, and what never changes."""

import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import translation as peer
from peers.features import fill, pick

from productgen.losses.contrastive import patch_nce
from productgen.nets import cyclegan, pix2pix
from productgen.nets.cyclegan import Projector, ResNet
from productgen.nets.pix2pix import PatchGAN, UNet, patches

STORED = np.load(peer.FILE)
COUNTS = json.loads(STORED['counts'].tobytes())


def unet_names(depth):
    """Our layers with parameters in the authors' order, without the norms."""
    return [f'down{i}' for i in range(depth)] + [f'up{i}' for i in reversed(range(depth))]


def resnet_names(blocks=6):
    inner = [f'block{i}{half}' for i in range(1, blocks + 1) for half in 'ab']
    return ['in', 'down1', 'down2', *inner, 'up2', 'up1', 'image']


def patch_names(layers=3):
    return [*(f'conv{i}' for i in range(layers + 1)), 'logit']


def norm_of(name):
    """The norm that follows a layer."""
    return {'in': 'norm_in'}.get(name) or name.replace('conv', 'norm').replace('block', 'block_norm').replace(
        'down', 'down_norm'
    ).replace('up', 'up_norm')


def given(net, names, transposed=('up',)):
    """Our parameters from the authors' tensors; biases that a norm cancels are left out."""
    tensors = fill(json.loads(STORED[f'shapes/{net}'].tobytes()))
    modules = {}
    for name, x in tensors.items():
        module, _, kind = name.rpartition('.')
        modules.setdefault(module, {})[kind] = x
    leaves, waiting, last = {}, list(names), ''
    for module in modules.values():
        weight = module.get('weight')
        if weight is None:
            continue
        if weight.ndim == 1:
            leaves[f'{norm_of(last)}/batch/gain'], leaves[f'{norm_of(last)}/batch/bias'] = weight, module['bias']
            continue
        last = waiting.pop(0)
        axes = (2, 3, 0, 1) if last.startswith(transposed) and 'antialias' not in net else (2, 3, 1, 0)
        leaves[f'{last}/kernel'] = weight.transpose(axes)
        if 'bias' in module:
            leaves[f'{last}/bias'] = module['bias']
    assert not waiting
    return {tuple(name.split('/')): jnp.asarray(x) for name, x in leaves.items()}


def fitted(module, leaves, *args):
    """The module's variables with those of `leaves` that it has; all of its own must be among them."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, train=True))
    own = flax.traverse_util.flatten_dict(shapes['params'])
    assert {name: x.shape for name, x in own.items()} == {name: leaves[name].shape for name in own}
    dropped = leaves.keys() - own.keys()
    assert all(name[-1] == 'bias' for name in dropped)
    stats = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes.get('stats', {}))
    params = flax.traverse_util.unflatten_dict({name: leaves[name] for name in own})
    return {'params': params, 'stats': stats}, sum(leaves[name].size for name in dropped)


NETS = {
    'unet_batch': (UNet(7, 4, norm='batch'), unet_names(7)),
    'unet_instance': (UNet(7, 4, norm='instance'), unet_names(7)),
    'resnet': (ResNet(6, 4), resnet_names()),
    'resnet_batch': (ResNet(6, 4, norm='batch'), resnet_names()),
    'resnet_antialias': (ResNet(6, 4, antialias=True), resnet_names()),
    'patch_batch': (PatchGAN(3, 4, 'batch'), patch_names()),
    'patch_instance': (PatchGAN(3, 4, 'instance'), patch_names()),
    'patch_antialias': (PatchGAN(3, 4, 'instance', antialias=True), patch_names()),
}


@pytest.mark.parametrize('name', NETS)
def test_outputs_are_those_of_the_authors_code(name):
    module, names = NETS[name]
    channels = 6 if name.startswith('patch') else 3
    image = jnp.asarray(peer.picture(name, channels))
    variables, _ = fitted(module, given(name, names), image)
    made, _ = jax.jit(lambda v, x: module.apply(v, x, train=True, mutable=['stats']))(variables, image)
    made = made.logit if channels == 6 else pick(made, 256)
    assert np.abs(STORED[name]).max() > 0.1
    np.testing.assert_allclose(made, STORED[name], atol=5e-5 * np.abs(STORED[name]).max())


def test_features_of_patches_and_their_loss_are_those_of_the_authors_code():
    module, names = NETS['resnet_antialias']
    images = jnp.asarray(peer.picture())
    leaves = given('resnet_antialias', names)
    variables, _ = fitted(module, leaves, images)
    plain = jax.jit(lambda x: module.apply(variables, x, train=True, taps=True))

    def tapped(images):
        """Our maps with the biases of the two downsampling layers, which only shift the input of the projections."""
        image, down1, down2, *rest = plain(images)
        return [image, down1 + leaves['down1', 'bias'], down2 + leaves['down2', 'bias'], *rest]

    keys, queries = tapped(images), tapped(images[::-1])
    for i, x in enumerate(keys[1:], 1):
        np.testing.assert_allclose(pick(x, 256), STORED[f'taps/{i}'], rtol=1e-4, atol=1e-4)
    heads = fill(json.loads(STORED['shapes/heads'].tobytes()))
    params = {}
    for i in range(len(keys)):
        for j in (0, 1):
            theirs = f'mlp_{i}.{2 * j}'
            params[f'map{i}_{j}'] = {'kernel': heads[f'{theirs}.weight'].T, 'bias': heads[f'{theirs}.bias']}
    first = lambda maps: [x.reshape(2, -1, x.shape[-1])[:, : peer.PLACES] for x in maps]
    projector = Projector(8)
    key, query = (projector.apply({'params': params}, first(maps)) for maps in (keys, queries))
    for i, x in enumerate(key):
        np.testing.assert_allclose(x[:, ::8], STORED[f'vectors/{i}'], atol=1e-4)
    losses = [float(jnp.mean(patch_nce(q, k, 0.07))) for q, k in zip(query, key, strict=True)]
    np.testing.assert_allclose(losses, STORED['nce'], rtol=1e-3)


@pytest.mark.parametrize(
    'module, channels, published, cancelled',
    [
        (UNet(8), 3, 'unet_256', 0),
        (ResNet(9), 3, 'resnet_9blocks', 64 * (1 + 2 + 4 + 18 * 4 + 2 + 1)),
        (PatchGAN(3), 6, 'patch_batch_6', 0),
        (PatchGAN(3, norm='instance'), 3, 'patch_instance_3', 64 * (2 + 4 + 8)),
    ],
)
def test_sizes_are_the_published_ones_without_biases_that_a_norm_cancels(module, channels, published, cancelled):
    image = jax.ShapeDtypeStruct((1, 256, 256, channels), jnp.float32)
    shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x), image)
    count = sum(x.size for x in jax.tree.leaves(shapes['params']))
    assert count + cancelled == COUNTS[published]
    assert COUNTS == {
        'unet_256': 54413955,
        'resnet_9blocks': 11378179,
        'patch_batch_6': 2768705,
        'patch_instance_3': 2764737,
    }


@pytest.mark.parametrize('size, layers', [((70, 70), 3), ((64, 72), 3), ((33, 30), 2), ((16, 16), 1), ((24, 31), 3)])
@pytest.mark.parametrize('antialias', [False, True])
def test_the_number_of_patches(size, layers, antialias):
    module = PatchGAN(layers, 4, 'instance', antialias)
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    logit = jax.eval_shape(lambda x: module.init_with_output(jax.random.key(0), x)[0].logit, image)
    assert logit.shape == (2, patches(size, layers)) and patches(size, layers) > 0


def test_too_small_images_have_no_patches():
    assert patches((23, 64), 3) == 0 and patches((24, 24), 3) == 1


def test_a_patch_is_70_pixels_wide():
    module = PatchGAN(3, 4, 'none')
    image = jnp.zeros((1, 96, 96, 3))
    params = jax.jit(module.init)(jax.random.key(0), image)
    slope = jax.jit(jax.grad(lambda x: module.apply(params, x).logit.reshape(10, 10)[5, 5]))(image)
    rows = np.flatnonzero(np.abs(slope).sum((0, 2, 3)))
    assert rows[-1] - rows[0] + 1 == 70


@pytest.mark.parametrize('module', [UNet(6, 4), ResNet(1, 4, dropout=0.5)], ids=['unet', 'resnet'])
def test_dropout_follows_the_keys_and_its_strength(module):
    size = 64 if isinstance(module, UNet) else 8
    image = jnp.ones((2, size, size, 3))
    noisy = lambda x: x + 0.1 * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    variables = jax.tree.map(noisy, jax.device_get(jax.jit(module.init)(jax.random.key(0), image)))
    keys, apply = jax.random.split(jax.random.key(2), 2), jax.jit(module.apply)
    plain, random = apply(variables, image), apply(variables, image, keys)
    assert module.random and not np.array_equal(random, plain) and not np.array_equal(random[0], random[1])
    mixed = apply(variables, image, keys, strength=jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(mixed[0], plain[0], atol=1e-6)
    np.testing.assert_allclose(mixed[1], random[1], atol=1e-6)
    assert np.array_equal(apply(variables, image, keys, strength=0.0), plain)


def test_a_batch_of_one_with_its_own_statistics_is_batch_norm():
    images = jax.random.normal(jax.random.key(0), (1, 8, 8, 3))
    batch, own = ResNet(1, 4, norm='batch'), ResNet(1, 4, norm='own')
    params = jax.jit(own.init)(jax.random.key(1), images)['params']
    params = jax.tree.map(lambda x: x + 0.1, params)
    renamed = flax.traverse_util.flatten_dict(params)
    renamed = {tuple('batch' if part == 'instance' else part for part in name): x for name, x in renamed.items()}
    variables = {'params': flax.traverse_util.unflatten_dict(renamed)}
    expected, _ = jax.jit(lambda v: batch.apply(v, images, train=True, mutable=['stats']))(variables)
    np.testing.assert_allclose(jax.jit(own.apply)({'params': params}, images), expected, atol=1e-5)


def test_modules_say_whether_they_are_random():
    assert not UNet(5).random and UNet(6).random and not UNet(8, dropout=0.0).random and not cyclegan.ResNet().random
    assert pix2pix.DEEPEST == 8
