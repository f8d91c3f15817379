"""Mattes of small pictures against the catalog's exact masks and drawn ones: plain grounds, GrabCut, certainty."""

import cv2
import numpy as np
import pytest

from productgen.data.catalog import Catalog
from productgen.edit import matte
from productgen.edit.matte import ESTIMATORS, SURE, Estimate, automatic, grabcut, plain

SIDE = 160


def disk(middle, radius, side=SIDE, soft=1.0):
    """How much of each pixel a disk covers, float32 [side, side]."""
    y, x = np.mgrid[:side, :side]
    return np.clip((radius - np.hypot(y - middle[0], x - middle[1])) / soft + 0.5, 0, 1).astype(np.float32)


def over(alpha, product, ground):
    alpha = alpha[..., None]
    return (alpha * np.asarray(product, np.float32) + (1 - alpha) * np.asarray(ground, np.float32)).astype(np.float32)


def noisy(picture, sigma=0.004, seed=0):
    return np.clip(picture + np.random.default_rng(seed).normal(0, sigma, picture.shape), 0, 1).astype(np.float32)


def iou(mask, truth):
    one, other = mask > 0.5, truth > 0.5
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


def lit():
    """A ground [SIDE, SIDE, 3] that falls off from a lamp, by a fifth."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return (0.95 - 0.1 * ((x - 0.4) ** 2 + (y + 0.5) ** 2) / 2)[..., None] * np.array([1, 0.99, 0.97])


def test_catalog():
    """Most mattes on plain grounds are certain, and those are right; wood with a horizon is uncertain or right."""
    catalog, plain_ones, certain = Catalog((200, 200), 14 * 4 * 4), 0, []
    for i in range(0, len(catalog), 25):
        found = plain(np.asarray(catalog[i]['image'], np.float32) / 255)
        plain_ones += catalog.item(i).background != 'wood'
        if found.certainty >= SURE:
            certain.append(iou(found.mask, catalog[i]['mask'][..., 0] / 255))
    assert plain_ones == 8 and len(certain) >= 8
    assert np.mean(certain) > 0.95 and np.median(certain) > 0.965 and min(certain) > 0.9


@pytest.mark.parametrize('color', [(0.7, 0.1, 0.1), (0.05, 0.05, 0.05), (0.45, 0.47, 0.5), (0.2, 0.4, 0.7)])
def test_a_ground_whose_light_falls_off_is_plain_and_has_no_veil(color):
    truth = disk((80, 84), 45)
    found = plain(noisy(over(truth, color, lit())))
    assert found.certainty >= SURE and not found.reason
    assert np.abs(found.mask - truth).mean() < 0.005
    far = cv2.dilate(truth, np.ones((9, 9))) == 0
    assert not found.mask[far].any() and found.mask[cv2.erode(truth, np.ones((7, 7))) == 1].min() == 1


def test_edges_are_soft():
    truth = disk((80, 80), 40, soft=3.0)
    found = plain(over(truth, (0.1, 0.3, 0.2), (1, 1, 1)))
    assert np.abs(found.mask - truth).max() < 0.45 and np.abs(found.mask - truth).mean() < 0.01


def test_holes_stay_and_labels_stay():
    ring = disk((80, 80), 50) - disk((80, 80), 38)
    found = plain(noisy(over(ring, (0.8, 0.6, 0.1), lit())))
    assert iou(found.mask, ring) > 0.95 and not found.mask[70:90, 70:90].any()
    body, label = disk((80, 80), 50), disk((80, 80), 20)
    picture = over(label, (0.93, 0.9, 0.84), over(body, (0.1, 0.4, 0.2), (1, 1, 1)))
    assert iou(plain(noisy(picture)).mask, body) > 0.97


def test_thin_parts_stay_and_faint_lines_go():
    truth = disk((60, 80), 30)
    truth[88:150, 70:72] = truth[88:150, 90:93] = 1
    picture = over(truth, (0.2, 0.15, 0.1), (0.9, 0.9, 0.92))
    picture[20, :40] -= 0.02
    found = plain(noisy(picture, 0.002))
    assert found.mask[95:145, 70:72].mean() > 0.9 and found.mask[95:145, 90:93].mean() > 0.9
    assert not found.mask[15:25, :40].any()


def test_soft_shadows_are_ground():
    truth, shade = disk((70, 70), 40), cv2.GaussianBlur(disk((95, 100), 40), (0, 0), 9)
    ground = np.ones((SIDE, SIDE, 3)) * (0.95 - 0.25 * shade)[..., None]
    assert iou(plain(noisy(over(truth, (0.7, 0.2, 0.1), ground))).mask, truth) > 0.96


def test_white_on_white():
    """An outline and a slight tint are enough; without them nothing is found, and that is said."""
    truth = disk((80, 80), 50)
    outline = truth - disk((80, 80), 47)
    body = over(truth, (0.98, 0.98, 0.98), (1, 1, 1))
    found = plain(noisy(over(outline, (0.85, 0.85, 0.86), body), 0.002))
    assert iou(found.mask, truth) > 0.95
    for empty in (np.ones((SIDE, SIDE, 3), np.float32), noisy(lit())):
        found = automatic(empty)
        assert found.certainty < SURE and found.reason


def cluttered(seed=0):
    """Coarse and fine texture in browns, [SIDE, SIDE, 3]."""
    draw = np.random.default_rng(seed)
    coarse = cv2.resize(draw.uniform(-0.25, 0.25, (9, 9)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    tone = np.array([0.55, 0.4, 0.25]) + coarse[..., None] * np.array([1, 0.8, 0.6])
    return np.clip(tone + draw.normal(0, 0.05, (SIDE, SIDE, 1)), 0, 1)


def test_grabcut_finds_what_has_other_colours():
    truth = disk((85, 75), 45)
    picture = over(truth, (0.15, 0.3, 0.65), cluttered()).astype(np.float32)
    found = grabcut(picture)
    assert iou(found.mask, truth) > 0.95 and found.certainty >= SURE
    assert np.array_equal(found.mask, automatic(picture).mask)
    assert grabcut(cluttered(1).astype(np.float32)).certainty < SURE


def test_estimates_that_disagree_are_uncertain(monkeypatch):
    truth = disk((85, 75), 45)
    for other, sure in ((disk((85, 75), 44), True), (disk((85, 75), 30), False)):
        monkeypatch.setattr(matte, '_on_plain', lambda picture: (Estimate(truth, 0.9), False))
        monkeypatch.setattr(matte, 'grabcut', lambda picture, other=other: Estimate(other, 0.8))
        found = automatic(np.zeros((SIDE, SIDE, 3), np.float32))
        assert (found.certainty >= SURE) == sure == (not found.reason) and found.mask is truth


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (50, 1), (2, 3), (7, 9), (12, 400)])
@pytest.mark.parametrize('method', ESTIMATORS)
def test_every_size(shape, method):
    found = ESTIMATORS[method](np.random.default_rng(0).uniform(size=(*shape, 3)).astype(np.float32))
    assert found.mask.shape == shape and found.mask.dtype == np.float32
    assert 0 <= found.mask.min() <= found.mask.max() <= 1 and 0 <= found.certainty <= 1
    assert bool(found.reason) == (found.certainty < SURE)


def test_the_field_ignores_a_product_on_part_of_the_border():
    truth = np.zeros((SIDE, SIDE), np.float32)
    truth[60:, 40:120] = 1
    field, inside = matte.ground_field(matte.lab(over(truth, (0.1, 0.1, 0.4), lit())))
    assert np.abs(field - matte.lab(lit())).max() < 4 and 0.75 < inside < 0.95
