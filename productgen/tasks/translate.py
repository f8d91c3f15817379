"""`--mode=translate`: translates the pictures of a folder, or one file, with the run in the workdir.

Pictures are brought to the run's resolution as those it was trained on (`data.fit`); with `data.fit=native` they keep
their own. Each is written as PNG under its name, in the same sub-folders; `translations.png` shows inputs next to their
translations. Files that cannot be read are listed, also in `skipped_files.txt`, and the others go on.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from productgen.config import UserError
from productgen.config.text import counted, examples
from productgen.core.files import naming
from productgen.core.pixels import LUMA
from productgen.data import parse_resolution
from productgen.data.images import BadImage, load_image
from productgen.data.pictures import grid, save_png, side_by_side
from productgen.data.scan import scan
from productgen.edit.places import SKIPPED, list_skipped, listed, separate
from productgen.methods.base import Translates
from productgen.model.trained import Trained
from productgen.tasks.base import Request, Task

_log = logging.getLogger('productgen')
SHOWN = 32  # pictures in the sheet
_SHEET = 'translations.png'


@dataclasses.dataclass(frozen=True)
class TranslateConfig:
    """The `translate` section.

    Attributes:
      reverse: translate from target to input, for methods that do both (CycleGAN).
      noise: effect of the dropout with which a method translates at random (pix2pix), 0 (none) to 1 (as in training).
      batch_size: pictures per batch.
      step: checkpoint to use; 0 for the newest readable one, -1 for the best one by `train.stop_on`.
      overwrite: replace files that are there already.

    Raises:
      UserError: a number out of range.
    """

    reverse: bool = False
    noise: float = 1.0
    batch_size: int = 16
    step: int = 0
    overwrite: bool = False

    def __post_init__(self):
        if self.batch_size < 1:
            raise UserError('translate.batch_size', 'must be at least 1')
        if not 0 <= self.noise <= 1:
            raise UserError('translate.noise', f'{self.noise} is not from 0 to 1')
        if self.step < -1:
            raise UserError('translate.step', f'{self.step} is not a step', '0 is the newest checkpoint, -1 the best')


def translate(settings: TranslateConfig, workdir: Path, source: Path, out: Path) -> list[Path]:
    """Translates the pictures at a path.

    Args:
      settings: see `TranslateConfig`.
      workdir: of a run of a method that translates.
      source: a picture, or a folder of pictures.
      out: the folder to write to.

    Returns:
      the files of the translations.

    Raises:
      UserError: there is no picture that can be read, a file is there already, or the method does not translate.
    """
    top, names, skipped = _found(source)
    paths = _paths(names, out)
    there = [path for path in [*paths, out / _SHEET] if path.exists()]
    if there and not settings.overwrite:
        raise UserError(
            f'--output={out}',
            f'{counted(there, "file")} would be replaced: {examples(path.name for path in there)}',
            'choose another folder, or add --config.translate.overwrite=True',
        )
    trained = Trained.open(workdir, settings.step, batch_size=settings.batch_size, can=Translates)
    known = {knob.name for knob in trained.knobs}
    if settings.reverse and 'reverse' not in known:
        name = trained.model.config.method.name
        raise UserError('translate.reverse', f'{name!r} translates in one direction only', 'leave it out')
    knobs = {name: getattr(settings, name) for name in ('reverse', 'noise') if name in known}
    side = 'target' if settings.reverse else 'input'
    channels = trained.model.problem.shape(side).shape[-1]
    written, shown = [], []
    bar = tqdm(total=len(names), desc='Translating', unit='picture', delay=2)
    with bar:
        for part, images in _batches(trained, top, names, settings.batch_size, skipped):
            made = trained.translate(_channels(images, channels), **knobs)
            for i, image, given in zip(part, made, images, strict=True):
                save_png(paths[i], image[..., 0] if image.shape[-1] == 1 else image)
                written.append(paths[i])
                if len(shown) < SHOWN and (not shown or given.shape == shown[0][0].shape):
                    shown.append((given, np.broadcast_to(image, (*image.shape[:2], 3))))
            bar.update(len(part))
    list_skipped(out, skipped)
    if skipped:
        _log.warning('%s', listed(skipped, 'file', 'skipped', out / SKIPPED))
    if not written:
        reason = f'none of its {counted(names, "file")} can be read'
        raise UserError(f'--input={source}', reason, f'see {out / SKIPPED}')
    sheets = [grid(np.stack(images), min(8, len(images))) for images in zip(*shown, strict=True)]
    save_png(out / _SHEET, side_by_side(sheets, ('input', 'translated')))
    _log.info('%s in %s, step %d', counted(written, 'translation'), out, trained.step)
    return written


def _found(source: Path) -> tuple[Path, list[str], list[tuple[str, str]]]:
    """The folder, names of the pictures in it, and (name, reason) of what looks like one and is not read.

    Raises:
      UserError: there is nothing at the path, or no picture.
    """
    if source.is_file():
        return source.parent, [source.name], []
    found = scan(source)
    if not found.pictures:
        raise UserError(f'--input={source}', 'there is no picture in it or below it')
    return source, sorted(found.pictures), list(found.odd)


def _paths(names: Sequence[str], out: Path) -> list[Path]:
    """The file of each translation; pictures that differ in their ending only keep it as part of the name.

    So does one that would be called as the sheet.
    """
    stems = [str(PurePosixPath(name).with_suffix('')) for name in names]
    shared = Counter([*(stem.lower() for stem in stems), PurePosixPath(_SHEET).stem])
    kept = (name if shared[stem.lower()] > 1 else stem for name, stem in zip(names, stems, strict=True))
    return [out / f'{name}.png' for name in kept]


def _batches(
    trained: Trained, top: Path, names: Sequence[str], size: int, skipped: list[tuple[str, str]]
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Indices of names and their pictures, uint8 [N, H, W, 3]; those that cannot be read are added to `skipped`.

    Pictures of a batch have one size.
    """
    data = trained.model.config.data
    options = {'size': parse_resolution(data.resolution), 'fit': data.fit, 'background': data.background}
    part: list[tuple[int, np.ndarray]] = []
    for i, name in enumerate(names):
        try:
            image = load_image(top / name, **options)
        except BadImage as error:
            skipped.append((name, error.reason))
            continue
        if part and (len(part) == size or part[0][1].shape != image.shape):
            yield [k for k, _ in part], np.stack([x for _, x in part])
            part = []
        part.append((i, image))
    if part:
        yield [k for k, _ in part], np.stack([x for _, x in part])


def _channels(images: np.ndarray, channels: int) -> np.ndarray:
    """uint8 [N, H, W, 3] with the channels that a method takes; one channel is the luma of Rec. 601."""
    if channels != 1:
        return images
    return np.rint(images @ LUMA).astype(np.uint8)[..., None]


def run(request: Request) -> None:
    """See `translate`.

    Raises:
      UserError: `--input` or `--output` is missing, or one is inside of the other.
    """
    source, out = separate(request.input, request.output)
    with naming(out):
        translate(request.settings, request.workdir, source, out)


TASK = Task('translate the pictures in --input with the run in --workdir', TranslateConfig, run, 'run')
