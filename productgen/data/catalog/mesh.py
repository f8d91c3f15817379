"""Surfaces: every part of a product is a grid of points, made by a handful of constructions.

Axes: x to the right, y up, z towards the camera; a product is about one unit large. `lod` is the number of segments
around a full circle: it sets how finely a surface is sampled and never which surface it is.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

CELL = 0.12  # edge of one pattern cell, in product units


@dataclasses.dataclass(frozen=True)
class Part:
    """A grid of points with a surface finish.

    Attributes:
      points: [M, N, 3]; rows run along the profile, columns around it. Seen from outside, rows go up and columns to
        the left.
      uv: [M, N, 2] pattern coordinates in cells; integer around closed surfaces, so that patterns meet at the seam.
      slot: name of the finish, see `shading.finishes`.
      occlusion: [M, N] fraction of the surrounding light that arrives, 0..1.
      closed: the last column repeats the first.
      hollow: the inside can be seen, so faces that look away are drawn too.
      lift: how much nearer to the camera the part counts when faces are sorted, for trimmings that lie on another part.
    """

    points: np.ndarray
    uv: np.ndarray
    slot: str
    occlusion: np.ndarray
    closed: bool = True
    hollow: bool = False
    lift: float = 0.0

    def moved(self, offset=(0.0, 0.0, 0.0), **changes) -> Part:
        """The part shifted by `offset`, with other fields replaced."""
        return dataclasses.replace(self, points=self.points + np.asarray(offset), **changes)

    def warped(self, function) -> Part:
        """The part with new coordinates `function(x, y, z) -> (x, y, z)`, each [M, N]."""
        return dataclasses.replace(self, points=np.stack(function(*np.moveaxis(self.points, -1, 0)), -1))

    def normals(self) -> np.ndarray:
        """Unit normals [M, N, 3] from central differences; averaged across the seam of a closed part."""
        p = self.points
        rows = _slope(p.transpose(2, 0, 1)).transpose(1, 2, 0)
        columns = _slope(p.transpose(2, 1, 0)).transpose(2, 1, 0)
        normal = _cross(rows, columns)
        if self.closed:
            normal[:, 0] = normal[:, -1] = normal[:, 0] + normal[:, -1]
        return _unit(normal)


def _slope(a: np.ndarray) -> np.ndarray:
    """Differences along axis 1 of [3, M, N], central inside and one-sided at the ends."""
    slope = np.empty_like(a)
    slope[:, 1:-1] = a[:, 2:] - a[:, :-2]
    slope[:, 0], slope[:, -1] = 2 * (a[:, 1] - a[:, 0]), 2 * (a[:, -1] - a[:, -2])
    return slope


def spline(controls, lod: int) -> np.ndarray:
    """Quadratic B-spline [n, D] through the ends of `controls` [k, D]; a repeated control point sharpens the corner."""
    p = np.asarray(controls, float)
    p = np.concatenate([p[:1], p, p[-1:]])
    spans = len(p) - 2
    steps = max(2, lod // 10)
    t = np.arange(spans * steps + 1) / steps
    i = np.minimum(t.astype(int), spans - 1)
    f = (t - i)[:, None]
    return 0.5 * (1 - f) ** 2 * p[i] + (0.5 + f * (1 - f)) * p[i + 1] + 0.5 * f**2 * p[i + 2]


def _unit(a: np.ndarray) -> np.ndarray:
    return a / np.maximum(np.sqrt((a * a).sum(-1, keepdims=True)), 1e-12)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product along the last axis; much faster than `np.cross` on small arrays."""
    return a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]


def _rise(rows: np.ndarray) -> np.ndarray:
    """Arc length [M] along a polyline [M, D]."""
    step = rows[1:] - rows[:-1]
    return np.concatenate([[0.0], np.cumsum(np.sqrt((step * step).sum(1)))])


@functools.lru_cache
def _section(sides: int, power: float) -> np.ndarray:
    """A closed superellipse of half axes 1, [2, `sides` + 1], from the back over the right; read-only."""
    theta = (np.arange(sides + 1) * (2 / sides) - 0.5) * np.pi
    if power > 4:
        theta += 0.2 * np.sin(4 * theta)  # more samples at the corners
    outline = np.stack([np.cos(theta), np.sin(theta)])
    outline /= (np.abs(outline) ** power).sum(0) ** (1 / power)
    outline.flags.writeable = False
    return outline


