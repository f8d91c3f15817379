"""What a shop asks of a product photo: a white, even backdrop, a product well placed, sharp and of the named colour.

Pictures are one at a time, [H, W, 3], uint8 or floats in [-1, 1], in sRGB, and all is NumPy. Colours are
compared by Delta E 2000 in Lab. No model is involved: the product is what stands out from a plain backdrop. On textured
or cluttered ones the mask, and with it all that is measured by it, means little, and may be next to empty; `unevenness`
tells of most of them.

Raises, all of them: ValueError where a picture is of another type, shape or range.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from productgen.metrics.colour import ciede2000, lab

FRAME = 0.04  # width of the picture's frame, of its shorter side
STANDS_OUT = 5.0  # Delta E from the backdrop ...
TEXTURED = 4.0  # ... or, if that is more, so many times what the frame itself is off, in the median
DARKENING = 0.25  # share at which a fall of lightness counts: mostly, it is a shadow
PART = 0.1  # parts of a product, such as a pair's, have this share of the largest one's area
REACH = 1 / 16  # how far around the outline an edge is looked for, of the shorter side
FAINT = 0.05  # contrast, of white's to black, below which an edge is mostly noise

_WHITE = np.array([100.0, 0, 0])
_FITS = 20  # far more than the plane needs to settle


def _unit(image: np.ndarray) -> np.ndarray:
    """float64 [H, W, 3] in [0, 1]."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f'a picture must be [H, W, 3], got {image.shape}')
    if image.dtype == np.uint8:
        return image / 255
    if not np.issubdtype(image.dtype, np.floating) or not np.abs(image).max() <= 1 + 1e-3:
        raise ValueError(f'a picture must be uint8 or floats in [-1, 1], got {image.dtype} to {np.abs(image).max()}')
    return np.clip((image.astype(np.float64) + 1) / 2, 0, 1)


def _frame(height: int, width: int) -> np.ndarray:
    """bool [H, W], true in the outermost pixels."""
    margin = max(1, round(FRAME * min(height, width)))
    frame = np.ones((height, width), bool)
    frame[margin:-margin, margin:-margin] = False
    return frame


def backdrop(image: np.ndarray) -> dict[str, float]:
    """How white and how even the backdrop is, both Delta E 2000 and best at 0.

    Measured in the picture's frame, of 4% of its side: a region grown from the border by a threshold could not be less
    even than the threshold. Medians let the product cover up to half of the frame; what is uneven only in the middle,
    such as a shadow below the product, does not count.

    Returns:
      `off_white`: from white to the frame's median colour. `unevenness`: the median from that colour to the frame's.
    """
    colours = lab(_unit(image))
    colours = colours[_frame(*colours.shape[:2])]
    middle = np.median(colours, 0)
    return {
        'off_white': float(ciede2000(middle, _WHITE)),
        'unevenness': float(np.median(ciede2000(colours, middle))),
    }


def _plane(colours: np.ndarray) -> np.ndarray:
    """The backdrop as if it were empty, Lab [H, W, 3]: light falls off, so its colour is linear in the place.

    Reweighted least squares from the frame's median on, with Cauchy's weights, for which what stands out hardly counts:
    a product may touch the border.
    """
    frame = _frame(*colours.shape[:2])
    y, x = np.mgrid[-1 : 1 : frame.shape[0] * 1j, -1 : 1 : frame.shape[1] * 1j]
    terms = np.stack([np.ones_like(x), x, y], -1)  # [H, W, 3]
    places, found = terms[frame], colours[frame]
    plane = np.stack([np.median(found, 0), np.zeros(3), np.zeros(3)])
    for _ in range(_FITS):
        root = (np.square(found - places @ plane).sum(1, keepdims=True) + STANDS_OUT**2) ** -0.5
        plane = np.linalg.lstsq(root * places, root * found, rcond=None)[0]
    return terms @ plane


