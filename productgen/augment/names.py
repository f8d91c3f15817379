"""Reading comma separated names out of a config."""

from __future__ import annotations

from collections.abc import Iterable

from productgen.config import UserError, nearest


def split_names(text: str, valid: Iterable[str], field: str) -> list[str]:
    """Splits 'a,b' and checks each name.

    Raises:
      UserError: on an unknown name; the message has the config field, the nearest valid name and all of them.
    """
    names = [name.strip() for name in text.split(',')]
    for name in names:
        if name not in valid:
            raise UserError(f'{field}', f'there is no {name!r}{nearest(name, valid)}')
    return names
