"""The pictures a run shows: fixed samples, and real pictures of the same labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from productgen.data.pictures import grid
from productgen.data.pipeline import Batches
from productgen.train.run import Run


@dataclasses.dataclass(frozen=True)
class Preview:
    """Real pictures to compare with, and their labels.

    Attributes:
      rows: what the method's batches hold of each picture but its label, by name: uint8 [N, H, W, C].
      label: int32 [N, A].
      names: a name for each row of the sheet, empty where unconditional.
      columns: pictures a row.
    """

    rows: Mapping[str, np.ndarray]
    label: np.ndarray
    names: tuple[str, ...]
    columns: int

    @classmethod
    def of(cls, run: Run, batches: Batches, items: np.ndarray) -> Preview:
        """Takes the first of the items of each value of the first label; of any, where there are no labels."""
        columns, rows = run.config.train.grid_columns, run.config.train.grid_rows
        codes = np.asarray(run.source.codes[run.labels[0]])[items] if run.labels else np.zeros(0, int)
        values = [int(v) for v in np.unique(codes) if v >= 0][:rows]
        if not values:
            chosen, names = np.resize(items, columns * rows), ()
        else:
            # One picture of a product, then of the next: views of one would look like little variety.
            chosen = np.concatenate([np.resize(_one_of_each(run, items[codes == v]), columns) for v in values])
            names = tuple(run.source.attributes[run.labels[0]][v] for v in values)
        loaded = {name: x for name, x in batches.load(chosen).items() if name != 'label'}
        return cls(loaded, batches.label(chosen), names, columns)

    def __len__(self) -> int:
        return len(self.label)

    def sheet(self, images: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W, 3 or 1] as a grid with the names of its rows, uint8 [H', W', 3]."""
        return grid(np.broadcast_to(images, (*images.shape[:3], 3)), self.columns, self.names)


def _one_of_each(run: Run, items: np.ndarray) -> np.ndarray:
    """The items, the first of each product before the second of any."""
    seen: dict[str, int] = {}
    turn = []
    for i in items:
        key = run.source.keys[i]
        turn.append(seen.get(key, 0))
        seen[key] = turn[-1] + 1
    return items[np.argsort(turn, kind='stable')]
