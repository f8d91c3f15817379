"""What all tests share."""

import os

# Tests compile a lot and compute little: unoptimised code is ready two to five times sooner. Read at XLA's start.
os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_backend_optimization_level=0'

import types  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture
def x64():
    """Arrays default to float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def float64(monkeypatch, x64):
    """float64 also where the networks and penalties say float32, so that finite differences tell something."""
    from productgen.losses import penalties
    from productgen.nets import layers, stylegan2

    wide = types.SimpleNamespace(**{**vars(jnp), 'float32': jnp.float64})
    for module in (layers, penalties, stylegan2):
        monkeypatch.setattr(module, 'jnp', wide)
