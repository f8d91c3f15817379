"""From a config section to typed values: every field known, each of its type, missing ones at their defaults."""

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
    """`; did you mean 'x'?` where one of the known names is close, and the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1, 0.5)
    return (f'; did you mean {close[0]!r}?' if close else '') + f' (known: {", ".join(known)})'


def choose(table: Mapping[str, T], name: str, field: str) -> T:
    """`table[name]`, or a UserError that names the field and the nearest valid value."""
    if name not in table:
        raise UserError(field, f'there is no {name!r}{nearest(name, table)}')
    return table[name]


def _convert(kind: Any, value: Any, field: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UserError(field, f'expected a section, got {value!r}')
        return build(kind, value, field)
    options = typing.get_args(kind) if typing.get_origin(kind) is not None or typing.get_args(kind) else (kind,)
    if float in options and int not in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    ok = any(isinstance(value, o) and (o is bool or not isinstance(value, bool)) for o in options)
    if not ok:
        names = ' or '.join(o.__name__ for o in options)
        raise UserError(field, f'expected {names}, got {value!r}')
    return value


def build(cls: type[T], section: Mapping[str, Any], field: str) -> T:
    """Builds the dataclass `cls` from a config section; fields that it lacks take their defaults.

    Args:
      cls: a dataclass; nested dataclasses are built from nested sections.
      section: a dict (of a ConfigDict, what `to_dict` gives).
      field: the section's name, for messages.

    Raises:
      UserError: an unknown field, one without a default that is missing, or a value of another type.
    """
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    _check_names(section, fields, field)
    values = {}
    for name, spec in fields.items():
        if name in section:
            values[name] = _convert(kinds[name], section[name], f'{field}.{name}')
        elif not _has_default(spec):
            raise UserError(f'{field}.{name}', 'missing')
    try:
        return cls(**values)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(field, str(error)) from error


def _check_names(section: Mapping[str, Any], known: Iterable[str], field: str) -> None:
    for name in section:
        if name not in known:
            raise UserError(f'{field}.{name}', f'no such field{nearest(name, known)}')


def _has_default(spec: dataclasses.Field) -> bool:
    return spec.default is not dataclasses.MISSING or spec.default_factory is not dataclasses.MISSING


def complete(cls: type, section: Mapping[str, Any], field: str) -> dict[str, Any]:
    """A config section with the defaults of `cls` where it says nothing; values are not checked yet.

    Args:
      cls: a dataclass.
      section: nested dicts.
      field: the section's name, for messages.

    Raises:
      UserError: an unknown field.
    """
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    _check_names(section, fields, field)
    values: dict[str, Any] = {}
    for name, spec in fields.items():
        if dataclasses.is_dataclass(kinds[name]):
            given = section.get(name, {})
            usual = dataclasses.asdict(spec.default_factory()) if spec.default_factory is not dataclasses.MISSING else {}
            values[name] = complete(kinds[name], {**usual, **given}, f'{field}.{name}')
        elif name in section:
            whole = kinds[name] is float and isinstance(section[name], int) and not isinstance(section[name], bool)
            values[name] = float(section[name]) if whole else section[name]
        elif _has_default(spec):
            values[name] = spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
    return values



def to_dict(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigDict as plain nested dicts, as JSON gives them back."""
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    return json.loads(json.dumps(plain))


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = '') -> list[str]:
    """Lines `field: old -> new` for every value in which two nested configs differ."""
    lines = []
    for name in sorted({*old, *new}):
        field = f'{prefix}{name}'
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += difference(a, b, field + '.')
        elif a != b:
            lines.append(f'{field}: {a!r} -> {b!r}')
    return lines
