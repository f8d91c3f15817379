"""Where the product of a photo is, on a small copy and without a network: from a plain ground's colour, or by GrabCut.

An estimator is a function of a small picture, float32 [h, w, 3] in [0, 1], that returns an `Estimate`; a network can
take the place of those of `ESTIMATORS`. `productgen.edit.refine` brings the mask to the size of the photo.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

from productgen.core.pixels import eight_bits
from productgen.metrics.colour import lab

SIDE = 400  # longer side of the copy that estimators are given
SURE = 0.5  # certainty below which a cut-out should be looked at

_FRAME = 0.03  # width of the border that shows the ground, as a fraction of the shorter side
_NEAR = 6.0  # Lab units from the ground's field within which a border pixel is ground
_PLAIN = 0.7  # least fraction of such border pixels where the ground is plain
_FITS = 25  # reweighted least squares; the fit has converged long before
_CLEAN = 1.0  # median distance of the border from its field, below which the ground is a studio's
_FAINT = 0.15  # of the product's distance from the ground, which around it is none of its own
_SHADOW = 35.0  # how much darker than the ground a soft shadow may be, in L
_GAP = 0.01  # half the width of gaps in an outline that are closed, as a fraction of the longer side
_CHROMA = 4.0  # how far the hue of a shadow may be from the ground's, in a and b
_PENUMBRA = 2.5  # pixels over which half of a shadow's edge goes, at least; an outline is sharper
_PART = 0.02  # smallest part of a product, relative to its largest one
_CLUSTERS = 5  # colours of the border of a photo whose ground is not plain
_EIGHT = np.ones((3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What an estimator found.

    Attributes:
      mask: float32 [h, w], how much of each pixel is product, 0 to 1.
      certainty: 0 to 1; below `SURE` it may well be wrong.
      reason: what makes it uncertain; empty where nothing does.
    """

    mask: np.ndarray
    certainty: float
    reason: str = ''


Estimator = Callable[[np.ndarray], Estimate]


def frame(height: int, width: int) -> np.ndarray:
    """bool [h, w], true in the border that is taken to show the ground."""
    n = max(1, round(_FRAME * min(height, width)))
    found = np.ones((height, width), bool)
    found[n:-n, n:-n] = False
    return found


def ground_field(colours: np.ndarray) -> tuple[np.ndarray, float]:
    """The empty ground behind a product: a polynomial of second order in x and y, fitted to the border.

    Iteratively reweighted least squares with Cauchy weights, whose scale goes from wide to narrow, so that a product
    may cover less than half of the border. Of second order, since light falls off from where a lamp is.

    Args:
      colours: Lab [h, w, 3].

    Returns:
      Lab [h, w, 3], and the fraction of border pixels within `_NEAR` units of it.
    """
    height, width = colours.shape[:2]
    edge = frame(height, width)
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (height, width))
    y, x = np.meshgrid(y, x, indexing='ij')
    terms = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], -1)
    design, observed = terms[edge], colours[edge].astype(np.float64)
    # A little of a ridge: what a border that is mostly covered does not show stays flat.
    ridge = np.diag(np.sqrt(1e-2 * len(design) * np.array([0, 1, 1, 4, 4, 4])))
    fit = np.zeros((6, 3))
    fit[0] = np.median(observed, 0)
    for scale in np.geomspace(20, 2, _FITS):
        root = (1 + np.square(observed - design @ fit).sum(1, keepdims=True) / scale**2) ** -0.5
        rows = np.concatenate([root * design, ridge])
        fit = np.linalg.lstsq(rows, np.concatenate([root * observed, np.zeros((6, 3))]), rcond=None)[0]
    field = terms @ fit
    return field, float(np.mean(np.linalg.norm(observed - field[edge], axis=-1) < _NEAR))


def plain(picture: np.ndarray) -> Estimate:
    """What differs from a plain ground, see `ground_field`.

    Ground is what can be reached from the border without a step: pixels of the ground's colour, and darker ones of its
    hue, as in a soft shadow, up to where the colour changes within a pixel or two. So a white product on white is found
    where its outline shows. What is enclosed and has the ground's own colour is a hole. The pixels next to the ground
    have the fraction that their distance from it has of the largest distance nearby.

    Args:
      picture: float32 [h, w, 3] in [0, 1].
    """
    return _on_plain(picture)[0]


