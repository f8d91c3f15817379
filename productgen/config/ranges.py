"""Numbers and ranges in text: '0-63', '3,5,10-19', '4-'."""

from __future__ import annotations

import re

from productgen.config import UserError

_MOST = 1_000_000  # numbers in one text


def parse_ranges(text: str, field: str, last: int, open_end: bool = False) -> list[int]:
    """Parses numbers and ranges, and returns the numbers in the order of the text.

    Args:
      text: numbers and ranges, separated by commas; both ends of a range are included.
      field: the setting, for messages.
      last: largest number allowed; the smallest is 0.
      open_end: allow `4-`, all numbers from 4 to `last`.

    Raises:
      UserError: the text has another form, a number larger than `last`, or too many numbers; the message names `field`.
    """
    numbers: list[int] = []
    for part in text.split(','):
        match = re.fullmatch(r'\s*(\d+)\s*(?:(-)\s*(\d*)\s*)?', part, re.ASCII)
        if not match or (match[2] and not match[3] and not open_end):
            example = '4-' if open_end else '3,5,10-19'
            raise UserError(field, f'{part!r} in {text!r} is not a number or a range', f"write '0-3' or '{example}'")
        first = int(match[1])
        end = first if not match[2] else int(match[3] or last)
        if first > end and match[3]:
            raise UserError(field, f'the range {part.strip()!r} runs backwards', f'did you mean {end}-{first}?')
        if max(first, end) > last:
            raise UserError(field, f'{part.strip()!r} is beyond {last}, the largest allowed')
        if len(numbers) + end - first >= _MOST:
            raise UserError(field, f'{text!r} stands for more than {_MOST:,} numbers')
        numbers += range(first, end + 1)
    return numbers
