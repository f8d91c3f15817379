"""What was found in a data set and what a run makes of it, in a few lines: shown before training and by `--dry_run`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from productgen.config.text import counted, examples, printable
from productgen.data.source import DataConfig, Source

_SHOWN = 8  # values of an attribute


def summary(config: DataConfig, source: Source, labels: tuple[str, ...], train: np.ndarray, held_out: int) -> list[str]:
    """Lines for the user.

    Args:
      config: the `data` section.
      source: the data set.
      labels: attributes conditioned on.
      train: indices of the training items.
      held_out: number of the others.
    """
    lines = [f'{config.source}: {len(train):,} pictures to train on, {held_out:,} held out']
    lines += getattr(source, 'remarks', ())
    if skipped := getattr(source, 'skipped', ()):
        lines.append(f'{counted(skipped, "file")} cannot be used: {examples(f"{n} ({why})" for n, why in skipped)}')
    if duplicates := getattr(source, 'duplicates', ()):
        groups = (' = '.join(map(printable, group[:3])) for group in duplicates)
        lines.append(f'{counted(duplicates, "group")} of files are the same: {examples(groups)}')
    for name in labels:
        lines += _attribute(source, name, train)
    return lines + _unused(config, source, labels)


def _attribute(source: Source, name: str, train: np.ndarray) -> list[str]:
    """The values of an attribute that is conditioned on, and those that are rare."""
    values, codes = source.attributes[name], np.asarray(source.codes[name])
    counts = np.bincount(codes[train][codes[train] >= 0], minlength=len(values))
    more = ', ...' if len(values) > _SHOWN else ''
    lines = [f'{printable(name)}: {len(values)} values, {", ".join(map(printable, values[:_SHOWN]))}{more}']
    for wanted, text in ((0, 'no picture to train on'), (1, 'a single picture to train on')):
        if rare := [value for value, count in zip(values, counts, strict=True) if count == wanted]:
            lines.append(f'{printable(name)}: {counted(rare, "value")} with {text}: {examples(rare)}')
    if unlabelled := int((codes[train] < 0).sum()):
        lines.append(f'{printable(name)}: not known of {unlabelled:,} of the pictures to train on')
    return lines


def _unused(config: DataConfig, source: Source, labels: tuple[str, ...]) -> list[str]:
    """Attributes and columns that the run does not use."""
    others = {name: len(values) for name, values in source.attributes.items() if name not in labels}
    usable = [name for name, count in others.items() if count > 1]
    lines = []
    if not labels:
        lines.append('no labels')
        if config.labels == 'auto' and usable:
            lines[0] += f': data.labels=auto finds no class; set data.labels={usable[0]}'
            lines[0] += f', or another of {examples(usable, 8)}' if len(usable) > 1 else ''
    named = [f'{name} ({count} value{"s" * (count != 1)})' for name, count in others.items()]
    named += [f'{name} (no classes)' for name in getattr(source, 'unused', ()) if name != (config.group or 'sku')]
    return lines + ([f'columns not used: {examples(named, _SHOWN)}'] if named else [])


def write_lists(workdir: Path, source: Source) -> list[Path]:
    """Writes all files that cannot be used, and all that are the same, into a workdir; returns the files written."""
    skipped = [*getattr(source, 'skipped', ()), *getattr(source, 'missing', ())]
    skipped = [f'{printable(path)}\t{reason}' for path, reason in skipped]
    duplicates = ['\t'.join(map(printable, group)) for group in getattr(source, 'duplicates', ())]
    written = []
    for name, lines in (('skipped_files.txt', skipped), ('duplicate_files.txt', duplicates)):
        if lines:
            (workdir / name).write_text('\n'.join(lines) + '\n', encoding='utf-8')
            written.append(workdir / name)
    return written
