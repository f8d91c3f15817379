"""Config files: they state only what differs from the defaults, and published variants have the published numbers."""

import importlib
import json
import pathlib
import re

import pytest

from productgen.config import UserError, to_dict
from productgen.methods import Problem
from productgen.model.config import complete_config, resolve

CONFIGS = pathlib.Path(__file__).parent.parent / 'configs'
ARGUMENTS = {
    **dict.fromkeys(('acgan', 'cgan', 'cvae', 'dragan', 'lsgan', 'wgan', 'wgan_gp'), ('', 'quick')),
    'beta_vae': ('', 'quick', 'faces', 'chairs'),
    'classifier': ('', 'quick', 'simclr', 'simclr,quick'),
    'cut': ('', 'quick', 'fast', 'fast,quick', 'res=256', 'res=192x256', 'paper', 'fast,paper'),
    'cyclegan': ('', 'quick', 'res=256', 'res=192x256', 'paper'),
    'dcgan': ('', 'quick', 'paper'),
    'ddpm': ('', 'quick', 'cifar10'),
    'gan': ('', 'quick', 'minimax', 'minimax,quick'),
    'latent_diffusion': ('', 'quick', 'staged', 'staged,quick', 'res=256', 'res=192x256'),
    'pix2pix': ('', 'quick', *(f'{kind}{end}' for kind in ('sketch', 'studio') for end in ('', ',quick')))
    + ('res=256', 'res=192x256', 'paper'),
    'projected_gan': ('', 'quick', 'res=256', 'res=96x128', 'stylegan2=256'),
    'r3gan': ('', 'quick', 'res=128', 'res=96x128', 'cifar10', 'ffhq64', 'ffhq256', 'imagenet32', 'imagenet64'),
    'restore': (
        *('', 'quick', 'gan', 'task=denoise,quick', 'task=deblur', 'task=sr2', 'task=sr4', 'task=jpeg', 'task=inpaint'),
        *('task=sr2,gan', 'task=sr4,gan,quick'),
    ),
    'sngan': ('', 'quick', 'cifar10'),
    'stylegan': ('', 'quick', 'res=128', 'res=96x128', 'res=1024', 'paper256', 'paper512', 'paper1024'),
    'vae': ('', 'quick', 'map', 'map,quick'),
    'vaegan': ('', 'quick', 'paper'),
    'vqvae': ('', 'quick', 'paper'),
}
ALL = [f'{name}:{argument}' for name, arguments in ARGUMENTS.items() for argument in arguments]


def load(preset):
    """What the config file of `NAME:ARGUMENT` states, as nested dicts."""
    name, _, argument = preset.partition(':')
    return to_dict(importlib.import_module(f'configs.{name}').get_config(argument))


def leaves(config, prefix=''):
    """Values by their full names."""
    values = {}
    for name, value in config.items():
        values |= leaves(value, f'{prefix}{name}.') if isinstance(value, dict) else {f'{prefix}{name}': value}
    return values


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


PROJECTED = {
    'data.resolution': '256',
    'train.batch_size': 64,
    'train.duration': '10000kimg',
    'method.loss': 'hinge',
    'method.penalty': 'none',
    'method.ema_kimg': 20.0,
    'method.ema_rampup': 0.05,
    'method.augment.name': 'diffaugment',
    'method.augment.transforms': '',
    'model.backbone_size': 224,
    'model.projection_width': 64,
    **both(name='adam', b1=0.0, b2=0.99, eps=1e-8),
}
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
    # The authors' code of Sauer et al. 2021.
    'projected_gan:res=256': PROJECTED
    | {'model.z_dim': 256, 'model.width': 128, 'model.layers': 2, 'model.reach': 4}
    | both(learning_rate=2e-4),
    'projected_gan:stylegan2=256': PROJECTED
    | {
        'method.path_weight': 0.0,
        'method.mixing': 0.0,
        'model.z_dim': 64,
        'model.w_dim': 128,
        'model.mapping_layers': 2,
        'model.channel_base': 32768,
        'model.channel_max': 512,
    }
    | both(learning_rate=0.002),
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
    full, config = complete_config(load(preset)), resolve(load(preset))
    for path, expected in PUBLISHED[preset].items():
        value = leaves(full)[path]
        assert type(expected)(value) == expected, path  # some numbers are text, which may also say that they move
    side = int(config.data.resolution)
    config.family.make(config, Problem((side, side), (10,), config.train.batch_size, 1, 1000))


