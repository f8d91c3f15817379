"""Retrieval by a method's features: the training pictures that are nearest to held-out ones."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

from productgen.core.state import State
from productgen.data import spread
from productgen.data.pictures import grid
from productgen.data.pipeline import Batches
from productgen.metrics.arrays import unit_length
from productgen.metrics.neighbours import nearest
from productgen.model.rows import RowByRow
from productgen.train.preview import Preview
from productgen.train.run import Run

BANK = 2000  # training pictures at most that are searched


class Retrieval:
    """Searches training pictures by the cosine of their features.

    Pictures are loaded when they are first needed; features of the training pictures are kept for one step.

    Args:
      run: what is trained, by a method that has `represent`.
      batches: what loads pictures.
    """

    def __init__(self, run: Run, batches: Batches):
        self._items = spread(run.items, BANK)
        self._run, self._batches = run, batches
        self._label = batches.label(self._items)
        self._represent = RowByRow(run.mesh, run.config.train.batch_size, run.method.represent, run.config.seed)
        self._bank: tuple[int, np.ndarray] | None = None  # a step, and the features of the bank then

    @functools.cached_property
    def _image(self) -> np.ndarray:
        """The pictures of the bank, uint8 [M, H, W, 3]."""
        return self._batches.load(self._items)['image']

    @functools.cached_property
    def _queries(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """One held-out picture a row, of each value of the first label where there are labels, and the rows' names."""
        run = self._run
        preview = Preview.of(run, self._batches, run.held_out if len(run.held_out) else run.items)
        image = preview.rows['image']
        return image[:: preview.columns] if preview.names else image[: run.config.train.grid_rows], preview.names

    def _features(self, state: State, image: np.ndarray) -> np.ndarray:
        """Of pictures [N, H, W, 3], at unit length, [N, D]."""
        features = np.concatenate(list(self._represent.batches(state, image=image)))
        return unit_length(features)

    def _bank_features(self, state: State) -> np.ndarray:
        """Of the bank, [M, D]."""
        step = int(state.step)
        if self._bank is None or self._bank[0] != step:
            self._bank = step, self._features(state, self._image)
        return self._bank[1]

    def measures(self, label: np.ndarray) -> bool:
        """Whether `error` is defined for pictures of the labels [N, A]: the first label is known for some of them, and
        in the bank."""
        return bool(label.shape[1] and (label[:, 0] >= 0).any() and (self._label[:, 0] >= 0).any())

    def error(self, state: State, pictures: Iterable[dict[str, np.ndarray]]) -> float:
        """Fraction of pictures whose nearest has another value of the first label; unknown ones are left out of both.

        Args:
          state: whose features.
          pictures: `image` [B, H, W, 3] and `label` [B, A] of some at a time, such as `measures` allows.
        """
        features, label = [], []
        for part in pictures:
            known = part['label'][:, 0] >= 0
            if known.any():
                features.append(self._features(state, part['image'][known]))
                label.append(part['label'][known, 0])
        known = self._label[:, 0] >= 0
        found = nearest(np.concatenate(features), self._bank_features(state)[known]).index[:, 0]
        return float(np.mean(self._label[known, 0][found] != np.concatenate(label)))

    def sheet(self, state: State) -> np.ndarray:
        """Held-out pictures in the first column, each with its nearest training pictures in its row, uint8 [H, W, 3].

        At least one neighbour is shown, and no more than there are training pictures.
        """
        count = max(1, min(self._run.config.train.grid_columns - 1, len(self._items)))
        queries, names = self._queries
        found = nearest(self._features(state, queries), self._bank_features(state), count).index
        rows = np.concatenate([queries[:, None], self._image[found]], 1)  # [N, 1 + count, H, W, 3]
        return grid(rows.reshape(-1, *rows.shape[2:]), 1 + count, names)
