"""The networks of DCGAN: their `model` section."""

from __future__ import annotations

import dataclasses

from productgen.config import UserError
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least, doubling, fraction, one_of
from productgen.nets import dcgan as nets


@dataclasses.dataclass(frozen=True)
class DCGANModel:
    """The `model` section.

    Attributes:
      name: `dcgan`.
      z_dim: width of the latent z (100 in the paper).
      width: channels next to the image (128), doubled at each coarser level ...
      max_width: ... but at most this (1024).
      generator_condition: `concat`, the label's embedding is concatenated to z, or `batch_norm`, conditional gains and
        biases.
      discriminator_condition: `concat`, the embedding is concatenated to the image as constant channels; `projection`,
        its inner product with the last features; or `classes`, additional logits that predict the label (AC-GAN).
      embed: width of the embedding of `concat`.
      norm: normalisation in the discriminator: `batch` (as in the paper), `layer` or `none`.
      spectral_norm: spectral normalisation of the discriminator.
      dropout: fraction of the activations of the discriminator's hidden layers dropped in training.
    """

    name: str = 'dcgan'
    z_dim: int = 64
    width: int = 32
    max_width: int = 256
    generator_condition: str = 'concat'
    discriminator_condition: str = 'projection'
    embed: int = 32
    norm: str = 'batch'
    spectral_norm: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        at_least(self, 1, 'z_dim', 'width', 'embed')
        at_least(self, self.width, 'max_width')
        one_of(self, 'generator_condition', 'concat', 'batch_norm')
        one_of(self, 'discriminator_condition', 'concat', 'projection', 'classes')
        one_of(self, 'norm', 'batch', 'layer', 'none')
        fraction(self, 'dropout')

    def pair(self, problem: Problem, plain_head: bool = False) -> Pair:
        """The networks, see `PairModel`."""
        if plain_head and problem.labels and self.discriminator_condition == 'concat':
            raise UserError(
                'model.discriminator_condition',
                "with 'concat' the label enters at the input, so that no logit could ignore it",
                "choose 'projection' or 'classes', or leave method.transition_kimg empty",
            )
        base, depth = levels(problem.resolution)
        widths = doubling(self.width, self.max_width, depth)
        return Pair(
            z_dim=self.z_dim,
            generator=nets.Generator(base, widths[::-1], self.generator_condition, self.embed),
            discriminator=nets.Discriminator(
                widths=widths,
                condition=self.discriminator_condition,
                sizes=problem.labels,
                embed=self.embed,
                norm=self.norm,
                spectral=self.spectral_norm,
                dropout=self.dropout,
                plain_head=plain_head,
            ),
            couples_images=self.norm == 'batch' and depth > 1,  # the first level has no norm
        )
