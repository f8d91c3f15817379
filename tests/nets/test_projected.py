"""Projected GAN's discriminators and FastGAN's generator: the authors' outputs, sizes, and what never changes."""

import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import projected as peer
from peers.features import pick

from productgen.nets import fastgan, projected
from productgen.nets.projected import Discriminator, enlarge, enlarged_size, halvings
from productgen.published.backbone import efficientnet_scales

STORED = np.load(peer.FILE)


def tensors(name):
    return peer.tensors(json.loads(STORED[f'shapes/{name}'].tobytes()))


def variables(leaves):
    """Nested variables from {'params/a/b/kernel': array}."""
    return flax.traverse_util.unflatten_dict({tuple(name.split('/')): jnp.asarray(x) for name, x in leaves.items()})


def spectral(leaves, ours, theirs, found, axes=(2, 3, 1, 0)):
    """A kernel with spectral normalisation and its u."""
    kernel = found[f'{theirs}.weight_orig']
    leaves[f'params/{ours}/kernel'] = kernel.transpose(axes) if kernel.ndim == 4 else kernel.T
    leaves[f'stats/{ours}/u'] = found[f'{theirs}.weight_u']


def norm(leaves, ours, theirs, found):
    leaves[f'params/{ours}/gain'], leaves[f'params/{ours}/bias'] = found[f'{theirs}.weight'], found[f'{theirs}.bias']


def discriminator(labels):
    """Variables of the discriminators from the authors' tensors."""
    fixed, found, leaves = tensors('projector'), tensors('labels' if labels else 'plain'), {}
    for i in range(4):
        for ours, theirs in ((f'channels{i}', f'layer{i}_ccm'), (f'scales{i}', f'layer{i}_csm.out_conv')):
            leaves[f'stats/projector/{ours}/kernel'] = fixed[f'{theirs}.weight'][:, :, 0, 0].T
            leaves[f'stats/projector/{ours}/bias'] = fixed[f'{theirs}.bias']
        disc, count = f'mini_discs.{i}', 4 - i
        for j in range(count):
            spectral(leaves, f'scale{i}/conv{j}', f'{disc}.main.{j}.main.0', found)
            norm(leaves, f'scale{i}/norm{j}', f'{disc}.main.{j}.main.1', found)
        if labels:
            spectral(leaves, f'scale{i}/projection', f'{disc}.cls', found)
            leaves[f'params/scale{i}/label/kernel'] = found[f'{disc}.embed.weight']
            leaves[f'params/scale{i}/dense/kernel'] = found[f'{disc}.embed_proj.0.weight'].T
            leaves[f'params/scale{i}/dense/bias'] = found[f'{disc}.embed_proj.0.bias']
        else:
            spectral(leaves, f'scale{i}/logit', f'{disc}.main.{count}', found)
    return variables(leaves)


@pytest.mark.parametrize('labels', [False, True])
def test_discriminators_match_the_authors(labels):
    label = jax.nn.one_hot(jnp.array(peer.LABEL), peer.CLASSES) if labels else None
    judge = jax.jit(lambda v, maps: Discriminator(64).apply(v, maps, label, train=True, mutable=['stats'])[0].logit)
    expected = STORED['logits/labels' if labels else 'logits/plain']
    np.testing.assert_allclose(judge(discriminator(labels), peer.maps()), expected, 1e-3, 1e-4)


def generator(name, layers):
    """Variables of a generator of 256 x 256 from the authors' tensors."""
    found, leaves = tensors(name), {}
    spectral(leaves, 'z', 'init.init.0', found, axes=(2, 3, 0, 1))  # transposed: [in, out, h, w]
    norm(leaves, 'norm', 'init.init.1', found)
    for level in range(1, 7):
        theirs = f'feat_{4 << level}'
        for i, (conv, after) in enumerate(((1, 3), (5, 7))[:layers]):
            ours = f'level{level}_{i}'
            spectral(leaves, f'{ours}/conv', f'{theirs}.{conv}', found)
            norm(leaves, f'{ours}/norm', f'{theirs}.{after if layers > 1 else 2}', found)
            if layers > 1:
                leaves[f'params/{ours}/noise_strength'] = np.float32(0)
        if level >= 4:
            spectral(leaves, f'excitation{level}/conv', f'se_{4 << level}.main.1', found)
            spectral(leaves, f'excitation{level}/dense', f'se_{4 << level}.main.3', found)
            leaves[f'params/excitation{level}/dense/kernel'] = leaves[f'params/excitation{level}/dense/kernel'][0, 0]
    spectral(leaves, 'image', 'to_big', found)
    leaves['params/image/bias'] = found['to_big.bias']
    for path in [path for path in leaves if path.endswith('/gain')]:  # running statistics, which training only writes
        for name, value in (('mean', 0), ('var', 1)):
            leaves[path.replace('params/', 'stats/').replace('gain', name)] = np.full_like(leaves[path], value)
    return variables(leaves)


