"""Products cut out of photos: mask, edges, colours of the edges, and what is behind."""

from __future__ import annotations

import numpy as np

from productgen.data.native import Photo, resized
from productgen.edit.foreground import foreground
from productgen.edit.matte import SIDE, SURE, Estimator, frame
from productgen.edit.refine import refined

_MARGIN = 0.05  # around a product that is trimmed, as a fraction of its longer side
_SEEN = 0.02  # alpha that belongs to the product's box
_CUT_ALREADY = 0.6  # least fraction of transparent pixels in the border of a photo that is cut out already


def alpha_of(photo: Photo, estimator: Estimator) -> tuple[np.ndarray, str]:
    """Alpha of a photo's product, float32 [H, W], and why it may be wrong, empty where nothing says so.

    A photo whose border is mostly transparent is cut out already and keeps its alpha; other transparency is multiplied.

    Args:
      photo: of any size.
      estimator: see `productgen.edit.matte`.
    """
    if photo.alpha is not None and np.mean(photo.alpha[frame(*photo.size)] < 0.5) >= _CUT_ALREADY:
        return photo.alpha, ''
    scale = min(1.0, SIDE / max(photo.size))
    small = resized(photo.pixels, tuple(max(1, round(side * scale)) for side in photo.size))
    found = estimator(np.clip(small, 0, 1))
    alpha = refined(photo.pixels, found.mask)
    doubt = f'certainty {found.certainty:.2f}: {found.reason}' if found.certainty < SURE else ''
    return (alpha if photo.alpha is None else alpha * photo.alpha), doubt


def cut_out(
    photo: Photo,
    alpha: np.ndarray,
    ground: tuple[float, float, float] | None = None,
    crop: bool = False,
) -> Photo:
    """A photo's product alone; pixels that are all product keep their values to the bit.

    Args:
      photo: of any size.
      alpha: float32 [H, W], how much of each pixel is product.
      ground: sRGB colour behind it, in [0, 1]; None for transparency, which makes the photo a PNG.
      crop: trim to the product, with a margin of a twentieth of its longer side where the photo has so much.
    """
    if crop:
        place = box(alpha)
        photo, alpha = photo.replace(pixels=photo.pixels[place], alpha=None), alpha[place]
    photo = photo.replace(pixels=foreground(photo.pixels, alpha), alpha=alpha)
    if ground is None:
        return as_png(photo)
    if photo.gray and len(set(ground)) > 1:
        photo = photo.replace(gray=False)
    return photo.replace(pixels=photo.over(ground).astype(np.float32), alpha=None)


def box(alpha: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a product with its margin; all of them where there is none.

    Args:
      alpha: [H, W] in [0, 1].
    """
    spans = [np.flatnonzero((alpha > _SEEN).any(axis)) for axis in (1, 0)]
    if not len(spans[0]):
        return slice(None), slice(None)
    margin = max(1, round(_MARGIN * max(span[-1] - span[0] + 1 for span in spans)))
    return tuple(slice(max(0, span[0] - margin), span[-1] + 1 + margin) for span in spans)


def as_png(photo: Photo) -> Photo:
    """A photo that is written as PNG, which holds everything but inks."""
    if photo.cmyk:
        note = 'CMYK is not written as PNG: it becomes RGB'
        return photo.replace(format='PNG', cmyk=False, profile=None, notes=(*photo.notes, note))
    return photo.replace(format='PNG')
