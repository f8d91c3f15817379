"""Double precision for comparisons with finite differences."""

import contextlib
import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from productgen.losses import penalties
from productgen.nets import layers, stylegan2


@contextlib.contextmanager
def float64():
    """Within it arrays default to float64, also where the networks and penalties say float32."""
    wide = types.SimpleNamespace(**{**vars(jnp), 'float32': jnp.float64})
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        for module in (layers, penalties, stylegan2):
            stack.enter_context(mock.patch.object(module, 'jnp', wide))
        yield


def widen(tree):
    """The floating point arrays of a tree in float64; within `float64` only."""
    wide = lambda x: jnp.asarray(x, jnp.float64) if np.issubdtype(x.dtype, np.floating) else x
    return jax.tree.map(wide, tree)
