"""What features find: the training pictures that are nearest to held-out ones."""

from __future__ import annotations

import numpy as np

from productgen.data.pipeline import Batches
from productgen.metrics.neighbours import nearest
from productgen.pictures import grid
from productgen.preview import Preview
from productgen.sampler import RowByRow
from productgen.setup import Run
from productgen.state import State

BANK = 2000  # training pictures at most that are searched


class Retrieval:
    """Searches training pictures by the cosine of their features.

    Args:
      run: what is trained, by a method that has `represent`.
      batches: what loads pictures.
    """

    def __init__(self, run: Run, batches: Batches):
        count = min(BANK, len(run.items))
        bank = batches.load(run.items[np.arange(count) * len(run.items) // count])  # from all over the data set
        self._image, self._label = bank['image'], bank['label']
        self._represent = RowByRow(run, run.train.batch_size, run.method.represent)
        # One held-out picture a row, of each value of the first label where there are labels.
        preview = Preview.of(run, batches, run.held_out if len(run.held_out) else run.items)
        self._columns, self._rows = preview.columns, preview.rows
        self._asked = preview.real[:: preview.columns] if preview.rows else preview.real[: run.train.grid_rows]

    def _features(self, state: State, image: np.ndarray) -> np.ndarray:
        """Of pictures [N, H, W, 3], at unit length, [N, D]."""
        features = np.concatenate(list(self._represent.batches(state, image=image)))
        return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)

    def find(self, state: State, image: np.ndarray, count: int) -> np.ndarray:
        """Places in the bank of the `count` pictures that are nearest to each, nearest first, [N, count]."""
        return nearest(self._features(state, image), self._features(state, self._image), count).index

    def error(self, state: State, image: np.ndarray, label: np.ndarray) -> float:
        """Share of pictures whose nearest has another value of the first label; unknown ones are left out."""
        known = label[:, 0] >= 0
        found = self._label[self.find(state, image, 1)[:, 0], 0]
        return float(np.mean(found[known] != label[known, 0])) if known.any() else 0.0

    def sheet(self, state: State) -> np.ndarray:
        """Held-out pictures in the first column, beside them what is nearest, uint8 [H, W, 3]."""
        found = self._image[self.find(state, self._asked, self._columns - 1)]  # [N, K, H, W, 3]
        rows = np.concatenate([self._asked[:, None], found], 1)
        return grid(rows.reshape(-1, *rows.shape[2:]), self._columns, self._rows)
