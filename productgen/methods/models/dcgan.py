"""The networks of DCGAN from a config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from productgen.config import UserError, build
from productgen.core.sizes import levels
from productgen.methods.base import Problem
from productgen.methods.models.pair import Pair, at_least, doubling, one_of, share
from productgen.nets import dcgan as nets


@dataclasses.dataclass(frozen=True)
class DCGANModel:
    """The `model` section.

    Attributes:
      name: `dcgan`.
      z_dim: width of the latent z (100 in the paper).
      width: channels next to the image (128), twice as many at each coarser level ...
      max_width: ... but at most this (1024).
      generator_condition: `concat`, the label's embedding joined to z, or `batch_norm`, gains and biases by label.
      discriminator_condition: `concat`, the embedding joined to the image as constant channels; `projection`, its inner
        product with the last features; or `classes`, further logits that guess the label (AC-GAN).
      embed: width of the embedding of `concat`.
      norm: the discriminator's: `batch` (the paper's), `layer` or `none`.
      spectral_norm: spectral normalisation of the discriminator.
      dropout: share of the discriminator's hidden layers that is dropped in training.
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
        share(self, 'dropout')


def make(section: Mapping[str, Any], problem: Problem, plain_head: bool) -> Pair:
    """See `PAIRS`."""
    m = build(DCGANModel, section, 'model')
    if plain_head and problem.labels and m.discriminator_condition == 'concat':
        raise UserError(
            'model.discriminator_condition',
            "with 'concat' all layers see the label, so there is no logit that ignores it",
            "choose 'projection' or 'classes', or leave method.transition_kimg empty",
        )
    base, depth = levels(problem.resolution)
    widths = doubling(m.width, m.max_width, depth)
    return Pair(
        z_dim=m.z_dim,
        generator=nets.Generator(base, widths[::-1], m.generator_condition, m.embed),
        discriminator=nets.Discriminator(
            widths=widths,
            condition=m.discriminator_condition,
            sizes=problem.labels,
            embed=m.embed,
            norm=m.norm,
            spectral=m.spectral_norm,
            dropout=m.dropout,
            plain_head=plain_head,
        ),
        couples_images=m.norm == 'batch' and depth > 1,  # the first level has no norm
    )
