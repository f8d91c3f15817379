"""The published variants of config files have the published numbers, and their methods can be built."""

import importlib

import pytest

from productgen.config import to_dict
from productgen.methods import METHODS, Problem

# Regularisation of StyleGAN2 (Karras et al. 2020, appendix B) and augmentation of StyleGAN2-ADA.
STYLEGAN2 = {
    'data.resolution': '256',
    'train.duration': '25000kimg',
    'method.loss': 'non_saturating',
    'method.penalty': 'r1',
    'method.penalty_interval': 16,
    'method.critic_steps': 1,
    'method.path_weight': 2.0,
    'method.path_interval': 4,
    'method.path_shrink': 2,
    'method.path_decay': 0.99,
    'method.mixing': 0.9,
    'method.w_decay': 0.995,
    'method.augment.name': 'ada',
    'method.augment.transforms': 'bgc',
    'method.augment.target': 0.6,
    'method.augment.adjust_kimg': 500.0,
    'model.z_dim': 512,
    'model.w_dim': 512,
    'model.mapping_lr': 0.01,
    'model.label_layers': 8,
    'model.channel_max': 512,
    'model.bf16_levels': 4,
    **{f'optim.{net}.b1': 0.0 for net in ('generator', 'discriminator')},
    **{f'optim.{net}.b2': 0.99 for net in ('generator', 'discriminator')},
    **{f'optim.{net}.eps': 1e-8 for net in ('generator', 'discriminator')},
}


def both(**fields):
    """Fields of the optimisers of both networks."""
    return {f'optim.{net}.{name}': value for net in ('generator', 'discriminator') for name, value in fields.items()}


def stylegan2(batch, group, base, rate, gamma, ema, mapping=8, rampup=0.0, **changes):
    """A row of the table of settings of StyleGAN2-ADA."""
    fields = {'train.batch_size': batch, 'model.stddev_group': group, 'model.channel_base': base}
    fields |= {'method.penalty_weight': gamma, 'method.ema_kimg': ema, 'method.ema_rampup': rampup}
    return STYLEGAN2 | fields | {'model.mapping_layers': mapping} | both(learning_rate=rate) | changes


PUBLISHED = {
    'stylegan:paper256': stylegan2(64, 8, 16384, 0.0025, 1.0, 20.0),
    'stylegan:paper512': stylegan2(64, 8, 32768, 0.0025, 0.5, 20.0, **{'data.resolution': '512'}),
    'stylegan:paper1024': stylegan2(32, 4, 32768, 0.002, 2.0, 10.0, **{'data.resolution': '1024'}),
    # `auto` for one GPU: batch 4096 / resolution, at most 32.
    'stylegan:res=256': stylegan2(16, 4, 16384, 0.0025, 'auto', 5.0, mapping=2, rampup=0.05),
    # Radford et al. 2016, section 4 and figure 1.
    'dcgan:paper': {
        'data.resolution': '64',
        'train.batch_size': 128,
        'method.loss': 'non_saturating',
        'method.penalty': 'none',
        'model.z_dim': 100,
        'model.width': 128,
        'model.max_width': 1024,
        'model.norm': 'batch',
        **both(name='adam', learning_rate=2e-4, b1=0.5),
    },
    # Arjovsky et al. 2017, algorithm 1, but for the learning rate.
    'wgan': {
        'method.loss': 'wasserstein',
        'method.penalty': 'none',
        'method.critic_steps': 5,
        'method.clip_weights': 0.01,
        **both(name='rmsprop'),
    },
    # Gulrajani et al. 2017, algorithm 1, but for the learning rate.
    'wgan_gp': {
        'method.loss': 'wasserstein',
        'method.penalty': 'wgan_gp',
        'method.penalty_weight': 10.0,
        'method.penalty_interval': 1,
        'method.critic_steps': 5,
        'method.clip_weights': 0.0,
        'model.norm': 'layer',
        **both(name='adam', b1=0.0, b2=0.9),
    },
    # The authors' code of Kodali et al. 2017.
    'dragan': {'method.penalty': 'dragan', 'method.penalty_weight': 10.0, 'method.critic_steps': 1},
    'lsgan': {'method.loss': 'least_squares', 'method.penalty': 'none'},
    'gan:minimax': {'method.loss': 'minimax', 'method.penalty': 'none'},
    # The authors' configuration of SNGAN with projection for CIFAR-10: five steps of 64.
    'sngan:cifar10': {
        'data.resolution': '32',
        'train.batch_size': 320,
        'train.duration': '50000steps',
        'method.loss': 'hinge',
        'method.penalty': 'none',
        'method.critic_steps': 5,
        'model.z_dim': 128,
        'model.generator_width': 256,
        'model.generator_max': 256,
        'model.discriminator_width': 128,
        'model.discriminator_max': 128,
        'model.down_blocks': 2,
        'model.flat_blocks': 2,
        'model.discriminator_condition': 'projection',
        'model.spectral_norm': True,
        **both(name='adam', learning_rate=2e-4, b1=0.0, b2=0.9, schedule='linear', warmup=0.0, anneal=1.0, end=0.0),
    },
}


@pytest.mark.parametrize('preset', PUBLISHED)
def test_a_published_variant_has_the_published_numbers(preset):
    name, _, argument = preset.partition(':')
    config = importlib.import_module(f'configs.{name}').get_config(argument)
    for path, expected in PUBLISHED[preset].items():
        value = config
        for part in path.split('.'):
            value = value[part]
        assert type(expected)(value) == expected, path  # some numbers are text, which may also say that they move
    side = int(config.data.resolution)
    METHODS[config.method.name](to_dict(config), Problem((side, side), (10,), config.train.batch_size, 1, 1000))
