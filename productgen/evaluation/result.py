"""What an evaluation found: figures by column, tables and sheets of pictures, before they are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class Result:
    """The content of a report.

    Attributes:
      measured: what was measured, by name.
      protocol: what another report must have in common for its figures to be comparable.
      figures: by column (`measured`, and `real`, `training` or `input` to compare it with), by name.
      features: the feature network; empty where none measured.
      sheets: uint8 pictures by name: `measured` and `real` [N, H, W, 3]; `copies, ...`, `alike, ...`, `nearest` and
        `pairs` [N, M, H, W, 3], M that belong together.
      classes: by column, by class, the distances of its pictures.
      confusion: counts of true and predicted values of the first attribute; None without.
      copies: the test for copies of training pictures; None without.
      near_duplicates: near duplicates in the data set; None without.
      truncation: the figures of several truncations.
      pairs: means of pairwise figures, and `what` was compared; empty without.
    """

    measured: Mapping[str, Any]
    protocol: Mapping[str, Any]
    figures: dict[str, dict[str, float]]
    features: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sheets: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    confusion: Mapping[str, Any] | None = None
    copies: Mapping[str, Any] | None = None
    near_duplicates: Mapping[str, Any] | None = None
    truncation: list[dict[str, float]] = dataclasses.field(default_factory=list)
    pairs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All but the pictures, as JSON values."""
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