@pytest.mark.parametrize(('name', 'layers'), [('fastgan', 2), ('fastgan_lite', 1)])
def test_generators_match_the_authors(name, layers):
    net = fastgan.Generator((4, 4), (128, 64, 32, 16, 16, 8, 4), layers=layers)
    draw = jax.jit(lambda v, z, keys: net.apply(v, z, None, keys, train=True, mutable=['stats'])[0])
    image = draw(generator(name, layers), peer.latents(), jax.random.split(jax.random.key(0), 2))
    np.testing.assert_allclose(pick(image, 256), STORED[name], 1e-3, 1e-4)


def test_enlarging_keeps_the_corners():
    x = jnp.array([[0.0, 3.0], [6.0, 9.0]])[None, :, :, None]
    expected = np.add.outer([0, 2, 4, 6], [0, 1, 2, 3])
    np.testing.assert_allclose(enlarge(x)[0, :, :, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ('size', 'side', 'expected'),
    [
        ((32, 32), 64, (64, 64)),
        ((256, 256), 224, (256, 256)),
        ((128, 96), 224, (288, 224)),
        ((96, 64), 64, (96, 64)),
    ],
)
def test_the_backbone_sees_multiples_of_32(size, side, expected):
    assert enlarged_size(size, side) == expected


@pytest.mark.parametrize('side', [64, 96, 224, 256])
def test_every_scale_ends_with_a_map_for_the_logits(side):
    ends = [(side >> (i + 1)) >> halvings((side >> (i + 1),) * 2, i) for i in range(4)]
    assert min(ends) >= 4 and (side < 224 or ends == [side // 32] * 4)  # 7 in the paper, at 224
    assert all((side >> (i + 1)) % (1 << halvings((side >> (i + 1),) * 2, i)) == 0 for i in range(4))


def test_the_projection_never_changes():
    maps = [x[:, :, :, :2] for x in peer.maps()]
    net = Discriminator(2)
    init = jax.jit(lambda key: net.init(key, maps, None, train=True))
    first, again = init(jax.random.key(0)), init(jax.random.key(1))
    new = jax.jit(lambda v: net.apply(v, maps, None, train=True, mutable=['stats'])[1])(first)
    fixed = first['stats']['projector']
    assert jax.tree.all(jax.tree.map(np.array_equal, fixed, new['stats']['projector']))
    assert not np.array_equal(fixed['scales0']['kernel'], again['stats']['projector']['scales0']['kernel'])
    assert 'projector' not in first['params'] and new['stats']['scale0'] != {}
    kernel = fixed['channels3']['kernel']  # uniform within 1 / sqrt(fan in)
    assert np.abs(kernel).max() < 2**-0.5 and np.abs(kernel).max() > 0.9 * 2**-0.5


def test_noise_is_each_picture_s_own():
    net = fastgan.Generator((4, 4), (8, 4), reach=1)
    z, keys = jax.random.normal(jax.random.key(1), (3, 4)), jax.random.split(jax.random.key(0), 3)
    leaves = jax.jit(lambda key: net.init(key, z, None, keys, train=True))(jax.random.key(2))
    params = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 1 if 'noise_strength' in str(path) else x, leaves['params']
    )
    draw = jax.jit(lambda z, keys: net.apply(leaves | {'params': params}, z, None, keys))
    whole = draw(z, keys)
    np.testing.assert_allclose(whole[1:2], draw(z[1:2], keys[1:2]), atol=1e-5)
    assert np.abs(whole - draw(z, keys[::-1]))[0].max() > 1e-3
    np.testing.assert_allclose(draw(3 * z, keys), whole, atol=1e-5)  # only the direction of z counts


def test_labels_scale_the_channels_of_the_generator():
    net = fastgan.Generator((4, 4), (8, 4), reach=1)
    z, label = jax.random.normal(jax.random.key(1), (2, 4)), jnp.eye(3)[:2]
    keys = jax.random.split(jax.random.key(0), 2)
    leaves = jax.jit(lambda key: net.init(key, z, label, keys, train=True))(jax.random.key(2))
    draw = jax.jit(lambda label, **more: net.apply(leaves, z, label, keys, **more))
    gains = leaves['params']['level1_0']['norm']['label_gain']
    assert gains.shape == (3, 8) and 0.3 < gains.std() < 0.7
    assert np.abs(draw(label) - draw(label[::-1])).max() > 1e-3
    np.testing.assert_allclose(draw(label, label_weight=0.0), draw(jnp.zeros((2, 3))), atol=1e-6)


def test_the_backbone_gives_four_scales():
    backbone = efficientnet_scales((64, 96))
    image = jax.ShapeDtypeStruct((2, 32, 48, 3), jnp.float32)
    found = jax.eval_shape(backbone, backbone.source.shapes(), image)
    assert [x.shape for x in found] == [(2, 16, 24, 24), (2, 8, 12, 40), (2, 4, 6, 112), (2, 2, 3, 320)]
    assert len(found) == projected.SCALES
