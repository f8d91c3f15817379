"""From nested dicts to typed sections: known fields only, each of its type, missing ones at their defaults."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from productgen.config.errors import UserError

T = TypeVar('T')


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close to `name`, and in any case the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1, 0.5)
    return (f'; did you mean {close[0]!r}?' if close else '') + f' (known: {", ".join(known)})'


def choose(table: Mapping[str, T], name: str, field: str) -> T:
    """Returns `table[name]`.

    Raises:
      UserError: `name` is not in the table; the message names `field` and the nearest name.
    """
    if name not in table:
        raise UserError(field, f'there is no {name!r}{nearest(name, table)}')
    return table[name]


def build(cls: type[T], section: Mapping[str, Any], field: str) -> T:
    """Builds the dataclass `cls` from a config section.

    Args:
      cls: a dataclass; nested dataclasses are built from nested sections.
      section: nested dicts; fields it does not have take their defaults.
      field: the section's name, for messages.

    Raises:
      UserError: an unknown field, a missing one without a default, or a value of another type.
    """
    kinds = typing.get_type_hints(cls)
    given = complete(cls, section, field)
    values = {}
    for spec in dataclasses.fields(cls):
        if spec.name not in given:
            raise UserError(f'{field}.{spec.name}', 'missing')
        values[spec.name] = _convert(kinds[spec.name], given[spec.name], f'{field}.{spec.name}')
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(field, str(error)) from error


def complete(cls: type, section: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A config section with the defaults of `cls` for the fields it does not have; types are not checked yet.

    Args:
      cls: a dataclass.
      section: nested dicts. A nested section that states some of its fields takes the others from the default of the
        outer field, where there is one, otherwise from the nested dataclass; a dict of numbers likewise.
      field: the section's name, for messages.

    Raises:
      UserError: an unknown field, or a value where a section is expected.
    """
    _check_section(section, field)
    kinds = typing.get_type_hints(cls)
    specs = dataclasses.fields(cls)
    names = [spec.name for spec in specs]
    for name in section:
        if name not in names:
            raise UserError(f'{field}.{name}', f'no such field{nearest(name, names)}')
    values: dict[str, Any] = {}
    for spec in specs:
        name, kind, value = spec.name, kinds[spec.name], _default(spec)
        if dataclasses.is_dataclass(kind) or isinstance(value, Mapping):
            given = section.get(name, {})
            _check_section(given, f'{field}.{name}')
            value = _merged({} if value is dataclasses.MISSING else value, given)
            if dataclasses.is_dataclass(kind):
                value = complete(kind, value, f'{field}.{name}')
        elif name in section:
            value = float(section[name]) if kind is float and _is_int(section[name]) else section[name]
        if value is not dataclasses.MISSING:
            values[name] = value
    return values


def _check_section(section: Any, field: str) -> None:
    if not isinstance(section, Mapping):
        raise UserError(field, f'expected a section, got {section!r}')


def _merged(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`usual` with the values of `given`, section by section."""
    both = lambda name, value: isinstance(value, Mapping) and isinstance(usual.get(name), Mapping)
    return {**usual, **{n: _merged(usual[n], value) if both(n, value) else value for n, value in given.items()}}


def _default(spec: dataclasses.Field) -> Any:
    """The default of a field, that of a section as nested dicts; MISSING where there is none."""
    value = spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _convert(kind: Any, value: Any, field: str) -> Any:
    """`value` as a field of type `kind`; whole numbers become floats where floats are expected."""
    if dataclasses.is_dataclass(kind):
        return build(kind, value, field)
    options = typing.get_args(kind) or (kind,)
    if float in options and int not in options and _is_int(value):
        return float(value)
    if not any(isinstance(value, o) and (o is bool or not isinstance(value, bool)) for o in options):
        raise UserError(field, f'expected {" or ".join(o.__name__ for o in options)}, got {value!r}')
    return value


def to_dict(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigDict or mapping as plain nested dicts of what JSON can hold: tuples become lists."""
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    return json.loads(json.dumps(plain))


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = '') -> list[str]:
    """Lines `field: old -> new` for every value in which two nested configs differ, sorted by field."""
    lines = []
    for name in sorted({*old, *new}):
        field = f'{prefix}{name}'
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, field + '.')
        elif a != b:
            lines.append(f'{field}: {a!r} -> {b!r}')
    return lines