def product_mask(image: np.ndarray) -> np.ndarray:
    """An estimate of where the product is, bool [H, W]: what differs from the backdrop, as seen in the frame.

    The largest connected part, and others of at least a tenth of its area. A fall of lightness counts a quarter, since
    shadows do little else: a product that is only darker than its backdrop must be darker by much. White parts on white
    and black ones on black get lost, and holes are not filled, for handles and chairs have some. Nothing stands out:
    all false. Of the embedded catalogue's pictures of 64 x 64 on plain backdrops the intersection over union with the
    true masks is 0.89 in the mean and 0.95 in the median, on wood and marble 0.73 in the mean and at worst 0.3.
    """
    colours = lab(_unit(image))
    empty = _plane(colours)
    darker = np.minimum(colours[..., 0] - empty[..., 0], 0)
    colours[..., 0] -= (1 - DARKENING) * darker
    distance = ciede2000(colours, empty)
    threshold = max(STANDS_OUT, TEXTURED * np.median(distance[_frame(*distance.shape)]))
    parts, count = ndimage.label(distance > threshold, np.ones((3, 3)))
    areas = np.bincount(parts.ravel(), minlength=count + 1)
    areas[0] = 0
    return ((areas >= PART * areas.max()) & (areas > 0))[parts]


def placement(mask: np.ndarray) -> dict[str, float]:
    """Where the product is and how much of the picture it fills, from a mask bool [H, W]; NaN where that is empty.

    Returns:
      `box_x`, `box_y`: the centre of its bounding box from that of the picture, in shares of width and height, to the
      right and down; `mass_x`, `mass_y`: the same of its pixels' mean place. `box_share`, `area_share`: how much of the
      picture its box and its pixels take up.
    """
    figures = dict.fromkeys(('box_x', 'box_y', 'mass_x', 'mass_y', 'box_share', 'area_share'), float('nan'))
    if mask.any():
        box_share = 1.0
        for name, axis in (('x', 1), ('y', 0)):
            counts, side = mask.sum(1 - axis), mask.shape[axis]
            first, *_, end = np.flatnonzero(np.diff(counts > 0, prepend=False, append=False))
            figures[f'box_{name}'] = float((first + end) / 2 / side - 0.5)
            figures[f'mass_{name}'] = float(np.average(np.arange(side) + 0.5, weights=counts) / side - 0.5)
            box_share *= (end - first) / side
        figures.update(box_share=float(box_share), area_share=float(mask.mean()))
    return figures


def edge_sharpness(image: np.ndarray, mask: np.ndarray) -> float:
    """Largest share of an edge's contrast that is crossed within one pixel, the median along the product's outline.

    At every pixel of the outline: the steepest gradient within a sixteenth of the side, divided by the contrast there.
    About 0.5 for a step, to 0.7 for a slanting one; 0.4 / s of an edge blurred by a Gaussian of s pixels, down to about
    8 / side, where the blur is as wide as what is looked at. Independent of contrast and brightness; of the size of the
    picture it is not: compare pictures of one size. NaN where there is no outline of any contrast.

    Args:
      image: the picture.
      mask: bool [H, W], true in the product; a rough one will do.
    """
    image = _unit(image)
    reach = max(2, round(REACH * min(mask.shape)))
    slope = np.sqrt(sum(np.square(part).sum(-1) for part in np.gradient(image, axis=(0, 1))))
    steepest = ndimage.maximum_filter(slope, 2 * reach + 1)
    window = (2 * reach + 1, 2 * reach + 1, 1)
    contrast = np.linalg.norm(ndimage.maximum_filter(image, window) - ndimage.minimum_filter(image, window), axis=-1)
    outline = mask & ~ndimage.binary_erosion(mask, border_value=1) & (contrast > FAINT * np.sqrt(3))
    return float(np.median(steepest[outline] / contrast[outline])) if outline.any() else float('nan')


def colour_error(image: np.ndarray, mask: np.ndarray, reference: Sequence[float]) -> float:
    """Delta E 2000 of the product's median colour from that which it should have; NaN where the mask is empty.

    Light and shade are part of what is seen: of the embedded catalogue's plain products half are off by more than 6, a
    tenth by more than 20. Compare with the figure of real pictures, or with the errors from other names.

    Args:
      image: the picture.
      mask: bool [H, W], true in the product.
      reference: sRGB, 0 to 255, of the named colour.
    """
    inside = _unit(image)[mask]
    if not len(inside):
        return float('nan')
    return float(ciede2000(lab(np.median(inside, 0)), lab(np.asarray(reference, np.float64) / 255)))


def product_figures(image: np.ndarray, reference: Sequence[float] | None = None) -> dict[str, float]:
    """All figures of one picture by the estimated mask: those of `backdrop` and `placement`, `edge_sharpness`, and
    `colour_error` if there is a reference."""
    mask = product_mask(image)
    figures = {**backdrop(image), **placement(mask), 'edge_sharpness': edge_sharpness(image, mask)}
    return figures if reference is None else {**figures, 'colour_error': colour_error(image, mask, reference)}
