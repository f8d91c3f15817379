"""Training methods by name."""

from __future__ import annotations

from productgen.methods import (
    classifier,
    cut,
    cyclegan,
    diffusion,
    gan,
    latent_diffusion,
    pix2pix,
    restoration,
    restoration_gan,
    simclr,
    stylegan2,
    vae,
    vaegan,
    vqvae,
)
from productgen.methods.base import (
    Classifies,
    Evaluable,
    Family,
    Generates,
    HasLatents,
    Method,
    Problem,
    Reconstructs,
    Represents,
    Restores,
    Translates,
)

METHODS: dict[str, Family] = {
    'classifier': classifier.FAMILY,
    'cut': cut.FAMILY,
    'cyclegan': cyclegan.FAMILY,
    'diffusion': diffusion.FAMILY,
    'gan': gan.FAMILY,
    'latent_diffusion': latent_diffusion.FAMILY,
    'pix2pix': pix2pix.FAMILY,
    'restoration': restoration.FAMILY,
    'restoration_gan': restoration_gan.FAMILY,
    'simclr': simclr.FAMILY,
    'stylegan2': stylegan2.FAMILY,
    'vqvae': vqvae.FAMILY,
    'vae': vae.FAMILY,
    'vaegan': vaegan.FAMILY,
}

__all__ = [
    'METHODS',
    'Classifies',
    'Restores',
    'Evaluable',
    'Family',
    'Generates',
    'HasLatents',
    'Method',
    'Problem',
    'Reconstructs',
    'Represents',
    'Translates',
]
