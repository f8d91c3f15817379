"""Names separated by commas, in a config."""

from __future__ import annotations

from collections.abc import Iterable

from productgen.config import UserError, nearest


def split_names(text: str, valid: Iterable[str], field: str) -> list[str]:
    """Splits 'a,b' and checks each name.

    Args:
      text: names, separated by commas.
      valid: all known names.
      field: the config field, for messages.

    Raises:
      UserError: an unknown name; the message gives the nearest known name and all of them.
    """
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in valid:
            raise UserError(field, f'there is no {name!r}{nearest(name, valid)}')
    return names
