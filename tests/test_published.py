"""Settings named after a paper have the paper's sizes. Abstract shapes only: nothing is computed."""

import importlib

import jax
import numpy as np
import pytest

from productgen.config import to_dict
from productgen.methods import Problem
from productgen.methods.base import parameter_counts
from productgen.model.config import resolve


def made(name, arg):
    """The method of a config without labels, and its abstract state."""
    config = resolve(to_dict(importlib.import_module(f'configs.{name}').get_config(arg)))
    side = int(config.data.resolution)
    method = config.family.make(config, Problem((side, side), (), config.train.batch_size, 1, 1000))
    batch = {'image': np.zeros((2, side, side, 3), np.uint8), 'label': np.zeros((2, 0), np.int32)}
    return method, jax.eval_shape(
        method.init, jax.random.key(0), batch, {n: w.shapes for n, w in method.frozen().items()}
    )


def kernels(params):
    """Shapes by layer."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    places = {jax.tree_util.keystr(path[:-1], simple=True, separator='/'): x for path, x in leaves if x.ndim > 1}
    return {place: x.shape for place, x in places.items()}


@pytest.mark.parametrize('arg, latents', [('faces', 32), ('chairs', 16)])
def test_beta_vae(arg, latents):
    """Higgins et al. 2017, table 1, and what the config says of the differences: 64, not 32, 32, 64, 64 channels."""
    method, state = made('beta_vae', arg)
    assert method.problem.resolution == (64, 64) and method.latent == (latents,)
    shapes = kernels(state.nets['vae'].params['encoder'])
    halvings = [shapes.pop(f'halve{level}') for level in (1, 2, 3, 4)]
    assert halvings == [(4, 4, 32, 64), *[(4, 4, 64, 64)] * 3]
    assert shapes == {'from_rgb': (3, 3, 3, 32), 'latent': (4 * 4 * 64, 2 * latents)}


def test_vaegan():
    """Larsen et al. 2016, table 1: three halvings to 8 x 8, a latent of 128, features of the discriminator's last."""
    method, state = made('vaegan', 'paper')
    encoder, decoder, judge = (kernels(state.nets[n].params) for n in ('encoder', 'decoder', 'discriminator'))
    for shapes in (encoder, judge):
        assert [shapes[name][-1] for name in shapes if name.startswith('halve')] == [64, 128, 256]
    assert method.problem.resolution == (64, 64) and method.latent == (128,)
    assert encoder['latent'] == (8 * 8 * 256, 2 * 128) and decoder['latent'] == (128, 8 * 8 * 256)
    image = np.zeros((2, 64, 64, 3), np.float32)
    judgement = jax.eval_shape(method.critic.network.apply, {'params': state.nets['discriminator'].params}, image, None)
    assert judgement.features.shape == (2, 8, 8, 256)


def test_vqvae():
    """van den Oord et al. 2017, sections 4.1 and 4.2: two strided 4x4 convolutions, two blocks of 3x3 and 1x1, 512
    codes at 32 x 32 places for 128 x 128 pixels."""
    method, state = made('vqvae', 'paper')
    assert method.problem.resolution == (128, 128) and method.prior.shape == (32, 32)
    assert state.nets['decoder'].stats['codebook'].total.shape == (512, 64)
    shapes = kernels(state.nets['encoder'].params)
    assert [shapes[f'Resize_{i}'] for i in (0, 1)] == [(4, 4, 3, 128), (4, 4, 128, 256)]
    blocks = [shapes[f'Residuals_0/Conv_{i}'] for i in range(4)]
    assert blocks == 2 * [(3, 3, 256, 32), (1, 1, 32, 256)] and 'Residuals_0/Conv_4' not in shapes
    code = jax.eval_shape(method._encode, state.nets['encoder'].params, np.zeros((2, 128, 128, 3), np.float32))
    assert code.shape == (2, 32, 32, 64)


def test_the_autoencoder_of_latent_diffusion_can_be_trained_separately():
    """`configs/vae.py:map` has the shapes that `configs/latent_diffusion.py` takes."""
    one, two = (made(*which)[1].nets['vae'].params for which in (('vae', 'map'), ('latent_diffusion', None)))
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, two)


@pytest.mark.parametrize('arg', ['res=256', 'stylegan2=256'])
def test_projected_gan(arg):
    """As many weights as in the authors' code at 256 x 256, but for biases that batch norm cancels: 3,136 of them."""
    _, state = made('projected_gan', arg)
    generator, discriminator = (parameter_counts(state)[net] for net in ('generator', 'discriminator'))
    assert discriminator == 10_331_328 - 3_136
    assert generator == 105_684_175 or arg != 'res=256'
    maps = state.nets['discriminator'].stats['projector']
    wide = [maps[f'channels{i}']['kernel'].shape for i in range(4)]
    assert wide == [(24, 64), (40, 128), (112, 256), (320, 512)]
