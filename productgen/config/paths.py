"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from productgen.config.errors import UserError


def user_path(text: str, field: str) -> Path:
    """A path in which `~` and `~USER` at the beginning are home folders.

    Raises:
      UserError: there is no such user, or the home folder is unknown; the message names `field`.
    """
    expanded = os.path.expanduser(text)
    if text.startswith('~') and expanded == text:
        name = text.partition('/')[0]
        raise UserError(f'{field}={text}', f'{name} is no home folder', f'for a folder of that name write ./{text}')
    return Path(expanded)
