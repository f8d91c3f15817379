"""The multilayer perceptrons of the first GANs: their `model` section."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least, fraction
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
      dropout: fraction of the activations of the discriminator's hidden layers dropped in training.
      input_dropout: fraction of its input dropped in training.
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
        fraction(self, 'dropout', 'input_dropout')

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        if plain_head and problem.labels:
            raise UserError(
                'model.name',
                "the label enters the discriminator of 'mlp' at the input, so that no logit could ignore it",
                'leave method.transition_kimg empty, or choose another pair of networks',
            )
        return Pair(
            z_dim=self.z_dim,
            generator=nets.Generator(problem.resolution, self.generator_width, self.layers, self.embed),
            discriminator=nets.Discriminator(
                self.discriminator_width, self.layers, self.embed, self.maxout, self.dropout, self.input_dropout
            ),
        )
