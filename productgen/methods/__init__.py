"""Training methods by name."""

from __future__ import annotations

from collections.abc import Callable

from productgen.methods import classifier, diffusion, gan, latent_diffusion, simclr, stylegan2, vae, vaegan, vqvae
from productgen.methods.base import Evaluable, Method, Problem, Reconstructing, Representing, Sampling, StyleMethod

METHODS: dict[str, Callable[..., Method]] = {
    'classifier': classifier.make,
    'diffusion': diffusion.make,
    'gan': gan.make,
    'latent_diffusion': latent_diffusion.make,
    'simclr': simclr.make,
    'stylegan2': stylegan2.make,
    'vqvae': vqvae.make,
    'vae': vae.make,
    'vaegan': vaegan.make,
}

__all__ = ['METHODS', 'Evaluable', 'Method', 'Problem', 'Reconstructing', 'Representing', 'Sampling', 'StyleMethod']
