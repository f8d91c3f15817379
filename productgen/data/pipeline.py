"""Endless shuffled batches whose content depends on the seed and the step alone.

Because batch `step` can be had without the ones before it, the position in the data needs no checkpoint of its own: it
is the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grain
import numpy as np

from productgen.data.balance import BalancedOrder
from productgen.data.source import Source


class Batches:
    """Batches of a part of a source, every epoch in another order.

    Args:
      source: where pictures come from.
      indices: items to use.
      labels: attributes that make the columns of `label`.
      batch_size: pictures a batch, over all processes.
      seed: of the order.
      process: this process and how many there are; each loads its own run of rows of every batch.
      threads: batches that are made at a time.
      balance: how evenly the values of the first of `labels` are drawn, 0 to 1; see `BalancedOrder`.
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
    ):
        self._source, self._threads = source, threads
        self._codes = np.stack([source.codes[n] for n in labels], 1) if labels else np.zeros((len(source), 0), np.int32)
        share = batch_size // process[1]
        rows = slice(process[0] * share, (process[0] + 1) * share)
        if balance:
            order = grain.MapDataset.source(BalancedOrder(indices, self._codes[indices, 0], balance, seed))
        else:
            order = grain.MapDataset.source(indices).seed(seed).shuffle().repeat()
        self._batches = order.batch(batch_size).map(lambda batch: self.load(batch[rows]))

    def load(self, items: np.ndarray) -> dict[str, np.ndarray]:
        """`image` uint8 [B, H, W, 3] and `label` int32 [B, A] of the given items of the source."""
        return {'image': np.stack([self._source[int(i)]['image'] for i in items]), 'label': self.label(items)}

    def label(self, items: np.ndarray) -> np.ndarray:
        """`label` int32 [B, A] of the given items."""
        return self._codes[items].astype(np.int32)

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of one step."""
        return self._batches[step]

    def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """The batches from step `start` on, read ahead by threads."""
        options = grain.ReadOptions(num_threads=self._threads, prefetch_buffer_size=2 * self._threads + 2)
        return iter(self._batches[start:].to_iter_dataset(options))