def _on_plain(picture: np.ndarray) -> tuple[Estimate, bool]:
    """`plain`, and whether the ground is as even as a studio's."""
    colours = lab(picture)
    field, inside = ground_field(colours)
    edge = frame(*colours.shape[:2])
    offset = cv2.GaussianBlur((colours - field).astype(np.float32), (0, 0), 0.7)
    distance = np.linalg.norm(offset, axis=-1)
    near = edge & (distance < _NEAR)
    noise = float(np.median(distance[near])) if near.any() else _NEAR
    slope = np.sqrt(sum(np.square(part).sum(-1) for part in _gradients(offset)))
    step = max(1.5, 4 * float(np.median(slope[near])) if near.any() else 0)  # Lab units a pixel that are an outline
    level = max(2.5, 4 * noise)  # distance that is no ground
    # A shadow scales linear light, which scales a and b with L; its edge is the wider the deeper it is.
    dark = np.minimum(offset[..., 0], 0)
    scaled = offset[..., 1:] - field[..., 1:] * (dark / np.maximum(field[..., 0], 1))[..., None]
    hue = np.linalg.norm(scaled, axis=-1) < max(_CHROMA, level)
    smooth = hue & (slope < np.maximum(step, -dark / _PENUMBRA))
    smooth &= (offset[..., 0] < max(_NEAR, level)) & (dark > -_SHADOW)
    same = (distance < level) & hue
    # Through gaps of an outline that are narrower than this nothing is reached.
    gap = max(1, round(_GAP * max(edge.shape)))
    open_ = smooth | (same & (slope < 2 * step))
    wide = ndimage.distance_transform_cdt(np.pad(open_, 1, mode='edge'), 'chessboard')[1:-1, 1:-1] > gap
    ground = _reached(wide, edge & same) | (edge & same)
    ground = (open_ | same) & ndimage.binary_dilation(ground, _EIGHT, gap + 1)
    # What lies in a hole is compared with the ground nearby, which tells more of it than the border.
    local = offset - _spread(offset, ground & (distance < _NEAR))
    seen = np.linalg.norm(local, axis=-1) < level
    ground |= _holes(seen & ~ground, ~ground, local, distance, level)
    # Faint lines, such as the joints of a table: a thin part of a product has to differ clearly.
    thin = ~ground & ~ndimage.binary_opening(~ground, _EIGHT, 2)
    product = _parts(~(ground | (thin & (distance < 2 * level))), distance > 2 * level)
    # The outline lies where the distance is half of that of the product next to it; what is faint next to it is what
    # JPEG and blur leave around it.
    share = lambda side: distance / np.maximum(ndimage.maximum_filter(np.where(product, distance, 0), side), level)
    outer = ndimage.binary_dilation(~product, _EIGHT, gap + 2)
    product &= ~_reached(~product | (outer & (share(2 * gap + 5) < _FAINT)), ~product)
    rim = product & ndimage.binary_dilation(~product, _EIGHT, 2)
    mask = np.where(rim, np.clip(share(5) * 1.25 - 0.125, 0, 1), product).astype(np.float32)
    # Outlines that lie in what was taken for ground may be those of a product that it was reached through.
    far = ~ndimage.binary_dilation(product, _EIGHT, gap + 4) & ~edge
    stray = np.count_nonzero(far & ~open_) / max(1, np.count_nonzero(rim))
    return _judged(mask, distance, level, noise, inside, stray, edge), noise < _CLEAN and inside > _PLAIN


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Means of known values [h, w, C] nearby, everywhere, by a normalised convolution; 0 where none is near."""
    sigma = max(known.shape) / 12
    blur = lambda x: cv2.GaussianBlur(np.ascontiguousarray(x, np.float32), (0, 0), sigma)
    weight = blur(known)[..., None]
    return blur(values * known[..., None]) / np.maximum(weight, 1e-3)


def _gradients(values: np.ndarray) -> list[np.ndarray]:
    """Central differences down and across, [h, w, C] each; those along a side of one pixel are 0."""
    return [cv2.Scharr(values, cv2.CV_32F, *d, scale=1 / 32, borderType=cv2.BORDER_REPLICATE) for d in ((0, 1), (1, 0))]


def _reached(allowed: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The pixels of `allowed` that are connected to `start`, both bool [h, w]."""
    label, count = ndimage.label(allowed)
    keep = np.zeros(count + 1, bool)
    keep[np.unique(label[start])] = True
    keep[0] = False
    return keep[label]


