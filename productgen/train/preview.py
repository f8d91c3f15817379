"""The pictures a run shows of itself: fixed samples beside real pictures of the same labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from productgen.data.pictures import grid
from productgen.data.pipeline import Batches
from productgen.train.run import Run


@dataclasses.dataclass(frozen=True)
class Preview:
    """The fixed samples a run shows, beside real pictures of the same labels.

    Attributes:
      real: uint8 [N, H, W, 3].
      label: int32 [N, A].
      rows: a name for each row, empty where unconditional.
      columns: pictures a row.
    """

    real: np.ndarray
    label: np.ndarray
    rows: tuple[str, ...]
    columns: int

    @classmethod
    def of(cls, run: Run, batches: Batches, items: np.ndarray) -> Preview:
        """Takes the first of the items of each value of the first label; of any, where there are no labels."""
        columns, rows = run.train.grid_columns, run.train.grid_rows
        codes = np.asarray(run.source.codes[run.labels[0]])[items] if run.labels else np.zeros(0, int)
        values = [int(v) for v in np.unique(codes) if v >= 0][:rows]
        if not values:
            chosen, names = np.resize(items, columns * rows), ()
        else:
            # One picture of a product, then of the next: views of one would look like little variety.
            chosen = np.concatenate([np.resize(_spread(run, items[codes == v]), columns) for v in values])
            names = tuple(run.source.attributes[run.labels[0]][v] for v in values)
        loaded = batches.load(chosen)
        return cls(loaded['image'], loaded['label'], names, columns)

    def sheet(self, images: np.ndarray) -> np.ndarray:
        return grid(images, self.columns, self.rows)


def _spread(run: Run, items: np.ndarray) -> np.ndarray:
    """The items, the first of each product before the second of any."""
    seen: dict[str, int] = {}
    turn = []
    for i in items:
        key = run.source.keys[i]
        turn.append(seen.get(key, 0))
        seen[key] = turn[-1] + 1
    return items[np.argsort(turn, kind='stable')]
