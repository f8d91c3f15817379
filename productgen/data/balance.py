"""An order of items in which the values of a label occur as often as configured."""

from __future__ import annotations

import functools
import sys
import threading

import numpy as np


class BalancedOrder:
    """An endless sequence of items; the one at a position depends only on the seed and the position.

    It is made of epochs of N positions, N the number of items. In every epoch a class of n items has the same number of
    positions, in proportion to n^(1 - balance) and at least one; which ones they are is drawn anew for every epoch. A
    class goes through all of its items before it repeats one, each time in another order, so none is skipped. Items
    without a value (code -1) are as frequent as in the data.

    Args:
      items: int [N].
      codes: int [N], the class of each.
      balance: 0, as frequent as in the data, to 1, all classes equally frequent.
      seed: of the order.
    """

    def __init__(self, items: np.ndarray, codes: np.ndarray, balance: float, seed: int):
        self._items, self._seed = np.asarray(items), seed
        values, sizes = np.unique(codes, return_counts=True)
        self._members = [np.flatnonzero(codes == value) for value in values]
        known = values >= 0
        counts = np.where(known, sizes.astype(float) ** (1 - balance), 0.0)
        counts *= sizes[known].sum() / max(counts.sum(), 1e-300)
        self._counts = _rounded(np.where(known, counts, sizes))
        # The latest epochs: threads load batches ahead, also across the end of an epoch.
        self._lock = threading.Lock()
        self._epoch = functools.lru_cache(maxsize=4)(self._make_epoch)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, position: int) -> int:
        epoch, position = divmod(position, len(self._items))
        with self._lock:  # so that only one of the loading threads makes an epoch
            order = self._epoch(epoch)
        return int(order[position])

    def _draw(self, *key: int) -> np.random.RandomState:
        """The generator of a key: NumPy guarantees that RandomState's numbers never change, unlike newer ones'."""
        return np.random.RandomState([self._seed, *key])

    def _make_epoch(self, epoch: int) -> np.ndarray:
        """The items of one epoch, [N]."""
        chosen = np.empty(len(self._items), int)
        shuffled = self._draw(len(self._members), epoch).permutation(len(chosen))
        by_class = np.split(shuffled, np.cumsum(self._counts)[:-1])
        for c, (members, positions) in enumerate(zip(self._members, map(np.sort, by_class), strict=True)):
            # Draws of this class are numbered from the first epoch on; pass p over its items is one permutation.
            first = epoch * len(positions)
            passes, rank = np.divmod(np.arange(first, first + len(positions)), len(members))
            if len(members) == 1:
                chosen[positions] = members
                continue
            ends = np.flatnonzero(np.diff(passes, append=-1)) + 1  # where each pass ends within this epoch
            for begin, end in zip([0, *ends[:-1]], ends, strict=True):
                order = self._draw(c, passes[begin]).permutation(len(members))
                chosen[positions[begin:end]] = members[order[rank[begin:end]]]
        return self._items[chosen]


def _rounded(counts: np.ndarray) -> np.ndarray:
    """Integers with the same sum as the given counts, each next to its count (largest remainder method)."""
    rounded = np.floor(counts + 1e-9).astype(int)
    missing = round(counts.sum()) - rounded.sum()
    rounded[np.argsort(rounded - counts, kind='stable')[:missing]] += 1
    return rounded
