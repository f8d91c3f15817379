"""Two data sets without pairs as one source: `data.target=folder:OTHER`.

The items are those of the first; the `target` of an item is a picture of the second, another one each time it is
trained on. Both are divided into training and held-out pictures by the same rule, and items of one side have targets of
the same side only.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from productgen.data.source import DataError, Item, Source, read_item
from productgen.data.split import in_validation
from productgen.data.wrappers import Wrapper


class Unpaired(Wrapper):
    """A source whose `target` comes from another source.

    Attributes:
      other: the source of the targets.
      column: their column of it.
      targets: indices of its training items and of its held-out ones.

    Args:
      source: has `input`, and all else.
      other: the second data set.
      column: of it.
      validation: fraction held out, see `in_validation`.

    Raises:
      DataError: nothing of the second data set is left on one of the two sides.
    """

    def __init__(self, source: Source, other: Source, column: str, validation: float):
        super().__init__(source)
        if column not in other.columns:
            raise DataError(
                'data.target', f'the second data set has no column {column!r}', f'it has {", ".join(other.columns)}'
            )
        self.other, self.column = other, column
        self._held_out = in_validation(source.keys, validation)
        held_out = in_validation(other.keys, validation)
        self.targets = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        for items, needed, what in zip(
            self.targets, (~self._held_out, self._held_out), ('train on', 'hold out'), strict=True
        ):
            if needed.any() and not len(items):
                raise DataError(
                    'data.validation',
                    f'{validation} leaves none of the {len(other)} pictures of data.target to {what}',
                    'choose another fraction, or 0 to hold out nothing',
                )
        self.columns = {**source.columns, 'target': other.columns[column]}
        content = repr((source.digest, other.digest, column))
        self.digest = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
        named = lambda found: [(f'target: {name}', why) for name, why in found]
        self.skipped = [*getattr(source, 'skipped', ()), *named(getattr(other, 'skipped', ()))]
        self.missing = [*getattr(source, 'missing', ()), *named(getattr(other, 'missing', ()))]
        sizes = f'{len(self.targets[0]):,} pictures to train on, {len(self.targets[1]):,} held out'
        self.remarks = [*getattr(source, 'remarks', ()), f'targets: {sizes}', *getattr(other, 'remarks', ())]

    def __getitem__(self, index: int) -> Item:
        """The columns of an item; its target is always the same one."""
        key = f'{index} {self._source.keys[index]}'
        draw = int.from_bytes(hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=4).digest())
        return self._joined(self._source[index], index, draw, moving=False)

    def drawn(self, index: int, draw: int) -> Item:
        """See `Source`; the number also decides which target the item has."""
        return self._joined(read_item(self._source, index, draw), index, draw, moving=True)

    def _joined(self, item: Item, index: int, draw: int, moving: bool) -> Item:
        def target() -> np.ndarray:
            rng = np.random.default_rng((draw, index))
            items = self.targets[int(self._held_out[index])]
            chosen, place = int(items[rng.integers(len(items))]), int(rng.integers(2**32))
            return read_item(self.other, chosen, place if moving else None)[self.column]

        names = (name for name in self._source.columns if name != 'target')
        return Item({name: functools.partial(item.__getitem__, name) for name in names} | {'target': target})
