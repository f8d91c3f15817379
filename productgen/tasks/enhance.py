"""`--mode=enhance`: improves the photos of `--input` by steps that need no network, into `--output`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from productgen.edit.enhance import enhance, parse_steps
from productgen.edit.folder import ToolConfig, process
from productgen.tasks.base import Request, Task


@dataclasses.dataclass(frozen=True)
class EnhanceConfig(ToolConfig):
    """The `enhance` section.

    Attributes:
      steps: what to do, in this order, see `productgen.edit.enhance`.

    Raises:
      UserError: an unknown step or option, or a value out of range.
    """

    SECTION: ClassVar[str] = 'enhance'

    steps: str = 'levels,sharpen'

    def __post_init__(self):
        super().__post_init__()
        parse_steps(self.steps, 'enhance.steps')


def run(request: Request) -> None:
    """See `process`."""
    settings: EnhanceConfig = request.settings
    steps = parse_steps(settings.steps, 'enhance.steps')
    process(
        request.input,
        request.output,
        lambda photo, name: enhance(photo, steps),
        settings,
        {'steps': list(map(repr, steps))},
        compare=request.compare,
    )


TASK = Task('improve the photos in --input without a network', EnhanceConfig, run, 'nothing')