def _part(points, length, slot, shade, **flags) -> Part:
    """A part whose pattern has whole cells around its middle row and runs along `length` [M]."""
    m, n, _ = points.shape
    around = _rise(points[m // 2])
    uv = np.empty((m, n, 2))
    uv[..., 0] = around / max(around[-1], 1e-9) * 2 * max(1, round(around[-1] / CELL / 2))
    uv[..., 1] = (length / CELL)[:, None]
    light = np.interp(np.arange(m) * ((len(shade) - 1) / (m - 1)), np.arange(len(shade)), shade)
    return Part(points, uv, slot, np.repeat(light[:, None], n, 1), **flags)


def loft(rows, lod: int, slot: str = 'body', power: float = 2.0, shade=(1.0, 1.0), hollow: bool = False) -> Part:
    """A closed skin over horizontal sections.

    Args:
      rows: control rows `(y, rx, rz)` or `(y, rx, rz, cx, cz)`: height, half axes and centre of a section.
      power: exponent of the superellipse: 2 is an ellipse, 8 nearly a rectangle.
      shade: occlusion along the rows, interpolated linearly.
    """
    rows = spline(rows, lod)
    c, s = _section(lod, power)
    points = np.empty((len(rows), len(c), 3))
    points[..., 0] = rows[:, 1:2] * c
    points[..., 1] = rows[:, :1]
    points[..., 2] = rows[:, 2:3] * s
    if rows.shape[1] == 5:
        points[..., ::2] += rows[:, None, 3:]
    return _part(points, _rise(rows[:, :2]), slot, shade, hollow=hollow)


def lathe(profile, lod: int, slot: str = 'body', **options) -> Part:
    """A surface of revolution from control points `(radius, y)`; options as for `loft`."""
    return loft([(y, r, r) for r, y in profile], lod, slot, **options)


def ribbed(part: Part, count: int, depth: float, phase: float = 0.0, above: float | None = None) -> Part:
    """Waves of relative height `depth` around the axis of a part; they vanish towards the last row if `above` is given.

    Args:
      above: fraction of the rows, counted from the last, that have no waves.
    """
    m, n, _ = part.points.shape
    grow = 1.0 if above is None else np.clip((np.linspace(1, 0, m)[:, None] - above) / (1 - above), 0, 1)
    wave = 1 + depth * grow * np.sin(np.linspace(0, 2 * np.pi * count, n) + phase)
    return part.warped(lambda x, y, z: (x * wave, y, z * wave))


def tube(
    path,
    radius,
    lod: int,
    slot: str = 'plain',
    up=(0.0, 0.0, 1.0),
    flat: float = 1.0,
    shade=(1.0, 1.0),
    power: float = 2.0,
    hollow: bool = False,
) -> Part:
    """A pipe along control points `path` [k, 3].

    Args:
      radius: one radius, or one per control point.
      up: a direction the path never follows; the section is `flat` times as wide along it.
    """
    path = np.asarray(path, float)
    radius = np.broadcast_to(np.asarray(radius, float), len(path))
    rows = spline(np.concatenate([path, radius[:, None]], 1), lod)
    centre, r = rows[:, :3], rows[:, 3:]
    along = _unit(_slope(centre.T[..., None])[..., 0].T)
    side = _unit(_cross(along, np.asarray(up, float)))
    top = _cross(side, along)
    c, s = _section(max(6, lod // 2), power)
    points = centre[:, None] + (side * r)[:, None] * c[:, None] + (top * r * flat)[:, None] * s[:, None]
    return _part(points, _rise(centre), slot, shade, hollow=hollow)


def box(centre, size, lod: int, slot: str = 'body', round_: float = 0.02) -> Part:
    """A box with softened edges: `centre` [3], edge lengths `size` [3], edge radius `round_`."""
    w, h, d = np.asarray(size) / 2
    k = min(round_, 0.9 * w, 0.9 * h, 0.9 * d)
    rows = [
        (-h, 1e-3, 1e-3),
        (-h, w / 2, d / 2),
        (-h, w - k, d - k),
        (-h, w - k, d - k),
        (k - h, w, d),
        (h - k, w, d),
        (h, w - k, d - k),
        (h, w - k, d - k),
        (h, w / 2, d / 2),
        (h, 1e-3, 1e-3),
    ]
    part = loft(rows, max(16, lod // 8 * 8), slot, power=14.0)
    x, y, z = np.moveaxis(part.points, -1, 0)
    return part.moved(centre, uv=np.stack([x, y - z], -1) / CELL)  # patterns run straight over front and top


def disc(centre, radius: float, lod: int, slot: str, bulge: float = 0.0) -> Part:
    """A round plate that faces the camera, raised by `bulge` in the middle."""
    part = lathe([(radius, 0.0), (radius * 0.7, bulge * 0.7), (1e-3, bulge)], lod, slot)
    return part.warped(lambda x, y, z: (x, -z, y)).moved(centre)


def sheet(points, slot: str, shade=(1.0, 1.0)) -> Part:
    """A thin cloth over an explicit grid of points [M, N, 3], visible from both sides."""
    points = np.asarray(points, float)
    return _part(points, _rise(points[:, points.shape[1] // 2]), slot, shade, closed=False, hollow=True)
