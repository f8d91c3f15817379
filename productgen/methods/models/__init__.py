"""`model` sections; those of adversarial methods by `model.name`."""

from __future__ import annotations

from productgen.methods.models.dcgan import DCGANModel
from productgen.methods.models.mlp import MLPModel
from productgen.methods.models.pair import Pair, PairModel
from productgen.methods.models.projected import ProjectedFastGANModel, ProjectedStyleGAN2Model
from productgen.methods.models.r3gan import R3GANModel
from productgen.methods.models.sngan import SNGANModel
from productgen.methods.models.stylegan2 import StyleGAN2Model

PAIRS: dict[str, type[PairModel]] = {
    'dcgan': DCGANModel,
    'mlp': MLPModel,
    'projected_fastgan': ProjectedFastGANModel,
    'projected_stylegan2': ProjectedStyleGAN2Model,
    'r3gan': R3GANModel,
    'sngan': SNGANModel,
    'stylegan2': StyleGAN2Model,
}

__all__ = ['PAIRS', 'Pair', 'PairModel']
