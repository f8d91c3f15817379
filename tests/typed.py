"""Typed sections of configs that are written as plain dicts."""

from productgen.config import build
from productgen.core.optim import OptimConfig
from productgen.methods.base import Sections


def sections_of(family, config):
    """What `family.make` is given, from nested dicts with the sections `method`, `model` and `optim`.

    Fields that they lack are at their defaults.
    """
    model = family.model if isinstance(family.model, type) else family.model[config['model']['name']]
    return Sections(
        method=build(family.method, config['method'], 'method'),
        model=build(model, config['model'], 'model'),
        optim={name: build(OptimConfig, config['optim'][name], f'optim.{name}') for name in family.networks},
    )
