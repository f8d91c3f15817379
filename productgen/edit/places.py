"""The two places of a tool: the photos that it reads and never writes to, and the folder of its results."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from productgen.config import UserError
from productgen.config.text import counted, examples, printable
from productgen.core.files import write_durably

SKIPPED, UNCERTAIN = 'skipped_files.txt', 'uncertain_files.txt'


def separate(source: Path | None, output: Path | None) -> tuple[Path, Path]:
    """The paths of `--input` and `--output`, where they do not mix.

    Raises:
      UserError: one is missing, or is the other or inside of it.
    """
    if source is None:
        raise UserError('--input', 'is missing', 'give a photo or a folder of photos')
    if output is None:
        raise UserError('--output', 'is missing', 'give a folder for the results')
    if not source.exists():
        raise UserError(f'--input={source}', 'there is no such file or folder')
    if output.exists() and not output.is_dir():
        raise UserError(f'--output={output}', 'is not a folder')
    top = (source if source.is_dir() else source.parent).resolve()
    place = output.resolve()
    inside = place == top or source.is_dir() and (top in place.parents or place in top.parents)
    if inside:
        raise UserError(f'--output={output}', f'mixes with --input={source}', 'give a folder next to the input')
    return source, output


def targets(names: Sequence[str], other: Set[str], ending: str) -> dict[str, str]:
    """The names of results with another ending than their photos have: NAME.png for NAME.jpg.

    Where another photo has or gets that name, NAME.jpg.png.

    Args:
      names: of all photos, in order.
      other: those that get the ending, where they do not have it.
      ending: such as `.png`.

    Returns:
      the new names of those in `other` that have another ending, by their old ones.
    """
    found, taken = {}, set(names)
    for name in names:
        if name not in other or name.lower().endswith(ending):
            continue
        stem, dot, _ = name.rpartition('.')
        choices = (f'{stem if dot else name}{ending}', f'{name}{ending}')
        new = next((n for n in choices if n not in taken), f'{name}.1{ending}')
        found[name] = new
        taken.add(new)
    return found


def listed(entries: Sequence[tuple[str, str]], noun: str, state: str, path: Path) -> str:
    """A line for the log that says which files a list holds.

    Args:
      entries: (name, reason) of each.
      noun: what they are, such as `file`.
      state: what they have in common, such as `skipped`.
      path: of the list.
    """
    some = examples(f'{name} ({reason})' for name, reason in sorted(entries))
    return f'{counted(entries, noun)} {state}, listed in {path}: {some}'


def list_skipped(output: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Writes (name, reason) of files that could not be used to `SKIPPED` in the output; without any it is removed."""
    _list(output / SKIPPED, skipped)


def list_uncertain(output: Path, doubts: Sequence[tuple[str, str]]) -> None:
    """Writes (name, reason) of results that may be wrong to `UNCERTAIN` in the output; without any it is removed."""
    _list(output / UNCERTAIN, doubts)


def _list(path: Path, entries: Sequence[tuple[str, str]]) -> None:
    if entries:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, ''.join(f'{printable(name)}\t{reason}\n' for name, reason in sorted(entries)))
    else:
        path.unlink(missing_ok=True)
