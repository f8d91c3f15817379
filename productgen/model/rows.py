"""Results row by row from a state, a fixed number of rows at a time: images, features, figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from productgen.core.pixels import to_uint8
from productgen.core.rng import stream
from productgen.core.sharding import jit_sample, put_batch
from productgen.core.state import PyTree, State
from productgen.core.waiting import compiling
from productgen.methods.base import Batch, Knob, Knobs
from productgen.model.prepared import Prepared

_KNOB = 'knob '  # before the name of a knob among the arrays of a batch


class RowByRow:
    """Computes something of every row of a batch of any size.

    A result depends only on its own row and the weights, not on its neighbours in the batch, on how the batch is
    divided over devices, or on the number of rows: batches are always filled up to one size, so that one
    compiled program serves all of them. Another batch size, other hardware or another number of devices is another
    program, whose rounding may differ (of an image, by a grey level).

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
        self._compiled = False

    def batches(self, state: PyTree, **rows: np.ndarray) -> Iterator[PyTree]:
        """Results [n, ...] of rows [N, ...], a batch at a time."""
        arrays = {name: _narrow(np.asarray(x)) for name, x in rows.items()}
        count = min(len(x) for x in arrays.values())
        local = self._size // jax.process_count()
        mine = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
        for start in range(0, count, self._size):
            take = np.minimum(np.arange(start, start + self._size), count - 1)
            batch = put_batch(self._mesh, {name: x[take][mine] for name, x in arrays.items()})
            if self._compiled:
                results = self._compute(state, batch, self._key)
            else:
                with compiling(f'for {self._size} pictures at a time'):
                    results = self._compute(state, batch, self._key)
                self._compiled = True
            yield jax.tree.map(lambda x, left=count - start: np.asarray(x)[:left], results)


class ImageMaker:
    """Makes images of any number of rows, with knobs that may differ from one call to the next.

    Static knobs, and all that are at their default, are part of the program, which is compiled once for each of their
    values; the others are arguments of it.

    Args:
      model: what the state belongs to.
      batch_size: images at a time.
      make: `(state, batch, key, knobs) -> images` [B, H, W, C] in [-1, 1], such as `method.generate`.
      knobs: what `make` understands.
    """

    def __init__(
        self,
        model: Prepared,
        batch_size: int,
        make: Callable[[State, Batch, jax.Array, Knobs], jax.Array],
        knobs: tuple[Knob, ...] = (),
    ):
        self._model, self._size, self._make, self._knobs = model, batch_size, make, knobs
        self._programs: dict[tuple, RowByRow] = {}

    def __call__(self, state: State, knobs: Mapping[str, Any] | None = None, **rows: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, C] of arrays [N, ...]; see `iterate`."""
        return np.stack(list(self.iterate(state, knobs, **rows)))

    def iterate(self, state: State, knobs: Mapping[str, Any] | None = None, **rows: np.ndarray) -> Iterator[np.ndarray]:
        """uint8 [H, W, C] one by one; only one batch is in memory.

        Args:
          state: the weights.
          knobs: values by name, a number or an array [N]; those that `make` does not understand are ignored.
          rows: arrays [N, ...] that `make` finds in its batch.
        """
        count = min(len(x) for x in rows.values())
        constants, arrays = self._divided(knobs or {}, count)
        names = tuple(arrays)
        key = (*constants.items(), names)
        if key not in self._programs:

            def compute(state: State, batch: Batch, rng: jax.Array) -> jax.Array:
                given = constants | {name: batch[_KNOB + name] for name in names}
                return to_uint8(self._make(state, batch, rng, given))

            self._programs[key] = RowByRow(self._model.mesh, self._size, compute, self._model.config.seed)
        rows |= {_KNOB + name: x for name, x in arrays.items()}
        for images in self._programs[key].batches(state, **rows):
            yield from images

    def _divided(self, knobs: Mapping[str, Any], count: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The knobs that are part of the program, and the others as arrays [N]."""
        constants, arrays = {}, {}
        for knob in self._knobs:
            value = knobs.get(knob.name, knob.default)
            if knob.static or (np.ndim(value) == 0 and value == knob.default):
                constants[knob.name] = value
            else:
                arrays[knob.name] = np.broadcast_to(np.asarray(value, np.float32), (count,))
        return constants, arrays


def joined(parts: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The results of `RowByRow.batches` that are arrays by name, as one array [N, ...] a name."""
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def without_knobs(make: Callable[[State, Batch, jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """`make` for `ImageMaker`, where it has no knobs."""
    return lambda state, batch, key, knobs: make(state, batch, key)


def _narrow(x: np.ndarray) -> np.ndarray:
    """uint8 arrays as they are, other integers as int32, the rest as float32."""
    if x.dtype == np.uint8:
        return x
    return x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32)
