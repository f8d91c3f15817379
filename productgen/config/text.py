"""Text from outside, such as file names, for messages and lists."""

from __future__ import annotations

from collections.abc import Iterable, Sized


def printable(text: str) -> str:
    r"""The text in one line that any terminal can show: a line feed becomes \n, a byte that is no text \udce9."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape', 'surrogatepass').decode() for c in text)


def one_line(text: str) -> str:
    """`printable`, with a space for each stretch of spaces and line feeds, for names that are shown in pictures."""
    return printable(' '.join(text.split()))


def examples(names: Iterable[str], count: int = 3) -> str:
    """The first names, printable and separated by commas, and how many more there are."""
    names = list(names)
    more = f' and {len(names) - count:,} more' if len(names) > count else ''
    return ', '.join(map(printable, names[:count])) + more


def counted(things: Sized, one: str) -> str:
    """`1 row`, `3 rows`."""
    return f'{len(things):,} {one}{"s" * (len(things) != 1)}'


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