def test_every_config_file_and_documented_argument_is_tested_here():
    files = {path.stem: path.read_text() for path in CONFIGS.glob('*.py')}
    assert files.keys() - {'__init__', 'common', 'from_workdir'} == ARGUMENTS.keys()
    for name, arguments in ARGUMENTS.items():
        documented = set(re.findall(rf'--config=configs/{name}\.py:(\S+)', files[name]))
        assert documented and documented <= set(arguments), name


@pytest.mark.parametrize('preset', ALL)
def test_a_config_states_only_what_differs_from_the_defaults(preset):
    stated = load(preset)
    names = {'method': {'name': stated['method']['name']}}
    if 'name' in stated.get('model', {}):
        names['model'] = {'name': stated['model']['name']}
    usual = leaves(complete_config(names))
    repeated = {field for field, value in leaves(stated).items() if usual[field] == value}
    if preset.startswith('stylegan:'):
        repeated.discard('train.batch_size')  # computed from the resolution: 32, the default, for some
    if preset.startswith('restore:'):
        repeated.discard('method.task')  # the argument says it, also where it is the default
    assert repeated == set(leaves(names))
    assert not {name for name, section in stated.items() if section == {}}


@pytest.mark.parametrize('preset', ALL)
def test_a_config_with_and_without_its_defaults_is_the_same_typed_config(preset):
    stated = load(preset)
    config = resolve(stated)
    assert resolve(complete_config(stated)) == config
    assert resolve(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize('preset', ['stylegan:quick', 'r3gan:quick', 'vqvae:quick', 'latent_diffusion:quick'])
def test_a_stored_config_that_lacks_fields_at_their_defaults_is_the_same_typed_config(preset):
    """A `config.json` from before these fields existed."""
    config = resolve(load(preset))
    older = json.loads(json.dumps(config.to_json()))
    del older['train']['patience'], older['train']['shard_state'], older['data']['balance'], older['sample']['also']
    del older['eval']
    if preset.startswith('vqvae'):
        del older['method']['reconstruction']['laplacian'], older['model']['prior']['dropout']
    if preset.startswith('latent'):
        del older['model']['vae']['remat'], older['method']['vae']['free_bits'], older['optim']['unet']['end_b2']
    if preset.startswith('r3gan'):
        del older['method']['augment']['adjust_kimg'], older['seed']
    assert resolve(older) == config


@pytest.mark.parametrize(
    'path, message',
    [
        ('train.durration', r"train\.durration: no such field; did you mean 'duration'\? \(known: "),
        ('method.los', r"method\.los: no such field; did you mean 'loss'\?"),
        ('method.augment.transform', r"method\.augment\.transform: no such field; did you mean 'transforms'\?"),
        ('model.widht', r"model\.widht: no such field; did you mean 'width'\?"),
        ('optim.generator.learning_rat', r"optim\.generator\.learning_rat: .*did you mean 'learning_rate'\?"),
        ('optim.genrator.b1', r"optim\.genrator: .*did you mean 'generator'\?"),
        ('trian.duration', r"trian: .*did you mean 'train'\?"),
    ],
)
def test_an_unknown_field_of_a_config_file_is_refused_with_the_nearest_name(path, message):
    config = load('dcgan:quick')
    *sections, name = path.split('.')
    section = config
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = 1
    with pytest.raises(UserError, match=f'^{message}'):
        resolve(config)


@pytest.mark.parametrize('section', ['data', 'train', 'sample', 'eval'])
def test_a_value_in_the_place_of_a_section_is_refused(section):
    with pytest.raises(UserError, match=f'^{section}: expected a section, got 3$'):
        resolve({**load('dcgan:quick'), section: 3})


def test_the_config_of_a_run_is_what_its_file_states(tmp_path):
    stated = {'method': {'name': 'vae'}, 'train': {'batch_size': 16}}
    (tmp_path / 'config.json').write_text(json.dumps(stated))
    assert load(f'from_workdir:{tmp_path}') == stated
    assert resolve(load(f'from_workdir:{tmp_path}')).train.batch_size == 16


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(UserError, match=rf'^--workdir={tmp_path}: there is no run in it \(no config\.json\)$'):
        load(f'from_workdir:{tmp_path}')
    (tmp_path / 'config.json').write_text('{"method": ')
    with pytest.raises(UserError, match=rf'^{tmp_path}/config\.json: not readable as JSON \('):
        load(f'from_workdir:{tmp_path}')
    with pytest.raises(UserError, match=r'name the run: configs/from_workdir\.py:RUNS/DIR'):
        load('from_workdir')
