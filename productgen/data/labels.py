"""The labels of a training set: their values, how often each combination occurs, and how a user names them.

Training writes this table into the workdir, so that a trained model can be used without its data set.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from productgen.config import UserError, nearest
from productgen.data.source import Source

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelTable:
    """The attributes a method is conditioned on and the label rows of its training pictures.

    Attributes:
      attributes: the value names of each attribute, in code order; the attributes are in the order of the columns of
        `label`.
      rows: int32 [R, A], the distinct label rows; -1 where a value is unknown.
      counts: int64 [R], number of training pictures with each row.
    """

    attributes: Mapping[str, tuple[str, ...]]
    rows: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, source: Source, names: Sequence[str], items: np.ndarray) -> LabelTable:
        """The table of the attributes `names` over the items of a source."""
        attributes = {name: tuple(source.attributes[name]) for name in names}
        if not names:
            return cls({}, np.zeros((1, 0), np.int32), np.asarray([len(items)]))
        codes = np.stack([np.asarray(source.codes[name], np.int32)[items] for name in names], 1)
        return cls(attributes, *np.unique(codes, axis=0, return_counts=True))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelTable:
        """The inverse of `to_json`."""
        attributes = {name: tuple(values) for name, values in value['attributes'].items()}
        rows = np.asarray(value['rows'], np.int32).reshape(len(value['counts']), len(attributes))
        return cls(attributes, rows, np.asarray(value['counts']))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        attributes = {name: list(values) for name, values in self.attributes.items()}
        return {'attributes': attributes, 'rows': self.rows.tolist(), 'counts': self.counts.tolist()}

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes, in the order of the columns of `label`."""
        return tuple(self.attributes)

    def same_values(self, other: LabelTable) -> bool:
        """Whether codes have the same meaning in both: equal attributes and values, in the same order."""
        return list(self.attributes.items()) == list(other.attributes.items())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(len(values) for values in self.attributes.values())

    @property
    def pictures(self) -> int:
        """Number of training pictures."""
        return int(self.counts.sum())

    def draw(self, seeds: Sequence[int], kind: Mapping[str, str] | None = None) -> np.ndarray:
        """Draws label rows, int32 [N, A], as frequent as in the training set; a seed always draws the same row.

        Args:
          seeds: one for each row.
          kind: fixed values, by attribute; the others are drawn from training pictures with these values. Where there
            is none they are drawn from all, and a warning is logged.
        """
        given = {self.names.index(name): self.attributes[name].index(value) for name, value in (kind or {}).items()}
        fits = np.ones(len(self.rows), bool)
        for column, code in given.items():
            fits &= self.rows[:, column] == code
        if not fits.any():
            _log.warning('No training picture is %s; samples of it may look wrong', ', '.join(self.words(kind or {})))
            fits[:] = True
        ends = np.cumsum(self.counts[fits])
        # NumPy guarantees that SeedSequence's numbers never change.
        ranks = [int(np.random.SeedSequence(int(s)).generate_state(1, np.uint64)[0]) % int(ends[-1]) for s in seeds]
        label = self.rows[fits][np.searchsorted(ends, ranks, side='right')]
        for column, code in given.items():
            label[:, column] = code
        return label

    def values(self, row: np.ndarray) -> dict[str, str]:
        """The value names of a label row, by attribute; `-` where a value is unknown."""
        columns = zip(self.attributes.items(), row, strict=True)
        return {name: values[code] if code >= 0 else '-' for (name, values), code in columns}

    def words(self, kind: Mapping[str, str]) -> list[str]:
        """The shortest names of a kind that `kinds` parses: `mug`, or `lid=red` where several attributes have `red`."""
        owners = lambda value: sum(value in values for values in self.attributes.values())
        return [value if owners(value) == 1 else f'{name}={value}' for name, value in kind.items()]

    def kinds(self, text: str, field: str) -> list[dict[str, str]]:
        """Parses what a user requests: `mug`, `label=mug,colour=red`, several kinds separated by `;`.

        Args:
          text: the request; double quotes protect separators in names.
          field: the setting it comes from, for messages.

        Returns:
          the values of each kind, by attribute; no kinds where `text` is empty.

        Raises:
          UserError: an unknown name, one that several attributes have, or two values of one attribute.
        """
        kinds = []
        for part in filter(str.strip, _split(text, ';')):
            if not self.attributes:
                raise UserError(field, f'{text!r} cannot be chosen, the run was trained without labels')
            kind: dict[str, str] = {}
            for item in _split(part, ','):
                name, value = self._find(item.strip(), field)
                if name in kind:
                    raise UserError(
                        field,
                        f'{part.strip()!r} gives {name!r} two values, {kind[name]!r} and {value!r}',
                        "separate kinds by ';'",
                    )
                kind[name] = value
            kinds.append(kind)
        return kinds

    def _find(self, item: str, field: str) -> tuple[str, str]:
        """(attribute, value) of `value` or `attribute=value`."""
        bare = _unquoted(item)
        owners = [name for name, values in self.attributes.items() if bare in values]
        if len(owners) == 1:
            return owners[0], bare
        if owners:
            ways = ' or '.join(f'{name}={bare}' for name in owners)
            raise UserError(field, f'{bare!r} is a value of several attributes', f'write {ways}')
        name, given, value = item.partition('=')
        if not given:
            known = {value for values in self.attributes.values() for value in values}
            raise UserError(field, f'there is no {bare!r}{nearest(bare, known)}')
        name, value = _unquoted(name.strip()), _unquoted(value.strip())
        if name not in self.attributes:
            raise UserError(field, f'there is no attribute {name!r}{nearest(name, self.attributes)}')
        if value not in self.attributes[name]:
            raise UserError(field, f'{name} has no value {value!r}{nearest(value, self.attributes[name])}')
        return name, value


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators outside double quotes."""
    return re.split(rf'{separator}(?=(?:[^"]*"[^"]*")*[^"]*$)', text)


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
