"""What a run records of its training set: enough to use the trained model where the data set is not."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from productgen.data.labels import LabelTable
from productgen.data.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """See the module.

    Attributes:
      labels: the attributes conditioned on, their values, and how often each combination occurs.
      columns: shape (H, W, C) of every array that an item has, by name; empty for an RGB `image` only.
      digest: of the source: it changes when any picture or label does; empty where it is not known.
    """

    labels: LabelTable
    columns: Mapping[str, tuple[int, int, int]]
    digest: str = ''

    @classmethod
    def of(cls, source: Source, names: Sequence[str], items: np.ndarray) -> Facts:
        """The facts of the training items of a source, conditioned on the attributes `names`."""
        return cls(LabelTable.of(source, names, items), dict(source.columns), source.digest)

    @classmethod
    def assumed(cls, labels: bool, columns: Mapping[str, tuple[int, int, int]]) -> Facts:
        """A stand-in for a data set that has not been read, with one attribute of two values, or without labels."""
        attributes = {'label': ('a', 'b')} if labels else {}
        table = LabelTable(attributes, np.zeros((1, len(attributes)), np.int32), np.asarray([10_000]))
        return cls(table, columns)
