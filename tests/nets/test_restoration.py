"""The restoring networks: published outputs and sizes, and what they promise about tiles."""

import json
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import restoration as peer
from peers.features import fill, pick
from PIL import Image

from productgen.nets.gated import Autoencoder, GatedNet
from productgen.nets.nafnet import NAFNet, local_mean
from productgen.nets.resample import enlarge
from productgen.nets.super_resolution import EDSR, ESPCN, Compact, RRDBNet
from productgen.nets.unet_critic import UNetCritic

STORED = np.load(peer.FILE)
COUNTS = json.loads(STORED['counts'].tobytes())
LEVELS = (4, (1, 2), 1, (1, 1))

NAMES = {
    'naf': [
        (r'encoders\.(\d)\.(\d)', r'encoder\1_\2'),
        (r'middle_blks\.(\d)', r'middle_\1'),
        (r'decoders\.(\d)\.(\d)', r'decoder\1_\2'),
        (r'downs\.(\d)', r'down\1'),
        (r'ups\.(\d)\.0', r'up\1'),
        (r'sca\.1', 'attention'),
        (r'(norm\d)\.weight', r'\1.gain'),
    ],
    'edsr': [
        (r'conv_first', 'first'),
        (r'body\.(\d)\.conv(\d)', r'block\1_\2'),
        (r'conv_after_body', 'body'),
        (r'upsample\.(\d)', lambda m: f'up{int(m[1]) // 2}'),
        (r'conv_last', 'last'),
    ],
    'rrdb': [
        (r'conv_(first|body|last)', r'\1'),
        (r'body\.(\d)\.rdb(\d)\.conv(\d)', lambda m: f'block{m[1]}_{int(m[2]) - 1}_{int(m[3]) - 1}'),
        (r'conv_up(\d)', r'up\1'),
        (r'conv_hr', 'high'),
    ],
}


def shuffled(x, axis):
    """Channels of a pixel shuffle, (C, 2, 2) in PyTorch, in our order (2, 2, C)."""
    x = np.moveaxis(x, axis, -1)
    return np.moveaxis(x.reshape(*x.shape[:-1], -1, 4).swapaxes(-1, -2).reshape(x.shape), -1, axis)


def given(net):
    """Our parameters from the published tensors."""
    kind = next(kind for kind in NAMES if net.startswith(kind))
    leaves = {}
    for name, x in fill(json.loads(STORED[f'shapes/{net}'].tobytes())).items():
        for pattern, ours in NAMES[kind]:
            name = re.sub(pattern, ours, name)
        if x.ndim == 4 and not name.endswith(('beta', 'gamma')):
            x = x.transpose(2, 3, 1, 0)  # [h, w, in, out]
            if name.startswith('down') and kind == 'naf':  # stride 2: a product with blocks of pixels
                x = x.reshape(-1, x.shape[-1])
            elif kind == 'naf' and x.shape[:2] == (1, 1):
                x = x[0, 0]
            if kind == 'rrdb' and name.startswith('first') and x.shape[2] > 3:
                x = folded(x)
        if name.startswith('up') and kind != 'rrdb':
            x = shuffled(x, -1)
        name = name.replace('weight', 'kernel')
        leaves[tuple(name.split('.'))] = jnp.asarray(x.reshape(-1) if name.endswith(('beta', 'gamma')) else x)
    return flax.traverse_util.unflatten_dict(leaves)


def folded(x):
    """Input channels of pixels folded by 2 or 4, (C, s, s) in PyTorch, in the order of `to_depth` once or twice."""
    h, w, channels, out = x.shape
    side = int((channels // 3) ** 0.5)
    x = x.reshape(h, w, 3, side, side, out)
    if side == 2:
        return x.transpose(0, 1, 3, 4, 2, 5).reshape(h, w, channels, out)
    x = x.reshape(h, w, 3, 2, 2, 2, 2, out)  # rows (outer, inner), columns (outer, inner): inner is folded first
    return x.transpose(0, 1, 3, 5, 4, 6, 2, 7).reshape(h, w, channels, out)


NETS = {
    'nafnet': NAFNet(*LEVELS),
    'nafnet_local': NAFNet(*LEVELS, window=24),
    **{f'edsr{scale}': EDSR(8, 2, scale, residual=0.1) for scale in (2, 4)},
    **{f'rrdb{scale}': RRDBNet(8, 1, 4, scale) for scale in (1, 2, 4)},
}


@pytest.mark.parametrize('name', NETS)
def test_outputs_are_those_of_the_published_code(name):
    x = jnp.asarray(peer.picture())
    if name.startswith('edsr'):
        # The published network is for [0, 1]: its range is 2 here, so that its convolutions see the same values.
        x = 2 * x - 1
    params = given(name)
    shapes = jax.eval_shape(lambda: NETS[name].init(jax.random.key(0), x))['params']
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    made = jax.jit(NETS[name].apply)({'params': params}, x)
    made = (made + 1) / 2 if name.startswith('edsr') else made
    np.testing.assert_allclose(pick(made, 256), STORED[name], rtol=1e-4, atol=1e-4 * np.abs(STORED[name]).max())


@pytest.mark.parametrize(
    'name, net',
    [
        ('nafnet32', NAFNet()),
        pytest.param('nafnet64', NAFNet(64), marks=pytest.mark.slow),  # the same but for its width
        ('edsr2', EDSR()),
        ('edsr4', EDSR(scale=4)),
        ('rrdb1', RRDBNet(scale=1)),
        pytest.param('rrdb2', RRDBNet(scale=2), marks=pytest.mark.slow),
        ('rrdb4', RRDBNet(scale=4)),
    ],
)
def test_sizes_are_published_ones(name, net):
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3))))
    assert sum(x.size for x in jax.tree.leaves(shapes['params'])) == COUNTS[name]


