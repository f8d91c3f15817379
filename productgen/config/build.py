"""From a config section to typed values: every field known, none missing, each of its type, or an error says so."""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar('T')


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the field and the way out."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where one of the known names is close, and the known names."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, 1, 0.5)
    return (f'; did you mean {close[0]!r}?' if close else '') + f' (known: {", ".join(known)})'


def choose(table: Mapping[str, T], name: str, field: str) -> T:
    """`table[name]`, or a ConfigError that names the field and the nearest valid value."""
    if name not in table:
        raise ConfigError(f'{field}: there is no {name!r}{nearest(name, table)}')
    return table[name]


def _convert(kind: Any, value: Any, field: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f'{field}: expected a section, got {value!r}')
        return build(kind, value, field)
    options = typing.get_args(kind) if typing.get_origin(kind) is not None or typing.get_args(kind) else (kind,)
    if float in options and int not in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    ok = any(isinstance(value, o) and (o is bool or not isinstance(value, bool)) for o in options)
    if not ok:
        names = ' or '.join(o.__name__ for o in options)
        raise ConfigError(f'{field}: expected {names}, got {value!r}')
    return value


def build(cls: type[T], section: Mapping[str, Any], field: str) -> T:
    """Builds the dataclass `cls` from a config section.

    Args:
      cls: a dataclass; nested dataclasses are built from nested sections.
      section: a dict (of a ConfigDict, what `to_dict` gives).
      field: the section's name, for messages.

    Raises:
      ConfigError: an unknown or missing field, or a value of another type.
    """
    kinds = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in section:
        if name not in fields:
            raise ConfigError(f'{field}.{name}: no such field{nearest(name, fields)}')
    values = {}
    for name, spec in fields.items():
        if name in section:
            values[name] = _convert(kinds[name], section[name], f'{field}.{name}')
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise ConfigError(f'{field}.{name}: missing')
    try:
        return cls(**values)
    except ConfigError:
        raise
    except ValueError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(field) else f'{field}: {text}') from error


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