def _holes(same: np.ndarray, product: np.ndarray, offset: np.ndarray, distance: np.ndarray, level: float) -> np.ndarray:
    """Enclosed pixels that show the ground through the product, bool [h, w].

    A hole has the colour of the ground on average, and a rim that does not; a white label on a white ground has most
    often a slight tint, and a body that is white all over a faint rim.
    """
    label, count = ndimage.label(same)
    holes = np.zeros(same.shape, bool)
    for i, place in enumerate(ndimage.find_objects(label), 1):
        grown = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in place)
        part = label[grown] == i
        area = np.count_nonzero(part)
        if area < max(6, 1e-4 * same.size):
            continue
        tint = np.linalg.norm(offset[grown][part].mean(0))
        rim = ndimage.binary_dilation(part, _EIGHT, 4) & ~part & product[grown]
        if tint < 0.6 * level and rim.any() and np.median(distance[grown][rim]) > 2 * level:
            holes[grown] |= part
    return holes


def _parts(found: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """`found` without specks and without parts that nowhere differ clearly, where others do; bool [h, w]."""
    label, count = ndimage.label(found, _EIGHT)
    areas = np.bincount(label.ravel(), minlength=count + 1)
    areas[0] = 0
    clear = np.bincount(label.ravel(), strong.ravel(), minlength=count + 1) > 0.05 * areas
    if clear[1:].any():
        areas[~clear] = 0
    return ((areas >= _PART * areas.max()) & (areas > max(3, 2e-4 * found.size)))[label]


def _judged(
    mask: np.ndarray,
    distance: np.ndarray,
    level: float,
    noise: float,
    inside: float,
    stray: float,
    edge: np.ndarray,
) -> Estimate:
    """The certainty of a mask on a plain ground."""
    product = mask > 0.5
    if not product.any():
        return Estimate(mask, 0.0, 'nothing stands out from the ground')
    # How much of the outline is clear: three times as far from the ground as what is no ground.
    rim = product & ndimage.binary_dilation(~product, _EIGHT, 4)
    contrast = float(np.mean(distance[rim] > 3 * level)) if rim.any() else 0.0
    # White on white is to be expected in a studio, but joints of tiles enclose ground too.
    alike, most = float(np.mean(distance[product] < level)), (0.7 if noise < _CLEAN else 0.3)
    figures = {
        'much of what was found has the colour of the ground': np.clip((most - alike) / 0.3, 0, 1),
        'there are outlines in what was taken for the ground': np.clip((0.12 - stray) / 0.1, 0, 1),
        'the ground is not plain': np.clip((inside - 0.55) / 0.3, 0, 1),
        'the product hardly differs from the ground': np.clip((contrast - 0.65) / 0.3, 0, 1),
        **_frame_figures(product, edge),
    }
    return _estimate(mask, figures)


def _frame_figures(product: np.ndarray, edge: np.ndarray) -> dict[str, float]:
    area, cut = product.mean(), product[edge].mean()
    return {
        'hardly anything was found': np.clip(area / 0.01, 0, 1),
        'nearly all of the photo was taken for the product': np.clip((0.95 - area) / 0.15, 0, 1),
        'much of the border was taken for the product': np.clip((0.75 - cut) / 0.4, 0, 1),
    }


def _estimate(mask: np.ndarray, figures: dict[str, float]) -> Estimate:
    worst = min(figures, key=figures.get)
    certainty = float(np.prod(list(figures.values())))
    return Estimate(mask, certainty, worst if certainty < SURE else '')


def saliency(picture: np.ndarray) -> np.ndarray:
    """How likely a pixel is product before anything is known of it, float32 [h, w] in [0, 1].

    The distance in Lab to the nearest of the border's main colours, times a Gaussian around the middle: what is in a
    photo's middle and has colours that its border has not.
    """
    colours = cv2.GaussianBlur(lab(picture).astype(np.float32), (0, 0), 1.5)
    height, width = colours.shape[:2]
    seen = colours[frame(height, width)]
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    count = min(_CLUSTERS, len(seen))
    _, label, centres = cv2.kmeans(seen, count, None, stop, 2, cv2.KMEANS_PP_CENTERS)
    # A colour that is in little of the border may be the product's, which a photo cuts.
    weight = np.bincount(label.ravel(), minlength=count) / len(seen)
    centres = centres[weight >= min(0.08, weight.max())]
    apart = np.linalg.norm(colours[..., None, :] - centres, axis=-1).min(-1)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    middle = np.exp(-(x**2 + y**2) / (2 * 0.55**2))
    found = np.clip(apart / 40, 0, 1) * 0.6 + 0.4
    return (found * middle * np.clip(apart / 12 + 0.3, 0, 1)).astype(np.float32)


def grabcut(picture: np.ndarray) -> Estimate:
    """GrabCut started from `saliency`: for grounds that are not plain.

    Rother, Kolmogorov, Blake, "GrabCut: interactive foreground extraction using iterated graph cuts", SIGGRAPH 2004, as
    OpenCV has it, from two starts: a narrow and a wide one. The mask is that of the first; how far the second agrees
    is part of the certainty.

    Args:
      picture: float32 [h, w, 3] in [0, 1].
    """
    height, width = picture.shape[:2]
    if min(height, width) < 8:
        return Estimate(np.ones((height, width), np.float32), 0.0, 'the photo is too small')
    likely, edge = saliency(picture), frame(height, width)
    values, found = eight_bits(picture)[..., ::-1].copy(), []
    for fraction in (0.6, 0.75):
        start = np.where(likely > np.quantile(likely, fraction), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        start[likely > np.quantile(likely, 0.97)] = cv2.GC_FGD
        start[edge & (likely < np.quantile(likely[edge], 0.8))] = cv2.GC_BGD
        cv2.setRNGSeed(0)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        mask, *_ = cv2.grabCut(values, start, None, *models, 4, cv2.GC_INIT_WITH_MASK)
        found.append(_tidy((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)))
    product, other = found
    agreement = _overlap(product, other)
    figures = {
        'product and ground have similar colours': np.clip((_separable(lab(picture), product) - 0.55) / 0.35, 0, 1),
        'another start gives another product': np.clip((agreement - 0.4) / 0.4, 0, 1),
        **_frame_figures(product, edge),
    }
    return _estimate(product.astype(np.float32), figures)


def _tidy(product: np.ndarray) -> np.ndarray:
    """A mask without specks and pinholes, and with smooth outlines; bool [h, w]."""
    size = max(3, round(0.012 * max(product.shape)) | 1)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    mask = cv2.morphologyEx(product.astype(np.uint8), cv2.MORPH_CLOSE, disk)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disk)
    label, count = ndimage.label(mask, _EIGHT)
    areas = np.bincount(label.ravel(), minlength=count + 1)
    areas[0] = 0
    kept = (areas >= 0.1 * max(1, areas.max()))[label]
    holes, count = ndimage.label(~kept)
    areas = np.bincount(holes.ravel(), minlength=count + 1)
    return kept | (areas < 0.003 * kept.size)[holes]


def _separable(colours: np.ndarray, product: np.ndarray) -> float:
    """The fraction of pixels near the outline whose colour, of 8 x 8 x 8 bins, tells the side that they are on."""
    reach = max(2, round(0.08 * max(product.shape)))
    near = ndimage.distance_transform_edt(product) + ndimage.distance_transform_edt(~product) <= reach
    if not product.any() or product.all():
        return 0.0
    low, high = colours[near].min(0), colours[near].max(0)
    bins = ((colours - low) / np.maximum(high - low, 1e-6) * 7.999).clip(0, 7).astype(int) @ (64, 8, 1)
    inner, outer = (np.bincount(bins[near & side], minlength=512) for side in (product, ~product))
    # An even guess is right for a half.
    right = np.maximum(inner / max(1, inner.sum()), outer / max(1, outer.sum())).sum() / 2
    return 2 * right - 1


def automatic(picture: np.ndarray) -> Estimate:
    """`plain` where the ground is even, as a studio's; elsewhere the more certain of `plain` and `grabcut`.

    What hardly differs from an even ground is found by its outline, of which colours know nothing. On other grounds the
    two err in different ways (joints of tiles and hard shadows, likeness of colours), so that their agreement is part
    of the certainty.
    """
    first, studio = _on_plain(picture)
    if studio:
        return first
    second = grabcut(picture)
    best = first if first.certainty > second.certainty else second
    if min(first.certainty, second.certainty) < SURE:  # one of them is known to be wrong, and tells nothing
        return best
    agreement = _overlap(first.mask > 0.5, second.mask > 0.5)
    figures = {
        'estimates by distance and by colours differ': np.clip((agreement - 0.7) / 0.2, 0, 1),
        '': best.certainty,
    }
    return _estimate(best.mask, figures)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks, bool [h, w]; 0 where both are empty."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


ESTIMATORS: dict[str, Estimator] = {'auto': automatic, 'plain': plain, 'grabcut': grabcut}