def test_the_critic_is_the_published_one():
    net, x = UNetCritic(4), jnp.asarray(peer.picture())
    tensors = fill(json.loads(STORED['shapes/critic'].tobytes()))
    own = jax.device_get(jax.jit(net.init)(jax.random.key(0), x))
    params = {}
    for name, value in tensors.items():
        layer, _, kind = name.partition('.')
        kernel = kind.startswith('weight')
        params.setdefault(layer, {})['kernel' if kernel else 'bias'] = value.transpose(2, 3, 1, 0) if kernel else value
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own['params'])
    step = jax.jit(lambda stats: net.apply({'params': params, 'stats': stats}, x, train=True, mutable=['stats']))
    stats = own['stats']
    for _ in range(peer.POWER):
        judgement, new = step(stats)
        stats = new['stats']
    logits = np.asarray(judgement.logit).reshape(2, *peer.SIZE, 1)
    np.testing.assert_allclose(pick(logits, 256), STORED['critic'], atol=1e-3 * np.abs(STORED['critic']).max())
    shapes = jax.eval_shape(lambda: UNetCritic().init(jax.random.key(0), x))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes['params'])) == COUNTS['critic']


def test_the_mean_over_a_window_is_moved_inside():
    x = np.random.default_rng(0).normal(size=(1, 9, 7, 2)).astype(np.float32)
    found = np.asarray(local_mean(jnp.asarray(x), (4, 3)))
    for i, j in np.ndindex(9, 7):
        top, left = np.clip(i - 1, 0, 5), np.clip(j - 1, 0, 4)
        np.testing.assert_allclose(found[0, i, j], x[0, top : top + 4, left : left + 3].mean((0, 1)), atol=1e-6)
    assert local_mean(jnp.asarray(x), (9, 9)).shape == (1, 1, 1, 2)


@pytest.mark.parametrize('scale', [2, 4])
def test_enlargement_is_the_bicubic_one(scale):
    picture = Image.fromarray(np.random.default_rng(0).integers(100, 150, (12, 10, 3), np.uint8))
    pillow = np.asarray(picture.resize((10 * scale, 12 * scale), Image.Resampling.BICUBIC), np.float32)
    ours = np.asarray(enlarge(jnp.asarray(picture, jnp.float32)[None], scale))[0]
    # At borders Pillow leaves out what is beyond, here the border is repeated.
    inner = slice(2 * scale, -2 * scale)
    assert np.abs(ours - pillow)[inner, inner].max() <= 1.1


TILED = {
    'compact': (Compact(4, 3, 2), 2),
    'compact_folded': (Compact(4, 2, 1, fold=2), 1),
    'edsr': (EDSR(4, 2, 2), 2),
    'espcn': (ESPCN(2), 2),
    'rrdb': (RRDBNet(4, 1, 4, 4), 4),
    'nafnet': (NAFNet(4, (1,), 1, (1,), fold=2, attention=False), 1),
    'gated': (GatedNet(4, 1), 1),
    'autoencoder': (Autoencoder(4, 4), 1),
}


@pytest.mark.parametrize('name', TILED)
def test_pixels_beyond_the_reach_change_nothing(name):
    net, scale = TILED[name]
    unit = net.stride
    side = -(-(2 * net.reach + 2) // unit) * unit + 2 * unit
    channels = 3 + (name == 'gated')
    x = np.random.default_rng(0).uniform(-1, 1, (1, side, side, channels)).astype(np.float32)
    # Corrections start at zero in NAFNet's blocks: fill them, so that all layers count.
    fill = lambda p: p + 0.3 * np.random.default_rng(1).normal(size=p.shape).astype(np.float32)
    variables = jax.tree.map(fill, jax.device_get(jax.jit(net.init)(jax.random.key(0), jnp.asarray(x))))
    apply = jax.jit(net.apply)
    middle = side // 2 // unit * unit
    other = x.copy()
    outside = np.abs(np.arange(side) - middle) > net.reach
    other[:, outside] = -other[:, outside]
    here = slice(scale * middle, scale * middle + scale)
    one, two = (np.asarray(apply(variables, picture)) for picture in (x, other))
    np.testing.assert_allclose(one[:, here], two[:, here], atol=1e-5)
    assert np.abs(one - two).max() > 1e-2
