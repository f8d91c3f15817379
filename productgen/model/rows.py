"""Results row by row from a state, a fixed number of rows at a time: pictures, reconstructions, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from productgen.core.pixels import to_uint8
from productgen.core.rng import stream
from productgen.core.sharding import jit_sample, put_batch
from productgen.core.state import PyTree, State
from productgen.methods.base import Batch
from productgen.model.prepared import Model


class RowByRow:
    """Computes something of every row of a batch of any size.

    A result depends on its own row and the weights alone, not on its neighbours in the batch, on how the batch is
    divided over devices, or on how many rows are asked for: batches are always filled up to one size, so that one
    compiled program serves all of them. Another batch size, other hardware or another number of devices is another
    program, whose rounding may differ (of a picture, by a grey level).

    Args:
      mesh: the devices that batches are divided over.
      batch_size: rows at a time; rounded up to a multiple of the devices.
      compute: `(state, batch, key) -> arrays` [B, ...].
      seed: of `key`.
    """

    def __init__(
        self, mesh: Mesh, batch_size: int, compute: Callable[[PyTree, Batch, jax.Array], PyTree], seed: int = 0
    ):
        self._size = -(-batch_size // mesh.size) * mesh.size
        self._mesh = mesh
        self._key = stream(jax.random.key(seed), 'sample')
        self._compute = jit_sample(compute, mesh)

    def batches(self, state: PyTree, **rows: np.ndarray) -> Iterator[PyTree]:
        """Results [n, ...] of rows [N, ...], a batch at a time."""
        arrays = {name: _narrow(np.asarray(x)) for name, x in rows.items()}
        count = min(len(x) for x in arrays.values())
        share = self._size // jax.process_count()
        mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)
        for start in range(0, count, self._size):
            take = np.minimum(np.arange(start, start + self._size), count - 1)
            batch = put_batch(self._mesh, {name: x[take][mine] for name, x in arrays.items()})
            results = self._compute(state, batch, self._key)
            yield jax.tree.map(lambda x, left=count - start: np.asarray(x)[:left], results)


class Sampler(RowByRow):
    """Makes pictures from the averaged weights.

    Args:
      model: what it was trained as.
      batch_size: pictures at a time.
      make: `(state, batch, key) -> images` [B, H, W, 3] in [-1, 1]; by default the method's `sample`.
    """

    def __init__(
        self, model: Model, batch_size: int, make: Callable[[State, Batch, jax.Array], jax.Array] | None = None
    ):
        make = make or (lambda state, batch, key: model.method.sample(state, batch, key)['image'])
        compute = lambda state, batch, key: to_uint8(make(state, batch, key))
        super().__init__(model.mesh, batch_size, compute, model.seed)

    def __call__(self, state: State, seed: np.ndarray, label: np.ndarray, **rows: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3] of seeds [N], labels [N, A] and further per-picture arrays [N, ...]."""
        return np.concatenate(list(self.batches(state, seed=seed, label=label, **rows)))

    def iterate(self, state: State, **rows: np.ndarray) -> Iterator[np.ndarray]:
        """The same, uint8 [H, W, 3] one by one; only one batch is in memory."""
        for images in self.batches(state, **rows):
            yield from images


def _narrow(x: np.ndarray) -> np.ndarray:
    """Pictures as they are, other integers as int32, the rest as float32."""
    if x.dtype == np.uint8:
        return x
    return x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32)
