"""`--mode=cutout`: cuts the products out of the photos of `--input`, into `--output`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from productgen.config import UserError, choose
from productgen.data.images import parse_color
from productgen.data.native import Photo
from productgen.edit.cutout import alpha_of, cut_out
from productgen.edit.folder import ToolConfig, process
from productgen.edit.masks import Masks
from productgen.edit.matte import ESTIMATORS
from productgen.tasks.base import Request, Task

_TRANSPARENT = 'transparent'


@dataclasses.dataclass(frozen=True)
class CutoutConfig(ToolConfig):
    """The `cutout` section.

    Attributes:
      method: how the product is found: `plain`, what differs from a plain ground; `grabcut`, for any ground; `auto`,
        the first one where the ground is even, otherwise the more certain one.
      masks: a folder with a mask of each photo under its name with any ending, or a mask for all photos: white where
        the product is. They are used as they are, instead of `method`.
      ground: `transparent`, which writes PNG, or a colour, such as `white` or `#f4f4f4`, in the photo's own format.
      crop: trim to the product, with a margin of a twentieth of its longer side.

    Raises:
      UserError: an unknown method, or a ground that is no colour.
    """

    SECTION: ClassVar[str] = 'cutout'

    method: str = 'auto'
    masks: str = ''
    ground: str = _TRANSPARENT
    crop: bool = False

    def __post_init__(self):
        super().__post_init__()
        choose(ESTIMATORS, self.method, 'cutout.method')
        self.color()

    def color(self) -> tuple[float, float, float] | None:
        """The ground, sRGB in [0, 1]; None where it is transparent."""
        if self.ground == _TRANSPARENT:
            return None
        try:
            return tuple(value / 255 for value in parse_color(self.ground))
        except UserError:
            reason = f'{self.ground!r} is neither transparent nor an opaque colour'
            raise UserError('cutout.ground', reason, 'use transparent, a name (white) or hex (#f4f4f4)') from None


def run(request: Request) -> None:
    """See `process`."""
    settings: CutoutConfig = request.settings
    masks, ground = Masks.open(settings.masks, 'cutout.masks'), settings.color()

    def work(photo: Photo, name: str) -> Photo:
        if masks:
            alpha, doubt = masks.find(name, photo), ''
            alpha = alpha if photo.alpha is None else alpha * photo.alpha
        else:
            alpha, doubt = alpha_of(photo, ESTIMATORS[settings.method])
        return cut_out(photo, alpha, ground, settings.crop).replace(doubt=doubt)

    decides = {'method': settings.method, 'masks': settings.masks, 'ground': ground, 'crop': settings.crop}
    process(
        request.input,
        request.output,
        work,
        settings,
        decides,
        compare=request.compare,
        ending='.png' if ground is None else '',
    )


TASK = Task('cut the products in --input out, onto transparency or a colour', CutoutConfig, run, 'nothing')
