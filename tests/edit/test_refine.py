"""Refinement of masks and colours of soft edges against exact composites and formulas in float64."""

import cv2
import numpy as np
import pytest

from productgen.edit import refine
from productgen.edit.foreground import foreground
from productgen.edit.refine import guided_filter, refined

DRAW = np.random.default_rng(0)
BACK, FRONT = np.array([0.95, 0.93, 0.9], np.float32), np.array([0.7, 0.15, 0.1], np.float32)


def composite(alpha, front=FRONT, back=BACK):
    return (alpha[..., None] * front + (1 - alpha[..., None]) * back).astype(np.float32)


def slanted(height, width, slope=0.3, soft=2.0):
    """A half plane with a straight edge, and how far each pixel is from it."""
    y, x = np.mgrid[:height, :width]
    away = (x - width / 2 - slope * (y - height / 2)) / np.hypot(1, slope)
    return np.clip(away / soft + 0.5, 0, 1).astype(np.float32), away


def small(alpha, factor):
    return cv2.resize(alpha, (alpha.shape[1] // factor, alpha.shape[0] // factor), interpolation=cv2.INTER_AREA)


def test_the_guided_filter_is_its_formula():
    """Window by window, with matrices that NumPy inverts."""
    radius, epsilon, guide, values = 2, 1e-3, DRAW.uniform(size=(12, 15, 3)), DRAW.uniform(size=(12, 15))
    pad = [(2 * radius, 2 * radius)] * 2
    guide_, values_ = np.pad(guide, [*pad, (0, 0)], 'symmetric'), np.pad(values, pad, 'symmetric')
    size = (12 + 2 * radius, 15 + 2 * radius)
    slopes, offsets = np.zeros((*size, 3)), np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            colours = guide_[y : y + 5, x : x + 5].reshape(-1, 3)
            level = values_[y : y + 5, x : x + 5].ravel()
            spread = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
            cross = (colours * level[:, None]).mean(0) - colours.mean(0) * level.mean()
            slopes[y, x] = np.linalg.inv(spread) @ cross
            offsets[y, x] = level.mean() - slopes[y, x] @ colours.mean(0)
    expected = np.zeros((12, 15))
    for y in range(12):
        for x in range(15):
            window = slice(y, y + 5), slice(x, x + 5)
            expected[y, x] = slopes[window].mean((0, 1)) @ guide[y, x] + offsets[window].mean()
    inside = slice(2, -2), slice(2, -2)  # windows beyond a border mirror slopes, not colours
    np.testing.assert_allclose(guided_filter(guide, values, radius, epsilon)[inside], expected[inside], atol=1e-5)


@pytest.mark.parametrize('factor', [1, 2, 5, 8])
def test_edges_are_found_again(factor):
    truth, away = slanted(200, 240)
    picture = composite(truth) + DRAW.normal(0, 0.004, (200, 240, 3)).astype(np.float32)
    rough = small(truth, factor)
    found = refined(picture, rough)
    naive = cv2.resize(rough, (240, 200), interpolation=cv2.INTER_LINEAR)
    inner = slice(10, -10)
    assert np.abs(found - truth)[inner].mean() < 0.002
    if factor > 2:
        assert np.abs(found - truth)[inner].mean() < 0.3 * np.abs(naive - truth)[inner].mean()
    far = np.abs(away) > 12 * factor
    assert np.array_equal(found[far], truth[far])


def test_straight_and_thin_stays_straight_and_thin():
    truth, _ = slanted(200, 240, 0.2, 1.0)
    _, away = slanted(200, 240, -0.4)
    truth = np.maximum(truth, np.clip(4.5 - np.abs(away + 40), 0, 1)).astype(np.float32)
    found = refined(composite(truth), small(truth, 4))
    assert np.abs(found - truth).max() < 0.35 and np.abs(found - truth).mean() < 0.003


def test_no_veil():
    """Far from the edge alpha is exactly 0 or 1, over texture too."""
    truth, away = slanted(200, 240)
    texture = np.clip(BACK + DRAW.normal(0, 0.1, (200, 240, 3)), 0, 1)
    found = refined(composite(truth, FRONT, texture), small(truth, 4))
    assert set(np.unique(found[np.abs(away) > 40])) == {0, 1}


def test_tiles_equal_the_whole(monkeypatch):
    truth, _ = slanted(300, 280)
    picture, rough = composite(truth) + DRAW.normal(0, 0.02, (300, 280, 3)).astype(np.float32), small(truth, 4)
    parts = refined(picture, rough)
    monkeypatch.setattr(refine, '_TILES', (400,))
    np.testing.assert_allclose(parts, refined(picture, rough), atol=1e-5)


@pytest.mark.parametrize('shape', [(1, 1), (1, 37), (37, 1), (3, 900)])
def test_every_size(shape):
    picture = DRAW.uniform(size=(*shape, 3)).astype(np.float32)
    rough = DRAW.uniform(size=tuple(max(1, side // 3) for side in shape)).astype(np.float32)
    alpha = refined(picture, rough)
    assert alpha.shape == shape and 0 <= alpha.min() <= alpha.max() <= 1
    colours = foreground(picture, alpha)
    assert colours.shape == picture.shape and np.isfinite(colours).all()


def soft_scene():
    y, x = np.mgrid[:120, :130]
    alpha = np.clip((40 - np.hypot(y - 60, x - 65)) / 12 + 0.5, 0, 1).astype(np.float32)
    front = np.stack([0.5 + 0.3 * np.sin(x / 25), 0.3 + 0.1 * np.cos(y / 20), 0.2 + 0 * x], -1).astype(np.float32)
    return alpha, front, composite(alpha, front, np.array([0.1, 0.8, 0.3], np.float32))


def test_colours_of_soft_edges():
    alpha, front, picture = soft_scene()
    found = foreground(picture, alpha)
    soft = (alpha > 0.1) & (alpha < 1)
    error, naive = (np.abs(x - front)[soft].mean() for x in (found, picture))
    assert error < 0.25 * naive and error < 0.03
    assert np.array_equal(found[alpha == 1], picture[alpha == 1])
    again = alpha[..., None] * (found - front)  # on a new ground
    assert np.abs(again).max() < 0.08


def test_the_equation_of_colours():
    """F and B of a small picture minimise their cost: the least squares that NumPy solves."""
    alpha = DRAW.uniform(0.05, 0.95, (4, 5)).astype(np.float32)
    picture = DRAW.uniform(0.3, 0.7, (4, 5, 3)).astype(np.float32)
    count, rows, targets = 20, [], []
    place = np.arange(count).reshape(4, 5)
    for i, a in zip(place.ravel(), alpha.ravel(), strict=True):
        row = np.zeros(2 * count)
        row[i], row[count + i] = a, 1 - a
        rows.append(row)
        targets.append(picture.reshape(-1, 3)[i])
    pairs = [*zip(place[1:].ravel(), place[:-1].ravel(), strict=True)]
    pairs += [*zip(place[:, 1:].ravel(), place[:, :-1].ravel(), strict=True)]
    for i, j in pairs:
        for part in (0, count):
            row = np.zeros(2 * count)
            weight = 1e-5 + abs(float(alpha.flat[i]) - float(alpha.flat[j]))
            row[part + i], row[part + j] = np.sqrt(weight), -np.sqrt(weight)
            rows.append(row)
            targets.append(np.zeros(3))
    exact = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0][:count].reshape(4, 5, 3)
    from productgen.edit import foreground as module

    front, back = picture.copy(), picture.copy()
    module._solve(front, back, picture, alpha, (-9, 9), 3000)
    np.testing.assert_allclose(front, exact, atol=2e-3)


def test_colours_beyond_srgb_stay():
    alpha, _, picture = soft_scene()
    picture = picture * 1.3 - 0.1
    found = foreground(picture, alpha)
    assert np.array_equal(found[alpha == 1], picture[alpha == 1]) and found.min() >= picture.min() - 1e-6
