"""Things to carry and wear: bag, shoe, watch, sunglasses."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from productgen.data.catalog.household import pick
from productgen.data.catalog.mesh import Part, box, disc, loft, sheet, tube


def _arch(x: float, y: float, rise: float, z: float, bend: float = 1.0) -> list[tuple[float, float, float]]:
    """Path of a bag handle between (-x, y) and (x, y)."""
    return [
        (-x, y, z),
        (-x * bend, y + rise, z),
        (-x * 0.4 * bend, y + rise * 1.25, z),
        (x * 0.4 * bend, y + rise * 1.25, z),
        (x * bend, y + rise, z),
        (x, y, z),
    ]


def bag(rng: np.random.Generator, lod: int) -> list[Part]:
    form = pick(rng, 'tote', 'handbag', 'flap', 'duffel', 'backpack')
    metal, strap = pick(rng, 'gold', 'steel'), pick(rng, 'plain', 'plain', 'timber', 'dark')
    w, h, d = rng.uniform(0.36, 0.46), rng.uniform(0.55, 0.75), rng.uniform(0.13, 0.2)
    lod4 = max(16, lod // 8 * 8)
    if form == 'tote':
        rows = [
            (0, 1e-3, 1e-3),
            (0, w * 0.85, d * 0.8),
            (0, w * 0.9, d * 0.9),
            (0.05, w * 0.93, d),
            (h * 0.6, w, d * 0.8),
            (h, w * 1.04, d * 0.55),
        ]
        parts = [loft(rows, lod4, power=7.0, hollow=True)]
        rise = rng.uniform(0.22, 0.36)
        parts += [tube(_arch(w * 0.5, h * 0.85, rise, z * d * 0.75), 0.016, lod, strap, flat=0.6) for z in (1, -1)]
        return parts
    if form == 'duffel':
        body = loft(
            [
                (-0.5, 1e-3, 1e-3),
                (-0.5, 0.17, 0.17),
                (-0.5, 0.2, 0.2),
                (-0.42, 0.22, 0.22),
                (0.42, 0.22, 0.22),
                (0.5, 0.2, 0.2),
                (0.5, 0.17, 0.17),
                (0.5, 1e-3, 1e-3),
            ],
            lod,
            power=2.5,
        )
        parts = [body.warped(lambda x, y, z: (y, x + 0.22, -z))]
        for x in (-0.22, 0.22):
            parts.append(
                loft([(x - 0.025, 0.225, 0.225), (x + 0.025, 0.225, 0.225)], lod, strap, power=2.5)
                .warped(lambda a, y, z: (y, a + 0.22, -z))
                .moved(lift=0.04)
            )
        parts += [tube(_arch(0.22, 0.4, rng.uniform(0.12, 0.2), z, 0.9), 0.017, lod, strap) for z in (0.1, -0.1)]
        return parts
    if form == 'backpack':
        rows = [
            (0, 1e-3, 1e-3),
            (0, 0.26, 0.14),
            (0.02, 0.31, 0.18),
            (0.3, 0.32, 0.2),
            (0.65, 0.29, 0.18),
            (0.8, 0.24, 0.12),
            (0.86, 0.1, 0.05),
            (0.86, 1e-3, 1e-3),
        ]
        pocket = loft(
            [(0.06, 0.15, 0.02), (0.07, 0.21, 0.09), (0.3, 0.22, 0.1), (0.36, 0.19, 0.08), (0.38, 0.1, 0.02)],
            lod,
            pick(rng, 'plain', 'accent', 'body'),
            power=4,
        )
        zip_ = tube(
            [(-0.29, 0.5, 0.1), (-0.24, 0.66, 0.17), (0.24, 0.66, 0.17), (0.29, 0.5, 0.1)],
            0.008,
            lod,
            'dark',
            up=(0, 0.3, 1),
        ).moved(lift=0.15)
        parts = [
            loft(rows, lod, power=3.2),
            pocket.moved((0, 0, 0.14), lift=0.15),
            zip_,
            tube(_arch(0.07, 0.83, 0.09, -0.02), 0.016, lod, strap),
        ]
        parts += [
            tube(
                [(s * 0.2, 0.75, -0.14), (s * 0.37, 0.6, -0.16), (s * 0.36, 0.2, -0.16), (s * 0.25, 0.05, -0.14)],
                0.03,
                lod,
                strap,
                flat=0.5,
            )
            for s in (1, -1)
        ]
        return parts
    taper, h = rng.uniform(0.72, 1.02), h * (0.85 if form == 'handbag' else 0.72)
    rows = [
        (0, 1e-3, 1e-3),
        (0, w * 0.9, d * 0.85),
        (0, w * 0.96, d * 0.95),
        (0.04, w, d),
        (h * 0.5, w * (1 + taper) / 2, d * 0.9),
        (h * 0.95, w * taper, d * 0.55),
        (h, w * taper * 0.95, d * 0.4),
        (h, 1e-3, 1e-3),
    ]
    parts = [loft(rows, lod4, power=5.0)]
    rise, long = rng.uniform(0.2, 0.34), rng.uniform() < 0.4
    if form == 'handbag':
        parts += [tube(_arch(w * 0.42, h * 0.9, rise, z * d * 0.45), 0.02, lod, strap) for z in (1, -1)]
        parts += [disc((s * w * 0.42, h * 0.88, d * 0.62), 0.03, 10, metal, 0.015) for s in (1, -1)]
        parts.append(tube([(-w * taper * 0.9, h * 0.99, 0), (w * taper * 0.9, h * 0.99, 0)], 0.014, lod, metal))
    else:
        drop, k = h * rng.uniform(0.4, 0.62), rng.uniform(0.1, 0.6)
        x = np.linspace(1, -1, max(9, lod // 2))
        rows_y = np.linspace(0, 1, 8)[:, None]
        edge = 1 - k * np.abs(x) ** 2.5
        y = h * 1.02 - drop * rows_y * edge
        z = np.interp(y, (0, h * 0.5, h * 0.95, h * 1.02), (d, d * 0.92, d * 0.62, d * 0.35)) + 0.025
        flap = np.stack([w * np.interp(y, (0, h), (1, taper)) * 0.98 * x, y, z], -1)
        parts.append(sheet(flap[::-1], pick(rng, 'plain', 'body', 'accent')).moved(lift=0.3))
        parts.append(
            box(
                (0, h * 1.02 - drop, np.interp(h - drop, (0, h), (d, d * 0.62)) + 0.04),
                (0.09, 0.07, 0.03),
                16,
                metal,
                0.01,
            ).moved(lift=0.35)
        )
        slot = metal if long else strap
        parts.append(
            tube(
                _arch(w * taper * 0.9, h * 0.93, rise * (1.6 if long else 1.0), -0.02, 0.8),
                0.013 if long else 0.02,
                lod,
                slot,
            )
        )
    return parts


def _footprint(part: Part, toe: float, pointed: float) -> Part:
    """Turns the sections of a loft into foot outlines, toe to the left: a narrow heel, and a toe drawn to a point."""

    def warp(x, y, z):
        s = np.clip((0.5 - x) / 1.0, 0, 1)  # 0 at the heel, 1 at the toe
        width = 0.8 + 0.45 * np.sin(np.pi * np.clip(s, 0, 1) ** 1.4) - pointed * np.clip(s - 0.6, 0, 1) * 1.4
        return x, y + toe * np.clip(s - 0.7, 0, 1) ** 2, z * width

    return part.warped(warp)


def shoe(rng: np.random.Generator, lod: int) -> list[Part]:
    form = pick(rng, 'sneaker', 'sneaker', 'boot', 'pump', 'loafer')
    rise = {'sneaker': 0.02, 'boot': rng.uniform(0.03, 0.1), 'pump': rng.uniform(0.2, 0.36), 'loafer': 0.02}[form]
    sole = {'sneaker': rng.uniform(0.05, 0.1), 'boot': 0.045, 'pump': 0.018, 'loafer': 0.03}[form]
    pointed = {'sneaker': 0.05, 'boot': 0.3, 'pump': rng.uniform(0.5, 0.75), 'loafer': 0.35}[form]
    wide = 0.15 if form != 'pump' else 0.125

    def section(y, front, back, width=1.0):  # a horizontal cut from x = front (toe, left) to x = back (heel, right)
        return (y, (back - front) / 2, wide * width, (front + back) / 2, 0.0)

    if form == 'boot':
        tall, shaft = rng.uniform(0.55, 0.95), rng.uniform(0.28, 0.34)
        rows = [
            section(0, -0.5, 0.47),
            section(0.08, -0.52, 0.5, 1.05),
            section(0.16, -0.46, 0.49),
            section(0.22, -0.2, 0.47, 0.95),
            section(0.34, 0.02, 0.45, 0.85),
            section(tall * 0.7, 0.06, 0.12 + shaft, 0.95),
            section(tall, 0.04, 0.14 + shaft, 1.0),
        ]
    elif form == 'sneaker':
        tall = rng.uniform(0.34, 0.46)
        rows = [
            section(0, -0.5, 0.48),
            section(0.07, -0.53, 0.5, 1.06),
            section(0.15, -0.51, 0.5, 1.03),
            section(0.2, -0.4, 0.49, 0.96),
            section(0.24, -0.17, 0.475, 0.85),
            section(tall * 0.8, -0.02, 0.46, 0.7),
            section(tall, 0.03, 0.48, 0.62),
        ]
    elif form == 'loafer':
        rows = [
            section(0, -0.5, 0.48),
            section(0.05, -0.52, 0.5, 1.03),
            section(0.11, -0.46, 0.49),
            section(0.17, -0.25, 0.47, 0.85),
            section(0.21, -0.1, 0.47, 0.7),
        ]
    else:
        rows = [
            section(0, -0.5, 0.46),
            section(0.035, -0.51, 0.48, 1.03),
            section(0.07, -0.46, 0.48),
            section(0.1, -0.32, 0.47, 0.85),
            section(0.13, -0.26, 0.47, 0.72),
        ]
    upper = _footprint(loft(rows, lod, hollow=True, shade=(0.7, 1, 1, 1, 1)), 0.05, pointed)
    bottom = _footprint(
        loft(
            [
                section(-sole, -0.49, 0.47, 0.9),
                section(-sole, -0.52, 0.49),
                section(-sole * 0.4, -0.54, 0.515 if form != 'pump' else 0.47, 1.08 if form != 'pump' else 0.95),
                section(0.01, -0.53, 0.505 if form != 'pump' else 0.46, 1.05 if form != 'pump' else 0.9),
                section(0.02, -0.51, 0.48 if form != 'pump' else 0.45, 1.0 if form != 'pump' else 0.85),
            ],
            lod,
            {'sneaker': pick(rng, 'white', 'white', 'accent', 'timber'), 'pump': 'dark'}.get(
                form, pick(rng, 'dark', 'timber')
            ),
        ),
        0.05,
        pointed,
    )

    def arch(x, y, z):  # lifts the heel; the back of a pump also rises more than its front
        s = np.clip((x + 0.22) / 0.6, 0, 1)
        lift = rise * s * s * (3 - 2 * s)
        counter = 0.1 * np.clip((x - 0.2) / 0.25, 0, 1) * np.clip(y / 0.13, 0, 1) if form in ('pump', 'loafer') else 0.0
        if form == 'sneaker':  # the collar dips at the ankle
            counter = 0.07 * (((x - 0.25) / 0.22) ** 2 - 0.8) * np.clip((y - 0.2) / (tall - 0.2), 0, 1)
        return x, y + lift + counter, z

    parts = [bottom.warped(arch).moved(lift=0.25), upper.warped(arch)]
    if form == 'pump':
        thin = rng.uniform(0.014, 0.04)
        parts.append(
            tube(
                [(0.4, rise, 0), (0.41, rise * 0.6, 0), (0.42, -sole, 0)],
                (0.085, thin * 1.3, thin),
                lod,
                pick(rng, 'plain', 'dark'),
                up=(0, 0, 1),
            )
        )
    elif form == 'boot' or form == 'loafer':
        parts.append(
            loft(
                [
                    section(-sole - 0.05, 0.2, 0.48, 0.7),
                    section(-sole - 0.05, 0.2, 0.48, 0.72),
                    section(rise, 0.16, 0.49, 0.75),
                ],
                lod,
                'dark',
            )
        )
    skin = parts[1]
    if form == 'sneaker' or (form == 'boot' and rng.uniform() < 0.5):  # laces across the instep
        lace = pick(rng, 'white', 'dark', 'accent')
        parts += [_patch(skin, row, row + 0.04, 0.64, 0.86, lace) for row in np.linspace(0.5, 0.9, 4)]
    if form != 'pump' and rng.uniform() < 0.6:
        trim = pick(rng, 'accent', 'trim', 'white')
        parts += [_patch(skin, 0.0, 0.5, 0.64, 0.86, trim), _patch(skin, 0.0, 0.95, 0.2, 0.29, trim)]
    if form == 'sneaker' and rng.uniform() < 0.6:  # bars on both sides
        bars, lean = pick(rng, 1, 2, 3), rng.uniform(-0.1, 0.02)
        mark = pick(rng, 'accent', 'white', 'dark')
        for k in range(bars):
            at = 0.44 + 0.05 * k
            parts += [
                _patch(skin, 0.2, 0.8, at, at + 0.025, mark, lean),
                _patch(skin, 0.2, 0.8, 1.5 - at - 0.025, 1.5 - at, mark, -lean),
            ]
    return parts


def _patch(skin: Part, row0: float, row1: float, column0: float, column1: float, slot: str, lean: float = 0.0) -> Part:
    """A patch sewn onto a part of a skin, in fractions of its rows and columns; `lean` shears it along the columns."""
    m, n, _ = skin.points.shape
    rows = np.linspace(row0, row1, max(2, round((row1 - row0) * m) + 1)) * (m - 1)
    columns = np.linspace(column0, column1, max(4, round((column1 - column0) * n) + 1)) * (n - 1)
    columns = columns + (lean * (n - 1)) * np.linspace(0, 1, len(rows))[:, None]
    at = np.stack([np.repeat(rows[:, None], columns.shape[1], 1), columns % (n - 1)])
    raised = np.moveaxis(skin.points + 0.008 * skin.normals(), -1, 0)
    return sheet(
        np.stack([ndimage.map_coordinates(axis, at, order=1, mode='nearest') for axis in raised], -1), slot
    ).moved(lift=0.05)


def _needle(start: np.ndarray, end: np.ndarray, half: float, slot: str) -> Part:
    """A flat bar on the dial of a watch, `half` as wide to each side."""
    way = (end - start) / np.linalg.norm(end - start)
    side = half * np.array([way[1], -way[0], 0.0])
    return sheet([[start - side, start + side], [end - side, end + side]], slot).moved((0, 0, 0.05), lift=0.1)


def watch(rng: np.random.Generator, lod: int) -> list[Part]:
    form, r = pick(rng, 'round', 'round', 'round', 'square'), rng.uniform(0.24, 0.31)
    power, metal = (2.0 if form == 'round' else 7.0), pick(rng, 'steel', 'steel', 'gold', 'dark')
    face = pick(rng, 'white', 'dark', 'cream', 'accent')
    lod4 = max(16, lod // 8 * 8)
    aspect = 1.0 if form == 'round' else rng.uniform(1.0, 1.2)

    def plate(profile, slot):  # a flat loft that faces the camera
        part = loft([(y, x, x * aspect) for x, y in profile], lod4, slot, power=power)
        return part.warped(lambda x, y, z: (x, -z, y))

    rim = r * rng.uniform(0.78, 0.88)
    case = plate(
        [(r * 0.9, -0.06), (r, -0.04), (r, 0.03), (r * 0.97, 0.05), (rim, 0.06), (rim, 0.045), (rim * 0.97, 0.04)],
        metal,
    )
    dial = plate([(rim, 0.04), (rim * 0.5, 0.041), (0.01, 0.042)], face)
    parts = []
    half, tip = r * rng.uniform(0.58, 0.75), r * rng.uniform(0.48, 0.6)
    t = np.linspace(0, 1, max(8, lod // 3))[:, None]
    x = np.linspace(1, -1, 7)
    for s in (1, -1):  # the band curves away from the camera
        y = s * (r * aspect * 0.85 + (0.62 - 0.02 * s) * np.sin(1.35 * t) / np.sin(1.35))
        z = 0.02 - 0.28 * t**2 - 0.02 * np.abs(x) ** 4
        width = (half + (tip - half) * t) * np.where(t > 0.999, 0.8, 1.0)
        band = np.stack(np.broadcast_arrays(width * x, y, z), -1)
        parts.append(sheet(band if s > 0 else band[::-1], 'body'))
    parts += [case, dial]
    ink = 'white' if face == 'dark' else 'dark'
    for k in range(12):
        a, long = k * np.pi / 6, 0.14 if k % 3 == 0 else 0.08
        way = np.array([np.sin(a), np.cos(a) * aspect, 0.0])
        parts.append(_needle(way * rim * (0.92 - long), way * rim * 0.92, 0.008 + 0.004 * (k % 3 == 0), ink))
    for a, reach, thick in ((rng.uniform(0, 6.28), 0.5, 0.014), (rng.uniform(0, 6.28), 0.78, 0.01)):
        way = np.array([np.sin(a), np.cos(a), 0.0]) * rim
        parts.append(_needle(-0.12 * way, way * reach, thick, ink))
    parts.append(disc((0, 0, 0.065), 0.02, 10, metal, 0.01).moved(lift=0.12))
    parts.append(tube([(r * 0.98, 0, 0), (r * 1.14, 0, 0)], 0.035, 16, metal))
    return parts


def sunglasses(rng: np.random.Generator, lod: int) -> list[Part]:
    form = pick(rng, 'round', 'square', 'pilot', 'cat')
    rx, ry = rng.uniform(0.19, 0.23), rng.uniform(0.15, 0.2)
    thick = rng.uniform(0.014, 0.032)
    theta = np.linspace(-0.5, 1.5, max(16, lod) + 1) * np.pi
    c, s = np.cos(theta), np.sin(theta)
    power = {'round': 2.0, 'square': 4.0, 'pilot': 2.4, 'cat': 2.8}[form]
    norm = (np.abs(c) ** power + np.abs(s) ** power) ** (1 / power)
    if form == 'round':
        rx = ry = (rx + ry) / 2
    x, y = rx * c / norm, ry * s / norm
    if form == 'pilot':
        x, y = x * (1 + 0.18 * s), y * np.where(s < 0, 1.15, 0.85)
    if form == 'cat':
        y = y + 0.32 * ry * np.clip(c, 0, 1) ** 2 * (s > -0.3)
    gap, tint = rx + rng.uniform(0.035, 0.06), pick(rng, 'smoke', 'smoke', 'amber')
    parts = []
    for side in (1, -1):
        cx = side * gap
        edge = np.stack([cx + side * x, y, -0.12 * (cx + side * x) ** 2], -1)
        rings = np.linspace(0.01, 1.0, 5)[:, None, None]
        centre = np.array([cx, 0.0, -0.12 * cx * cx])
        lens = centre + rings * (edge - centre) + np.array([0, 0, 0.02]) * (1 - rings**2)
        parts.append(sheet(lens, tint))
        parts.append(tube(edge[:: max(1, lod // 16)], thick, max(12, lod // 2), 'body', up=(0, 0, 1), flat=1.0))
        hinge = (side * (gap + rx), ry * 0.45, -0.12 * (gap + rx) ** 2)
        arm = [
            hinge,
            (hinge[0] + side * 0.03, hinge[1], -0.25),
            (hinge[0] - side * 0.02, hinge[1] - 0.02, -0.7),
            (hinge[0] - side * 0.05, hinge[1] - 0.16, -0.86),
        ]
        parts.append(tube(arm, thick * 0.9, lod, 'plain', up=(0, 1, 0.1), flat=1.6))
    parts.append(
        tube([(-gap + rx, ry * 0.3, -0.01), (0, ry * 0.55, 0.0), (gap - rx, ry * 0.3, -0.01)], thick, lod, 'body')
    )
    if form == 'pilot':
        parts.append(tube([(-gap, ry * 0.85, -0.02), (gap, ry * 0.85, -0.02)], thick * 0.7, lod, 'steel'))
    return parts


ACCESSORIES = {'bag': bag, 'shoe': shoe, 'watch': watch, 'sunglasses': sunglasses}
