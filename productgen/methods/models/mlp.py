"""Multilayer perceptrons from a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from productgen.config import UserError, build
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least, share
from productgen.nets import mlp as nets


@dataclasses.dataclass(frozen=True)
class MLPModel:
    """The `model` section.

    Attributes:
      name: `mlp`.
      z_dim: width of the latent z.
      generator_width: units of a hidden layer of the generator.
      discriminator_width: units of a hidden layer of the discriminator.
      layers: hidden layers of each.
      embed: width of the label's embedding.
      maxout: linear pieces of each unit of the discriminator, 2 or more; 0 for leaky ReLUs.
      dropout: share of the discriminator's hidden layers that is dropped in training.
      input_dropout: the same for its input.
    """

    name: str = 'mlp'
    z_dim: int = 64
    generator_width: int = 512
    discriminator_width: int = 512
    layers: int = 2
    embed: int = 32
    maxout: int = 0
    dropout: float = 0.3
    input_dropout: float = 0.0

    def __post_init__(self):
        at_least(self, 1, 'z_dim', 'generator_width', 'discriminator_width', 'layers', 'embed')
        at_least(self, 0, 'maxout')
        if self.maxout == 1:
            raise UserError('model.maxout', 'one piece is the identity', 'take 2 or more, or 0 for leaky ReLUs')
        share(self, 'dropout', 'input_dropout')


def make(section: Mapping[str, Any], problem: Problem, plain_head: bool) -> Pair:
    """See `PAIRS`."""
    m = build(MLPModel, section, 'model')
    if plain_head and problem.labels:
        raise UserError(
            'model.name',
            "all layers of the discriminator of 'mlp' see the label, so it has no logit that ignores it",
            'leave method.transition_kimg empty, or choose another pair of networks',
        )
    return Pair(
        z_dim=m.z_dim,
        generator=nets.Generator(problem.resolution, m.generator_width, m.layers, m.embed),
        discriminator=nets.Discriminator(
            m.discriminator_width, m.layers, m.embed, m.maxout, m.dropout, m.input_dropout
        ),
    )
