"""Pairs of generator and discriminator by name, the `model.name` of adversarial methods."""

from __future__ import annotations

from collections.abc import Callable

from productgen.methods.models import dcgan, mlp, r3gan, sngan, stylegan2
from productgen.methods.models.pair import Pair

# Each builds a pair from the `model` section, the problem, and whether the discriminator has a head of its own that
# ignores labels; it raises UserError where a value cannot be used.
PAIRS: dict[str, Callable[..., Pair]] = {
    'dcgan': dcgan.make,
    'mlp': mlp.make,
    'r3gan': r3gan.make,
    'sngan': sngan.make,
    'stylegan2': stylegan2.make,
}

__all__ = ['PAIRS', 'Pair']
