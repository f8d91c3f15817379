"""Durations in any unit: '200kimg', '5000steps', '3epochs', '10min'."""

from __future__ import annotations

import dataclasses
import math
import re

from productgen.config import UserError

_IMAGES = {'img': 1, 'kimg': 1_000, 'mimg': 1_000_000}
_SECONDS = {'s': 1, 'min': 60, 'h': 3600}
_UNITS = (*_IMAGES, 'steps', 'epochs', *_SECONDS)


@dataclasses.dataclass(frozen=True)
class Duration:
    """A length of training in images, steps, epochs or wall-clock time.

    Attributes:
      value: how many, 0 or more.
      unit: `img`, `kimg`, `mimg`, `steps`, `epochs`, `s`, `min` or `h`.
    """

    value: float
    unit: str

    @property
    def seconds(self) -> float | None:
        """Seconds of a wall-clock duration; None for other units."""
        return self.value * _SECONDS[self.unit] if self.unit in _SECONDS else None

    def steps(self, batch_size: int, epoch: int, images_before: int = 0) -> int | None:
        """The number of updates, rounded up; None for a wall-clock duration.

        Args:
          batch_size: images per update.
          epoch: images in the training set.
          images_before: of a training that had another batch size before; see `Problem.images_before`.
        """
        if self.unit == 'steps':
            return math.ceil(self.value)
        if self.unit in _SECONDS:
            return None
        images = self.value * (epoch if self.unit == 'epochs' else _IMAGES[self.unit])
        images = round(images, 6)  # 16.1 x 1000 is a little more than 16100
        return max(math.ceil((images - images_before) / batch_size), 0)


def parse_duration(text: str, field: str) -> Duration:
    """Parses a number and a unit, such as '200kimg' or '1e3steps'; the unit may lack its final s: '1step'.

    Raises:
      UserError: the text is not a duration; the message names `field` and lists the units.
    """
    match = re.fullmatch(r'\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]+)\s*', str(text))
    if match:
        unit = match[2].lower()
        unit = unit if unit in _UNITS else unit + 's'
        try:
            value = float(match[1])
        except ValueError:
            value = -1.0
        if unit in _UNITS and 0 <= value < math.inf:
            return Duration(value, unit)
    raise UserError(field, f"{text!r} is not a duration such as '200kimg'", f'the units are {", ".join(_UNITS)}')
