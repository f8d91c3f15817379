"""Endless shuffled batches whose content depends only on the seed and the step.

The batch of any step can be made without those before it, so a checkpoint need not store a position in the data: the
step is the position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import grain
import numpy as np

from productgen.data.balance import BalancedOrder
from productgen.data.source import Source, read_item


class Batches:
    """Batches of some items of a source, in another order every epoch.

    Args:
      source: the data set.
      indices: items to use, int [N].
      labels: attributes that make the columns of `label`.
      batch_size: items in a batch, over all processes.
      seed: of the order.
      process: index of this process and number of processes; each loads its own contiguous rows of every batch.
      threads: batches that are made at a time.
      balance: how evenly the values of the first of `labels` are drawn, 0 to 1; see `BalancedOrder`.
      inputs: what a batch holds, as a method's `inputs()` names it: `label` and columns of the source. Other columns
        are not decoded.
    """

    def __init__(
        self,
        source: Source,
        indices: np.ndarray,
        labels: Sequence[str],
        batch_size: int,
        seed: int,
        process: tuple[int, int] = (0, 1),
        threads: int = 2,
        balance: float = 0.0,
        inputs: Iterable[str] = ('image', 'label'),
    ):
        self._source, self._threads, self._inputs = source, threads, tuple(inputs)
        self._codes = np.stack([source.codes[n] for n in labels], 1) if labels else np.zeros((len(source), 0), np.int32)
        count = batch_size // process[1]
        rows = slice(process[0] * count, (process[0] + 1) * count)
        self._seed, self._size = seed, batch_size
        if balance:
            order = grain.MapDataset.source(BalancedOrder(indices, self._codes[indices, 0], balance, seed))
        else:
            order = grain.MapDataset.source(indices).seed(seed).shuffle().repeat()
        self._batches = order.batch(batch_size).map_with_index(
            lambda step, batch: self.load(batch[rows], draws=self._draws(step)[rows])
        )

    def _draws(self, step: int) -> np.ndarray:
        """Random numbers for the rows of the batch of a step, uint32 [B]."""
        return np.random.default_rng((self._seed, step)).integers(2**32, size=self._size, dtype=np.uint32)

    def load(
        self, items: np.ndarray, names: Iterable[str] | None = None, draws: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """Loads the given items of the source.

        Args:
          items: int [B].
          names: what to load of them; by default what a batch holds.
          draws: numbers that decide the items' random parts, uint32 [B], see `Source`; fixed parts without.

        Returns:
          by name `label` int32 [B, A] and columns of the source, uint8 [B, H, W, C].

        Raises:
          DataError: a picture can no longer be read.
        """
        names = self._inputs if names is None else tuple(names)
        columns = [name for name in names if name != 'label']
        draws = [None] * len(items) if draws is None else draws
        pairs = zip(items, draws, strict=True) if columns else ()
        rows = [self._read(int(i), columns, None if draw is None else int(draw)) for i, draw in pairs]
        batch = {name: np.stack([row[i] for row in rows]) for i, name in enumerate(columns)}
        return batch | {'label': self.label(items)} if 'label' in names else batch

    def _read(self, index: int, columns: Sequence[str], draw: int | None) -> list[np.ndarray]:
        """Columns of one item; all from one look-up, since a source may get them from one rendering."""
        item = read_item(self._source, index, draw)
        return [item[name] for name in columns]

    def label(self, items: np.ndarray) -> np.ndarray:
        """`label` int32 [B, A] of the given items."""
        return self._codes[items].astype(np.int32)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step."""
        return self._batches[step]

    def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """The batches from step `start` on, loaded ahead by threads."""
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=2 * self._threads + 2)
        return iter(self._batches[start:].to_iter_dataset(options))
