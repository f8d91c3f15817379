"""`--mode=restore`: restores the photos of `--input`, into `--output`, by the project's own networks or a run's."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from productgen.config import UserError
from productgen.config.paths import user_path
from productgen.data.native import Photo
from productgen.edit.folder import ToolConfig, process
from productgen.edit.masks import Masks
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


def run(request: Request) -> None:
    """See `process`."""
    settings: RestoreConfig = request.settings
    masks = Masks.open(settings.masks, 'restore.masks')
    pleasing = user_path(settings.pleasing, 'restore.pleasing') if settings.pleasing else None
    networks = Networks(settings.task, request.workdir, settings.step, settings.strength, settings.fidelity, pleasing)
    if 'inpaint' in networks.tasks and not masks:
        raise UserError('restore.masks', 'what is missing? Name a folder of masks, white where it is')

    def work(photo: Photo, name: str) -> Photo:
        return networks.restore(photo, masks.find(name, photo) > 0.5 if masks else None)

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
