"""Training methods by name."""

from __future__ import annotations

from collections.abc import Callable

from productgen.methods import stylegan2
from productgen.methods.base import Evaluable, Method, Problem, Reconstructing, StyleMethod

METHODS: dict[str, Callable[..., Method]] = {
    'stylegan2': stylegan2.make,
}

__all__ = ['METHODS', 'Evaluable', 'Method', 'Problem', 'Reconstructing', 'StyleMethod']
