"""The tool for a folder of photos: every photo is read, changed and written under its own name into another folder.

It can be interrupted and run again: what is done is recorded in `done.jsonl` of the output and not made again. A file
that cannot be used is listed in `skipped_files.txt`, and the others go on. The input is never written to.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from productgen.config import UserError, choose
from productgen.config.paths import user_path
from productgen.config.sections import TRUNKS
from productgen.config.text import counted, examples
from productgen.core.files import DISK_ERRORS, atomic
from productgen.data import images
from productgen.data.native import Photo, read_photo, write_photo
from productgen.data.scan import scan
from productgen.edit.compare import References, sheet
from productgen.edit.places import SKIPPED, UNCERTAIN, list_skipped, list_uncertain, listed, separate, targets

_log = logging.getLogger('productgen')
RECORD, SHEETS = 'done.jsonl', 'compare'


@dataclasses.dataclass(frozen=True)
class ToolConfig:
    """Settings of all tools for photos; the sections of the tools extend it.

    Attributes:
      workers: photos in work at a time.
      megapixels: photos in work have at most so many millions of pixels together; a larger one is in work alone. A
        million takes about 50 MB.
      strip_gps: leave out of EXIF where a photo was taken.
      reference: folder with perfect versions of the photos, under the same names with any ending; `--compare` measures
        PSNR and SSIM against them. Empty for none.
      lpips: also LPIPS, as `eval.lpips`: `alex`, `vgg` or `squeeze`, with its published weights. Empty without it.

    Raises:
      UserError: a number below 1, or an `lpips` that is unknown or has no `reference`.
    """

    SECTION: ClassVar[str] = 'tool'

    workers: int = 2
    megapixels: int = 48
    strip_gps: bool = False
    reference: str = ''
    lpips: str = ''

    def __post_init__(self):
        for field in ('workers', 'megapixels'):
            if getattr(self, field) < 1:
                raise UserError(f'{self.SECTION}.{field}', 'must be at least 1')
        choose(dict.fromkeys(TRUNKS), self.lpips, f'{self.SECTION}.lpips')
        if self.lpips and not self.reference:
            raise UserError(f'{self.SECTION}.lpips', 'compares with perfect versions', f'name {self.SECTION}.reference')


@dataclasses.dataclass
class Result:
    """What became of the photos, by their names in the input.

    Attributes:
      made: written now.
      kept: written by an earlier run.
      skipped: (name, reason) of files that cannot be used.
      doubtful: (name, reason) of results that may be wrong, also those of an earlier run.
    """

    made: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    skipped: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    doubtful: list[tuple[str, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class _Item:
    """A photo to make: its name in the input, and its source and target."""

    name: str
    source: Path
    target: Path

    def stamp(self) -> list[int]:
        stat = self.source.stat()
        return [stat.st_size, stat.st_mtime_ns]


def process(
    source: Path | None,
    output: Path | None,
    work: Callable[[Photo, str], Photo],
    tool: ToolConfig,
    settings: Mapping[str, Any],
    *,
    compare: bool = False,
    growth: float = 1.0,
    ending: str = '',
) -> Result:
    """Runs `work` over a photo or all photos below a folder.

    Args:
      source: `--input`.
      output: `--output`, a folder, which is made.
      work: called with each photo and its name, from several threads. It returns the photo to write, with the format of
        what it was given, but for `ending`. Its `doubt` is listed in `uncertain_files.txt`. What it raises is listed
        for that photo, but for a UserError, which ends the run.
      tool: settings that all tools share.
      settings: what decides the result, of what JSON can hold: `work`'s settings, the digest of its weights.
      compare: also write `compare/NAME.png`, each photo before and after.
      growth: pixels that come out for each that goes in: 16 for four times the width.
      ending: of all results, such as `.png`, where `work` gives them another format; see `places.targets`.

    Raises:
      UserError: something cannot be used; found before any photo is touched. Also where no photo could be made.
      OSError: the output cannot be written; what is done is recorded.
    """
    source, output = separate(source, output)
    references = _references(tool, compare)
    items, skipped = _plan(source, output, compare, ending)
    label = json.dumps({**settings, 'strip_gps': tool.strip_gps}, sort_keys=True)
    record = _Record(output, label)
    todo, kept = record.divide(items)
    result = Result(kept=[item.name for item in kept], skipped=skipped)
    output.mkdir(parents=True, exist_ok=True)
    if compare:
        todo += [item for item in kept if not _sheet(output, item).exists()]
    done = {item.name for item in kept}
    notes: dict[str, list[str]] = defaultdict(list)

    def make(item: _Item) -> tuple[str, ...]:
        stamp = item.stamp()
        before = read_photo(item.source)
        if item.name in done:
            after = read_photo(item.target)
        else:
            after = work(before, item.name)
            record.add(item, stamp, None)
            _write(item, before, after, tool.strip_gps)
            record.add(item, stamp, item.target.stat().st_size, after.doubt)
        if compare:
            sheet(_sheet(output, item), before, after, item.name, references)
        return after.notes

    try:
        for item, found in _in_threads(make, todo, tool, growth, compare):
            if isinstance(found, str):
                result.skipped.append((item.name, found))
            elif item.name not in done:
                result.made.append(item.name)
                for note in found:
                    notes[note].append(item.name)
    finally:
        record.close()
        list_skipped(output, result.skipped)
        result.doubtful += record.doubts(items)
        list_uncertain(output, result.doubtful)
    for note, names in sorted(notes.items()):
        _log.info('%s (%s): %s', note, counted(names, 'photo'), examples(names))
    _report(result, output)
    return result


def _write(item: _Item, before: Photo, after: Photo, strip_gps: bool) -> None:
    """Writes a photo; the file itself where nothing was done to it, which would lose quality by being written again."""
    same = after.pixels is before.pixels and after.alpha is before.alpha
    if not same or strip_gps or item.source.suffix != item.target.suffix:
        return write_photo(item.target, after, strip_gps=strip_gps)
    with atomic(item.target) as temporary:
        shutil.copyfile(item.source, temporary)


def _pixels(path: Path) -> int:
    """Of a picture file; 0 where it cannot be read, for which `read_photo` gives the reason."""
    try:
        return math.prod(images.upright_size(path))
    except images.BadImage:
        return 0


def _in_threads(make: Callable, items: list[_Item], tool: ToolConfig, growth: float, compare: bool):
    """Yields (item, result or reason) as they are done; memory is bounded by the pixels in work."""
    limit, waiting, used = tool.megapixels * 1e6, {}, 0.0
    growth = max(1.0, growth) * (1.5 if compare else 1.0)  # the photo before is kept too

    def outcome(item: _Item, future: Future) -> Any:
        try:
            return future.result()
        except images.BadImage as error:
            return error.reason
        except UserError:
            raise
        except MemoryError:
            return 'too large for the memory of this machine'
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            _log.debug('%s', item.name, exc_info=True)
            return f'{type(error).__name__}: {" ".join(str(error).split())}'

    with (
        ThreadPoolExecutor(tool.workers) as pool,
        tqdm(total=len(items), desc='Photos', unit='photo', delay=2) as bar,
    ):
        try:
            for item in [*items, None]:
                cost = growth * (_pixels(item.source) if item else 0)
                while waiting and (item is None or used + cost > limit or len(waiting) >= tool.workers):
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        other, spent = waiting.pop(future)
                        used -= spent
                        bar.update()
                        yield other, outcome(other, future)
                if item:
                    used += cost
                    waiting[pool.submit(make, item)] = item, cost
        finally:
            for future in waiting:
                future.cancel()


def _references(tool: ToolConfig, compare: bool) -> References | None:
    if not tool.reference:
        return None
    field = f'{tool.SECTION}.reference'
    if not compare:
        raise UserError(field, 'is used by --compare only', 'add --compare')
    folder = user_path(tool.reference, field)
    if not folder.is_dir():
        raise UserError(field, f'there is no folder {folder}')
    return References(folder, tool.lpips)


def _plan(source: Path, output: Path, compare: bool, ending: str) -> tuple[list[_Item], list[tuple[str, str]]]:
    """The photos with the files they become, and (name, reason) of files that are not read.

    A GIF becomes a PNG, see `places.targets`.

    Raises:
      UserError: there are none, or results would be written into the input.
    """
    if source.is_dir():
        found = scan(source)
        names, top, odd = sorted(found.pictures), source, found.odd
        if found.runs:
            _log.info('%s of training runs left out: %s', counted(found.runs, 'folder'), examples(found.runs))
    else:
        names, top, odd = [source.name], source.parent, []
    if not names:
        hint = f'; {examples(f"{name} ({why})" for name, why in odd)}' if odd else ''
        raise UserError(f'--input={source}', f'there are no photos{hint}')
    renamed = targets(names, {name for name in names if ending or _is_gif(top / name)}, ending or '.png')
    place = top.resolve()
    for folder in {Path(name).parent for name in names}:
        to = (output / folder).resolve()
        if source.is_dir() and (to == place or place in to.parents):
            raise UserError(f'--output={output}', f'{folder} in it leads into the input', 'give a new folder')
        if output.resolve() in [(top / folder).resolve(), *(top / folder).resolve().parents]:
            raise UserError(f'--input={source}', f'{folder} in it leads into --output={output}', 'give another output')
    if compare and any(name.split('/')[0] == SHEETS for name in names[:] if '/' in name):
        raise UserError(f'--input={source}', f'its folder {SHEETS} has the name of that of --compare', 'rename it')
    return [_Item(name, top / name, output / renamed.get(name, name)) for name in names], list(odd)


def _is_gif(path: Path) -> bool:
    try:
        with open(path, 'rb') if path.is_file() else open(os.devnull, 'rb') as file:
            return file.read(4) == b'GIF8'
    except OSError:
        return False


def _sheet(output: Path, item: _Item) -> Path:
    return output / SHEETS / f'{item.target.relative_to(output).as_posix()}.png'


class _Record:
    """What is done: lines of JSON, the last one of a photo counts.

    Args:
      output: folder of the results.
      label: what decides them.
    """

    def __init__(self, output: Path, label: str):
        self._path, self._label, self._lock, self._file = output / RECORD, label, threading.Lock(), None
        self._output = output
        self._lines: dict[str, dict] = {}
        for line in self._path.read_bytes().splitlines() if self._path.is_file() else ():
            try:
                entry = json.loads(line)
                self._lines[entry['output']] = entry
            except (ValueError, TypeError, KeyError):  # the last line of a run that was killed
                continue

    def divide(self, items: list[_Item]) -> tuple[list[_Item], list[_Item]]:
        """The photos to make, and those that are done.

        Raises:
          UserError: a file is there that is not of these settings, or not of this tool.
        """
        todo, kept, foreign, other = [], [], [], []
        for item in items:
            entry = self._lines.get(item.target.relative_to(self._output).as_posix())
            if not os.path.lexists(item.target):
                todo.append(item)
            elif entry is None or entry.get('bytes') not in (None, item.target.stat().st_size):
                foreign.append(item.name)
            elif entry.get('settings') != self._label:
                other.append(item.name)
            elif item.source.is_file() and [entry.get('source'), entry.get('bytes') is None] == [item.stamp(), False]:
                kept.append(item)
            else:  # the photo has changed since, or the run was killed before it knew that the file is complete
                todo.append(item)
        field = f'--output={self._output}'
        if foreign:
            what = f'{counted(foreign, "file")} there are not of this tool, or were changed since: {examples(foreign)}'
            raise UserError(field, what, 'give another folder, or move them away')
        if other:
            what = f'{counted(other, "photo")} there were made with other settings: {examples(other)}'
            raise UserError(field, what, 'give another folder, or remove them to have them made again')
        return todo, kept

    def doubts(self, items: list[_Item]) -> list[tuple[str, str]]:
        """(name, reason) of photos that are done and may be wrong."""
        entries = ((item, self._lines.get(item.target.relative_to(self._output).as_posix(), {})) for item in items)
        return [(item.name, entry['doubt']) for item, entry in entries if entry.get('doubt')]

    def add(self, item: _Item, stamp: list[int], size: int | None, doubt: str = '') -> None:
        """Records a photo.

        Args:
          item: the photo.
          stamp: of the source that was read.
          size: bytes of its file; None before it is written, so that a file is known as this tool's at any time.
          doubt: of the result, see `Photo`.
        """
        name = item.target.relative_to(self._output).as_posix()
        entry = {'output': name, 'input': item.name, 'source': stamp, 'bytes': size}
        entry |= {'doubt': doubt} if doubt else {}
        line = json.dumps({**entry, 'settings': self._label}) + '\n'
        with self._lock:
            self._lines[name] = entry
            if self._file is None:
                self._file = open(self._path, 'ab')  # noqa: SIM115 - closed by `close`
                line = '\n' + line if self._file.tell() else line  # after a line that was not finished
            self._file.write(line.encode())
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()


def _report(result: Result, output: Path) -> None:
    """Says what was done.

    Raises:
      UserError: nothing.
    """
    if not result.made and not result.kept:
        skipped = examples(f'{name} ({reason})' for name, reason in sorted(result.skipped))
        raise UserError('--input', f'none of the photos can be used: {skipped}', f'see {output / SKIPPED}')
    _log.info('%s in %s, %d of them made now', counted(result.made + result.kept, 'photo'), output, len(result.made))
    if result.skipped:
        _log.warning('%s', listed(result.skipped, 'file', 'skipped', output / SKIPPED))
    if result.doubtful:
        _log.warning('%s', listed(result.doubtful, 'photo', 'uncertain', output / UNCERTAIN))
