"""`--mode=restore`: restores the photos of `--input`, into `--output`, by the project's own networks or a run's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from productgen.config import UserError
from productgen.config.paths import user_path
from productgen.data.images import BadImage
from productgen.data.native import Photo, read_photo
from productgen.edit.compare import References
from productgen.edit.folder import ToolConfig, process
from productgen.edit.restore import Networks
from productgen.tasks.base import Request, Task


@dataclasses.dataclass(frozen=True)
class RestoreConfig(ToolConfig):
    """The `restore` section.

    Attributes:
      task: `denoise`, `deblur`, `sr2`, `sr4` (two and four times as large), `jpeg`, `inpaint`, or `auto`: noise, blur
        and JPEG blocks where the photo has them, which the log says. With `--workdir` that of the run.
      strength: how much of the correction is applied, from 0 to 1.
      fidelity: from 1, true to the photo, to 0, pleasing: sharper, with texture that may not have been there. Below 1 a
        pleasing network is needed: the project's own for the task, if there is one, or `pleasing`.
      pleasing: workdir or packed file of a run of `restoration_gan` that went on from the faithful network.
      masks: for `inpaint`, a folder with a mask of each photo under its name with any ending, or the mask of a single
        photo: white where something is missing.
      step: with `--workdir`, the checkpoint: 0 is the newest, -1 the best one by `train.stop_on`.

    Raises:
      UserError: a number out of range.
    """

    SECTION: ClassVar[str] = 'restore'

    task: str = 'auto'
    strength: float = 1.0
    fidelity: float = 1.0
    pleasing: str = ''
    masks: str = ''
    step: int = 0

    def __post_init__(self):
        super().__post_init__()
        for field in ('strength', 'fidelity'):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f'restore.{field}', f'{getattr(self, field)} is not from 0 to 1')
        if self.pleasing and self.fidelity == 1:
            raise UserError('restore.pleasing', 'is not used with restore.fidelity=1', 'set restore.fidelity=0')
        if self.task == 'inpaint' and not self.masks:
            raise UserError('restore.masks', 'what is missing? Name a folder of masks, white where it is')


class Masks:
    """Masks of missing parts, by the names of photos.

    Args:
      path: a folder, or a single mask for all photos.
    """

    def __init__(self, path: Path):
        if not path.exists():
            raise UserError('restore.masks', f'there is no {path}')
        self._one = path if path.is_file() else None
        self._files = None if self._one else References(path)

    def find(self, name: str, photo: Photo) -> np.ndarray:
        """bool [H, W], true where something is missing.

        Raises:
          BadImage: there is no mask, or none of the photo's size.
        """
        file = self._one or self._files.find(name)
        if not file:
            raise BadImage('there is no mask of this name in restore.masks')
        mask = read_photo(file)
        if mask.size != photo.size:
            sizes = ('x'.join(map(str, reversed(x.size))) for x in (mask, photo))
            raise BadImage('its mask has {} pixels, the photo {}'.format(*sizes))
        return mask.over((0.0, 0.0, 0.0)).mean(-1) > 0.5


def run(request: Request) -> None:
    """See `process`."""
    settings: RestoreConfig = request.settings
    masks = Masks(user_path(settings.masks, 'restore.masks')) if settings.masks else None
    pleasing = user_path(settings.pleasing, 'restore.pleasing') if settings.pleasing else None
    networks = Networks(settings.task, request.workdir, settings.step, settings.strength, settings.fidelity, pleasing)
    if 'inpaint' in networks.tasks and not masks:
        raise UserError('restore.masks', 'what is missing? Name a folder of masks, white where it is')

    def work(photo: Photo, name: str) -> Photo:
        return networks.restore(photo, masks.find(name, photo) if masks else None)

    process(
        request.input,
        request.output,
        work,
        settings,
        {'strength': settings.strength, 'weights': networks.digests(), 'masks': settings.masks},
        compare=request.compare,
        growth=networks.growth,
    )


TASK = Task('restore the photos in --input: noise, blur, size, JPEG, holes', RestoreConfig, run, 'nothing')
