"""An order of pictures in which the values of a label are as frequent as wanted."""

from __future__ import annotations

import functools
import sys
import threading

import numpy as np


class BalancedOrder:
    """An endless sequence of items; what stands at a place depends on the seed and the place alone.

    It comes in epochs of N places, N the number of items. In each a class of n items has the same number of places, in
    proportion to n^(1 - balance) and at least one; which places is drawn anew for every epoch. A class goes through all
    of its items before it takes one again, each time in another order, so none is skipped. Items without a value
    (code -1) keep the share they have in the data.

    Args:
      items: int [N].
      codes: int [N], the class of each.
      balance: 0, as frequent as in the data, to 1, all classes alike.
      seed: of the order.
    """

    def __init__(self, items: np.ndarray, codes: np.ndarray, balance: float, seed: int):
        self._items, self._seed = np.asarray(items), seed
        values, sizes = np.unique(codes, return_counts=True)
        self._members = [np.flatnonzero(codes == value) for value in values]
        known = values >= 0
        share = np.where(known, sizes.astype(float) ** (1 - balance), 0.0)
        share *= sizes[known].sum() / max(share.sum(), 1e-300)
        self._places = _rounded(np.where(known, share, sizes))
        # The newest epochs: batches are read ahead by threads, around the end of one epoch too.
        self._lock = threading.Lock()
        self._epoch = functools.lru_cache(maxsize=4)(self._make_epoch)

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, place: int) -> int:
        epoch, place = divmod(place, len(self._items))
        with self._lock:  # so that an epoch is made by one of the reading threads
            order = self._epoch(epoch)
        return int(order[place])

    def _draw(self, *key: int) -> np.random.RandomState:
        """RandomState's numbers are frozen for good, unlike those of the newer generators."""
        return np.random.RandomState([self._seed, *key])

    def _make_epoch(self, epoch: int) -> np.ndarray:
        """The items of one epoch, [N]."""
        chosen = np.empty(len(self._items), int)
        place = np.split(self._draw(len(self._members), epoch).permutation(len(chosen)), np.cumsum(self._places)[:-1])
        for c, (members, places) in enumerate(zip(self._members, map(np.sort, place), strict=True)):
            # Draws of this class are counted from the first epoch on; pass p over its items is one permutation.
            first = epoch * len(places)
            passes, rank = np.divmod(np.arange(first, first + len(places)), len(members))
            if len(members) == 1:
                chosen[places] = members
                continue
            ends = np.flatnonzero(np.diff(passes, append=-1)) + 1  # of the runs of one pass
            for begin, end in zip([0, *ends[:-1]], ends, strict=True):
                order = self._draw(c, passes[begin]).permutation(len(members))
                chosen[places[begin:end]] = members[order[rank[begin:end]]]
        return self._items[chosen]


def _rounded(shares: np.ndarray) -> np.ndarray:
    """Whole numbers with the sum of the shares, each next to its share (largest remainders)."""
    whole = np.floor(shares + 1e-9).astype(int)
    missing = round(shares.sum()) - whole.sum()
    whole[np.argsort(whole - shares, kind='stable')[:missing]] += 1
    return whole
