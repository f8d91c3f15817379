"""Numbers and ranges in text: '0-63', '3,5,10-19', '4-'."""

from __future__ import annotations

import re

from productgen.config import UserError

_MOST = 1_000_000  # numbers one text may stand for


def parse_ranges(text: str, field: str, last: int, open_end: bool = False) -> list[int]:
    """The numbers a text lists, in its order.

    Args:
      text: numbers and ranges of both ends included, separated by commas.
      field: for messages.
      last: largest number there is; the smallest is 0.
      open_end: whether `4-` may stand for all from 4 to `last`.

    Raises:
      UserError: something else, or a number beyond `last`; the message names `field`.
    """
    numbers: list[int] = []
    for part in text.split(','):
        match = re.fullmatch(r'\s*(\d+)\s*(?:(-)\s*(\d*)\s*)?', part, re.ASCII)
        if not match or (match[2] and not match[3] and not open_end):
            example = '4-' if open_end else '3,5,10-19'
            raise UserError(f'{field}', f'{part!r} in {text!r} is no number or range', f"write '0-3' or '{example}'")
        first = int(match[1])
        end = first if not match[2] else int(match[3] or last)
        if first > end and match[3]:
            raise UserError(f'{field}', f'the range {part.strip()!r} runs backwards', f'did you mean {end}-{first}?')
        if max(first, end) > last:
            raise UserError(f'{field}', f'{part.strip()!r} is beyond {last}, the last there is')
        if len(numbers) + end - first >= _MOST:
            raise UserError(f'{field}', f'{text!r} is more than {_MOST:,} numbers')
        numbers += range(first, end + 1)
    return numbers
