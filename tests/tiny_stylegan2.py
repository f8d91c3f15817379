"""The StyleGAN2 method, tiny and with everything on: labels, mixing, ADA, both lazy regularisers."""

import copy

import jax
import numpy as np

from productgen.config import build
from productgen.core.optim import OptimConfig
from productgen.methods import Problem
from productgen.methods.base import Sections
from productgen.methods.models import PAIRS
from productgen.methods.stylegan2 import FAMILY

RESOLUTION, LABELS, BATCH = (8, 6), (3, 2), 8
KEY = jax.random.key(0)
# An epsilon this large makes Adam's step continuous in the gradient, so that steps can be compared.
ADAM = {'name': 'adam', 'learning_rate': 0.1, 'b1': 0.0, 'b2': 0.99, 'eps': 0.1}
CONFIG = {
    'method': {
        'name': 'stylegan2',
        'loss': 'non_saturating',
        'penalty': 'r1',
        'penalty_weight': 1.5,
        'penalty_interval': 3,
        'critic_steps': 1,
        'clip_weights': 0.0,
        'classification': 1.0,
        'transition_kimg': '',
        'anneal': 1.0,
        **{'path_weight': 2.0, 'path_interval': 2, 'path_shrink': 2, 'path_decay': 0.9},
        **{'mixing': 0.9, 'w_decay': 0.8},
        'ema_kimg': 0.05,
        'ema_rampup': 0.0,
        'augment': {'name': 'ada', 'transforms': 'xflip,contrast', 'p': 0.3, 'target': 0.6, 'adjust_kimg': 0.2},
    },
    'model': {
        'name': 'stylegan2',
        'z_dim': 8,
        'w_dim': 8,
        'mapping_layers': 2,
        'mapping_lr': 0.1,
        'label_layers': 1,
        'channel_base': 64,
        'channel_max': 8,
        'stddev_group': 4,
        'bf16_levels': 0,
    },
    'optim': {'generator': ADAM, 'discriminator': ADAM},
}


def tiny(labels=LABELS, accumulate=1, batch_size=BATCH, resolution=RESOLUTION, float32=False, model=None, **changes):
    """The method, with fields such as method__mixing changed, or another `model` section."""
    config = copy.deepcopy(CONFIG) | ({'model': model} if model else {})
    for field, value in changes.items():
        section, name = field.split('__')
        config[section][name] = value
    sections = Sections(
        method=build(FAMILY.method, config['method'], 'method'),
        model=build(PAIRS[config['model']['name']], config['model'], 'model'),
        optim={name: build(OptimConfig, section, f'optim.{name}') for name, section in config['optim'].items()},
    )
    return FAMILY.make(sections, Problem(resolution, labels, batch_size, accumulate, 100, float32=float32))


def batch_of(seed=0, labels=LABELS):
    rng = np.random.default_rng(seed)
    label = np.stack([rng.integers(-1, n, BATCH) for n in labels], 1) if labels else np.zeros((BATCH, 0))
    return {'image': rng.integers(0, 256, (BATCH, *RESOLUTION, 3), np.uint8), 'label': label.astype(np.int32)}
