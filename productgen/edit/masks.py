"""Masks of the user, found by the names of photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from productgen.config import UserError
from productgen.config.paths import user_path
from productgen.data.images import BadImage
from productgen.data.native import Photo, read_photo
from productgen.edit.compare import References


class Masks:
    """A folder with a mask of each photo under its name with any ending, or one mask for all photos.

    Args:
      path: of the folder or the mask.
      field: the setting that names it, for messages.

    Raises:
      UserError: there is no such path.
    """

    def __init__(self, path: Path, field: str):
        if not path.exists():
            raise UserError(field, f'there is no {path}', 'name a folder of masks, or a mask')
        self._field = field
        self._one = path if path.is_file() else None
        self._files = None if self._one else References(path)

    @classmethod
    def open(cls, text: str, field: str) -> Masks | None:
        """The masks that a setting names; None where it is empty."""
        return cls(user_path(text, field), field) if text else None

    def find(self, name: str, photo: Photo) -> np.ndarray:
        """float32 [H, W], from 0, black, to 1, white; transparent pixels are black.

        Raises:
          BadImage: there is no mask, or none of the photo's size.
        """
        file = self._one or self._files.find(name)
        if not file:
            raise BadImage(f'there is no mask of this name in {self._field}')
        mask = read_photo(file)
        if mask.size != photo.size:
            sizes = ('x'.join(map(str, reversed(x.size))) for x in (mask, photo))
            raise BadImage('its mask has {} pixels, the photo {}'.format(*sizes))
        return np.clip(mask.over((0.0, 0.0, 0.0)).mean(-1), 0, 1)
