"""The labels of a training set: their values, how often each combination occurs, and how a user names them.

Training writes this table into the workdir, so that a trained model can be used without its data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import logging
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from productgen.config import UserError, nearest
from productgen.config.text import printable
from productgen.data.source import Source

_log = logging.getLogger(__name__)
_SHOWN = 50  # known values in a message ...
_LONGEST = 80  # ... and characters of each


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
        """The shortest names of a kind that `kinds` parses: `mug`, or `lid=red` where several attributes have `red`.

        Joined by commas they are a request for that kind.
        """
        found = [self._word(name, value) for name, value in kind.items()]
        if len(found) > 1 and self._values(','.join(found)):  # a single value has this name
            found = [f'{_quoted(name)}={_quoted(value)}' for name, value in kind.items()]
        return found

    def _word(self, name: str, value: str) -> str:
        """The first spelling of a value that is parsed as it, wherever it stands in a request."""
        for word in (value, _quoted(value), f'{name}={value}', f'{name}={_quoted(value)}'):
            with contextlib.suppress(UserError):  # a quote in it is not closed
                if [[self._found(*item) for item in items] for _, items in _parse(word, '')] == [[[(name, value)]]]:
                    return word
        return f'{_quoted(name)}={_quoted(value)}'

    def kinds(self, text: str, field: str) -> list[dict[str, str]]:
        """Parses what a user requests: `mug`, `label=mug,colour=red`, several kinds separated by `;`.

        A name may be in double quotes, in which `""` stands for a quote, as in CSV files: `"shoes, women"`. A quote in
        a name that does not begin with one is part of it: `12" plate`. The whole request, or all that stands between
        two `;`, is a value where it equals one exactly: `shoes, women`.

        Args:
          text: the request.
          field: the setting it comes from, for messages.

        Returns:
          the values of each kind, by attribute; no kinds where `text` is empty.

        Raises:
          UserError: an unknown name, one that several attributes have, two values of one attribute, or a quote that is
            not closed.
        """
        if text.strip() and not self.attributes:
            raise UserError(field, f'{text!r} cannot be chosen, the run was trained without labels')
        parts = [(text, [])] if self._values(text) else _parse(text, field)
        return [self._kind(part, items, field) for part, items in parts]

    def _kind(self, part: str, items: list[_Item], field: str) -> dict[str, str]:
        """The values of one kind, by attribute, from its text and what that is divided into."""
        kind: dict[str, str] = {}
        for item in [(part, [part])] if self._values(part) else items:
            name, value = self._find(*item, field)
            if name in kind:
                raise UserError(
                    field,
                    f'{part.strip()!r} gives {name!r} two values, {kind[name]!r} and {value!r}',
                    "separate kinds by ';'",
                )
            kind[name] = value
        return kind

    def _values(self, text: str) -> list[tuple[str, str]]:
        """(attribute, value) of every value that equals a text or, where there is none, the text without its spaces."""
        of = lambda value: [(name, value) for name, values in self.attributes.items() if value in values]
        return of(text) or of(text.strip())

    def _found(self, item: str, names: list[str]) -> list[tuple[str, str]]:
        """(attribute, value) of all that an item may stand for.

        Args:
          item: its text; values may contain `=`.
          names: the names in it, between `=`.
        """
        found = self._values(names[0] if len(names) == 1 else item)
        name, value = names[0], '='.join(names[1:])
        if not found and value in self.attributes.get(name, ()):
            found = [(name, value)]
        return found

    def _find(self, item: str, names: list[str], field: str) -> tuple[str, str]:
        """(attribute, value) that an item stands for."""
        found = self._found(item, names)
        if len(found) == 1:
            return found[0]
        name, value = names[0], '='.join(names[1:])
        if found:
            ways = ' or '.join(self._word(*way) for way in found)
            raise UserError(field, f'{found[0][1]!r} is a value of several attributes', f'write {ways}')
        if len(names) == 1:
            known = {value: attribute for attribute, values in self.attributes.items() for value in values}
            raise UserError(field, f'there is no {name!r}{self._hint(name, known, field)}')
        if name not in self.attributes:
            raise UserError(field, f'there is no attribute {name!r}{nearest(name, self.attributes)}')
        known = dict.fromkeys(self.attributes[name], name)
        raise UserError(field, f'{name} has no value {value!r}{self._hint(value, known, field)}')

    def _hint(self, value: str, known: Mapping[str, str], field: str) -> str:
        """The known value that is nearest, with its spelling where it needs quotes, and the first known values.

        Args:
          value: what was requested.
          known: the attribute of each value.
          field: the setting, for the spelling.
        """
        # The request may have been divided inside a name.
        cut = lambda name: (name[len(value) : len(value) + 1] not in (',', ';', '='), len(name))
        longer = sorted((name for name in known if value and name.startswith(value)), key=cut)
        hint = ''
        for name in [*longer, *difflib.get_close_matches(value, known, 1, 0.5)][:1]:
            word = self._word(known[name], name)
            hint = f'; did you mean {name!r}?' + ('' if word == name else f' Write {field}={shlex.quote(word)}')
        words = [printable(self._word(known[name], name)) for name in sorted(known)[:_SHOWN]]
        shown = [word if len(word) <= _LONGEST else f'{word[:_LONGEST]}...' for word in words]
        return f'{hint} (known: {", ".join(shown)}{", ..." if len(known) > _SHOWN else ""})'


_Item = tuple[str, list[str]]  # `colour=red` and its names, ['colour', 'red']
# A name in quotes and the spaces around it, or one without.
_NAME = re.compile(r'\s*"((?:[^"]|"")*+)"\s*|([^;,=]*)')


def _parse(text: str, field: str) -> list[tuple[str, list[_Item]]]:
    """The parts of a request between `;` that are not empty, and the items of each, between `,`.

    Raises:
      UserError: a quote is not closed, or something follows a name in quotes.
    """
    parts, items, names = [], [], []
    part = item = place = 0  # where these begin
    while place <= len(text):
        match = _NAME.match(text, place)
        quoted, bare, end = match[1], match[2], match.end()
        if (bare or '').lstrip().startswith('"') or text[end : end + 1] not in ('', ';', ',', '='):
            raise UserError(
                field,
                f'{text[place:].strip()!r} begins with a quote, which does not end with the name',
                'put "..." around a whole name, and write "" for a quote in it: "12"" plate"',
            )
        names.append(bare.strip() if quoted is None else quoted.replace('""', '"'))
        place, separator = end + 1, text[end : end + 1]
        if separator != '=':
            items.append((text[item:end].strip(), names))
            item, names = place, []
        if separator in ('', ';'):
            if text[part:end].strip():
                parts.append((text[part:end], items))
            part, items = place, []
    return parts


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))
