"""Results of an evaluation: figures by column, tables and sheets of pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Result:
    """The content of a report.

    Attributes:
      measured: what was measured, by name.
      protocol: all that must be equal in another report for its figures to be comparable.
      figures: by column and name; the columns are `measured`, and `real`, `training`, `input` or `identity` for
        comparison, and classical filters by name; those of translations in the other direction begin with `reverse`.
      features: the feature network; empty where none was used.
      left_out: figures that are left out, why, and how to get them: a sentence each.
      sheets: uint8 pictures by name: `measured` and `real` [N, H, W, 3]; `copies, ...`, `alike, ...`,
        `neighbours`, `nearest`, `pairs`, `unpaired`, `reverse` and `restored` [N, M, H, W, 3], in groups of M.
      classes: by column and class, the distances of its pictures.
      confusion: counts of true and predicted values of the first attribute; None where not measured.
      copies: the test for copies of training pictures; None where not measured.
      near_duplicates: near duplicates in the data set; None where not measured.
      truncation: the figures at several truncations.
      pairs: means of pairwise figures, and in `what` a description of the pairs; empty where not measured.
    """

    measured: Mapping[str, Any]
    protocol: Mapping[str, Any]
    figures: dict[str, dict[str, float]]
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    left_out: Sequence[str] = ()
    sheets: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    confusion: Mapping[str, Any] | None = None
    copies: Mapping[str, Any] | None = None
    near_duplicates: Mapping[str, Any] | None = None
    truncation: list[dict[str, float]] = dataclasses.field(default_factory=list)
    pairs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything except the pictures, as JSON values."""
        names = [field.name for field in dataclasses.fields(self) if field.name != 'sheets']
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True)
class Earlier:
    """An earlier report of the same protocol.

    Attributes:
      measured: what was measured.
      protocol: its protocol.
      figures: of the column `measured`.
    """

    measured: Mapping[str, Any]
    protocol: Mapping[str, Any]
    figures: Mapping[str, float]
