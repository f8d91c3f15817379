"""Products of the house: mug, bottle, vase, teapot, lamp, chair. Each function draws its own shape from `rng`."""

from __future__ import annotations

import numpy as np

from productgen.data.catalog.mesh import Part, box, lathe, loft, ribbed, tube


def pick(rng: np.random.Generator, *options):
    """One of `options`, all equally likely."""
    return options[rng.integers(len(options))]


def _inside(profile, lod: int, thickness: float, slot: str = 'inside') -> list[Part]:
    """Rim and inner wall of a vessel whose outer `profile` (radius, y) ends at its mouth."""
    (r, y), inner = profile[-1], [(max(r - thickness, 0.01), y) for r, y in profile[:0:-1]]
    rim = lathe([(r, y), (r, y + thickness * 0.4), inner[0]], lod, 'plain')
    return [rim, lathe([*inner, (1e-3, profile[0][1] + thickness)], lod, slot, shade=(0.8, 0.25, 0.15))]


def mug(rng: np.random.Generator, lod: int) -> list[Part]:
    height, top = rng.uniform(0.75, 1.15), rng.uniform(0.38, 0.48)
    foot, belly = top * rng.uniform(0.72, 1.0), top * pick(rng, 0.98, 1.0, 1.14)
    wall = [
        (foot, 0.05),
        (belly * 0.5 + foot * 0.5, 0.2 * height),
        (belly, 0.5 * height),
        (top * 0.5 + belly * 0.5, 0.8 * height),
        (top, height),
        (top, height),
    ]
    profile = [(1e-3, 0.0), (foot * 0.9, 0.0), (foot * 0.9, 0.0), *wall]
    parts = [
        lathe(profile, lod, shade=(0.5, 0.8, 1, 1, 1, 1)),
        *_inside(wall, lod, 0.035, pick(rng, 'inside', 'cream')),
    ]
    reach, y0, y1 = rng.uniform(0.2, 0.34), height * rng.uniform(0.14, 0.3), height * rng.uniform(0.74, 0.88)
    a, b, mid = belly * 0.96, top * 0.5 + belly * 0.48, (y0 + y1) / 2
    path = {
        'c': [(b, y1), (b + reach, y1 + 0.02), (b + reach * 1.2, mid), (a + reach, y0), (a, y0)],
        'd': [(b, y1), (b + reach, y1), (b + reach, y1), (b + reach, y0), (b + reach, y0), (a, y0)],
        'ear': [(b, y1), (b + reach * 1.3, y1 + 0.08), (b + reach * 1.1, mid), (a + reach * 0.4, y0 + 0.05), (a, y0)],
        'loop': [
            (b, y1),
            (b + reach * 0.9, y1 + 0.05),
            (b + reach * 1.1, mid + 0.1),
            (a + reach * 0.3, mid - 0.1),
            (a, mid - 0.1),
        ],
    }[pick(rng, 'c', 'd', 'ear', 'loop')]
    handle = tube(
        [(x, y, 0.0) for x, y in path],
        rng.uniform(0.04, 0.06),
        lod,
        pick(rng, 'plain', 'plain', 'accent'),
        flat=rng.uniform(1.0, 1.7),
    )
    return [*parts, handle]


def bottle(rng: np.random.Generator, lod: int) -> list[Part]:
    form = pick(rng, 'wine', 'flask', 'sport', 'pump', 'scent', 'round')
    r = rng.uniform(0.17, 0.23)
    neck, height = r * rng.uniform(0.3, 0.42), rng.uniform(0.95, 1.15)
    shoulder, power, deep = height * rng.uniform(0.55, 0.68), 2.0, 1.0
    if form in ('flask', 'sport'):
        neck, shoulder = r * rng.uniform(0.6, 0.85), height * rng.uniform(0.76, 0.84)
    if form == 'pump':
        neck, shoulder, height = r * 0.4, 0.6, 0.72
    if form == 'scent':
        r, neck, shoulder, height, power, deep = 0.32, 0.1, 0.56, 0.66, pick(rng, 2.0, 6.0, 9.0), 0.5
    if form == 'round':
        r, shoulder, height = r * 1.5, height * 0.5, height * 0.95
    base = r * (0.75 if form == 'round' else 1.0)
    rows = [
        (0.0, 0.01),
        (0.0, base * 0.93),
        (0.0, base * 0.93),
        (0.04, base),
        (shoulder * 0.5, r),
        (shoulder, r),
        (shoulder + 0.06, r * 0.92),
        (shoulder + 0.1, neck),
        (height - 0.1, neck),
        (height, neck),
    ]
    if form == 'wine':
        rows[6:8] = [(shoulder + 0.1, r * 0.95), (shoulder + 0.16, neck)]
    parts = [loft([(y, x, x * (deep if x > neck else 1.0)) for y, x in rows], lod, power=power)]
    cap = pick(rng, 'dark', 'steel', 'accent')
    if form == 'pump':
        parts += [
            lathe([(neck * 1.3, 0.66), (neck * 1.3, 0.78), (0.03, 0.8), (0.03, 0.9)], lod, cap),
            tube([(0.05, 0.93, 0), (-0.04, 0.93, 0), (-0.16, 0.93, 0), (-0.19, 0.89, 0)], 0.035, lod, cap),
        ]
    else:
        tall, wide = (rng.uniform(0.1, 0.2), 1.15) if form != 'scent' else (rng.uniform(0.12, 0.2), 1.5)
        parts.append(
            lathe(
                [
                    (neck * 0.9, height - 0.05),
                    (neck * wide, height - 0.05),
                    (neck * wide, height - 0.05),
                    (neck * wide, height - 0.05 + tall),
                    (neck * wide, height - 0.05 + tall),
                    (1e-3, height - 0.04 + tall),
                ],
                lod,
                cap,
            ).moved(lift=0.15)
        )
    if form != 'round' and rng.uniform() < 0.55:  # a paper label
        y0, y1 = shoulder * rng.uniform(0.15, 0.3), shoulder * rng.uniform(0.7, 0.9)
        parts.append(
            loft([(y, r * 1.012, r * deep * 1.012) for y in (y0, y0, y1, y1)], lod, 'label', power=power).moved(
                lift=0.1
            )
        )
    if form == 'sport' and rng.uniform() < 0.5:
        parts.append(
            tube(
                [(-neck, height, 0), (-neck, height + 0.22, 0), (neck, height + 0.22, 0), (neck, height, 0)],
                0.025,
                lod,
                cap,
            )
        )
    return parts


def vase(rng: np.random.Generator, lod: int) -> list[Part]:
    foot, belly, neck = rng.uniform(0.12, 0.24), rng.uniform(0.26, 0.46), rng.uniform(0.07, 0.2)
    low, lip = rng.uniform(0.25, 0.6), neck * rng.uniform(1.05, 1.9)
    form = pick(rng, 'classic', 'cylinder', 'drop', 'flare')
    wall = {
        'classic': [
            (foot, 0.03),
            (belly * 0.95, low * 0.6),
            (belly, low),
            (belly * 0.8, low + 0.2),
            (neck, low + 0.3),
            (neck, 0.95),
            (lip, 1.05),
        ],
        'cylinder': [(belly * 0.7, 0.03), (belly * 0.75, 0.3), (belly * 0.75, 0.7), (belly * 0.8, 1.0)],
        'drop': [
            (foot, 0.03),
            (belly * 1.1, 0.12),
            (belly, 0.4),
            (neck * 0.8, 0.65),
            (neck * 0.7, 0.95),
            (lip * 0.8, 1.05),
        ],
        'flare': [(foot * 0.8, 0.03), (foot * 0.8, 0.2), (foot, 0.5), (belly * 0.7, 0.85), (belly * 0.9, 1.0)],
    }[form]
    profile = [(1e-3, 0.0), (wall[0][0] * 0.95, 0.0), (wall[0][0] * 0.95, 0.0), *wall]
    power = pick(rng, 2.0, 2.0, 2.0, 5.0)
    parts = [lathe(profile, lod, power=power)]
    if power == 2.0:
        parts += _inside(wall, lod, 0.02)
        if rng.uniform() < 0.25:
            parts[0] = ribbed(lathe(profile, max(lod, 32)), 8, 0.035)
    if form == 'classic' and rng.uniform() < 0.35:
        for side in (-1, 1):
            path = [(neck, 0.92, 0), (neck + 0.22, 0.95, 0), (neck + 0.25, 0.75, 0), (belly * 0.8, low + 0.17, 0)]
            parts.append(tube([(side * x, y, z) for x, y, z in path], 0.03, lod))
    return parts


def teapot(rng: np.random.Generator, lod: int) -> list[Part]:
    r, height = rng.uniform(0.38, 0.5), rng.uniform(0.5, 0.72)
    shoulder, mouth = rng.uniform(0.75, 0.98), r * rng.uniform(0.4, 0.6)
    wall = [
        (r * 0.62, 0.0),
        (r * 0.62, 0.0),
        (r * 0.98, height * 0.25),
        (r * 1.03, height * 0.5),
        (r * shoulder, height * 0.85),
        (mouth, height),
        (mouth, height),
    ]
    lid = pick(rng, 'plain', 'body', 'accent')
    dome = height + rng.uniform(0.05, 0.12)
    spout = [
        (-r * 0.75, height * 0.3, 0),
        (-r - 0.2, height * 0.35, 0),
        (-r - 0.2, height * 0.8, 0),
        (-r - 0.36, height * 1.02, 0),
    ]
    parts = [
        lathe([(1e-3, 0.0), *wall], lod, shade=(0.5, 0.85, 1, 1)),
        lathe(
            [(mouth * 1.06, height), (mouth * 1.06, height + 0.02), (mouth * 0.8, dome), (0.04, dome + 0.02)], lod, lid
        ),
        lathe(
            [(0.03, dome), (0.03, dome + 0.03), (0.065, dome + 0.07), (0.05, dome + 0.12), (1e-3, dome + 0.13)],
            lod,
            lid,
        ),
        tube(spout, (0.12, 0.1, 0.06, 0.05), lod, hollow=True),
    ]
    if rng.uniform() < 0.65:
        path = [
            (r * 0.8, height * 0.85, 0),
            (r + 0.25, height * 1.0, 0),
            (r + 0.3, height * 0.5, 0),
            (r * 0.9, height * 0.25, 0),
        ]
        parts.append(tube(path, 0.045, lod, flat=1.3))
    else:
        path = [
            (-r * 0.7, height * 0.9, 0),
            (-r * 0.75, height + 0.4, 0),
            (r * 0.75, height + 0.4, 0),
            (r * 0.7, height * 0.9, 0),
        ]
        parts.append(tube(path, 0.032, lod, pick(rng, 'steel', 'timber', 'plain'), flat=1.4))
    return parts


def lamp(rng: np.random.Generator, lod: int) -> list[Part]:
    low, high = rng.uniform(0.3, 0.42), rng.uniform(0.15, 0.34)
    base_h, shade_h = rng.uniform(0.42, 0.62), rng.uniform(0.34, 0.48)
    base, slot = pick(rng, 'gourd', 'stick', 'cone', 'ball', 'tripod'), pick(rng, 'timber', 'steel', 'cream', 'accent')
    stem = [(0.018, base_h * 0.9), (0.018, base_h + 0.12)]
    profile = {
        'gourd': [
            (1e-3, 0),
            (0.14, 0),
            (0.14, 0.02),
            (0.09, 0.06),
            (0.2, base_h * 0.4),
            (0.12, base_h * 0.75),
            (0.04, base_h),
        ],
        'stick': [(1e-3, 0), (0.2, 0), (0.2, 0.0), (0.2, 0.03), (0.03, 0.045), (0.025, 0.06), (0.025, base_h)],
        'cone': [(1e-3, 0), (0.2, 0), (0.2, 0.0), (0.19, 0.03), (0.04, base_h)],
        'ball': [
            (1e-3, 0),
            (0.1, 0),
            (0.22, base_h * 0.2),
            (0.24, base_h * 0.55),
            (0.12, base_h * 0.95),
            (0.03, base_h),
        ],
    }
    if base == 'tripod':
        angles = rng.uniform(0, 2) + np.arange(3) * 2 * np.pi / 3
        parts = [
            tube(
                [(0, base_h + 0.05, 0), (0.22 * np.cos(a), 0, 0.22 * np.sin(a))],
                (0.022, 0.015),
                lod,
                slot,
                up=(-np.sin(a), 0, np.cos(a)),
            )
            for a in angles
        ]
    else:
        parts = [lathe(profile[base], lod, slot)]
    y0 = base_h + rng.uniform(-0.02, 0.06)
    if pick(rng, 'cloth', 'cloth', 'dome') == 'cloth':
        rows = [(low, y0), (low, y0), (high, y0 + shade_h), (high, y0 + shade_h)]
    else:
        rows = [
            (low, y0),
            (low, y0),
            (low * 0.97, y0 + shade_h * 0.5),
            (low * 0.55, y0 + shade_h * 0.9),
            (0.03, y0 + shade_h * 0.95),
        ]
    shade = lathe(rows, lod, 'shade', hollow=True)
    return [*parts, lathe(stem, lod, 'steel'), shade]


def chair(rng: np.random.Generator, lod: int) -> list[Part]:
    w, d, seat = rng.uniform(0.42, 0.54), rng.uniform(0.42, 0.5), rng.uniform(0.42, 0.5)
    top, lean, thick = seat + rng.uniform(0.42, 0.62), rng.uniform(0.03, 0.1), rng.uniform(0.04, 0.09)
    frame = pick(rng, 'timber', 'dark', 'steel', 'plain')
    back, legs = pick(rng, 'panel', 'slats', 'ladder', 'shell', 'bow'), pick(rng, 'four', 'four', 'four', 'pedestal')
    parts = [box((0, seat, 0), (w, thick, d), lod, 'body', 0.03)]
    if legs == 'four':
        splay, r = rng.uniform(0.0, 0.06), rng.uniform(0.018, 0.03)
        for x in (-1, 1):
            for z in (-1, 1):
                foot = (x * (w / 2 - 0.03 + splay), 0, z * (d / 2 - 0.03 + splay))
                parts.append(tube([(x * (w / 2 - 0.04), seat, z * (d / 2 - 0.04)), foot], (r, r * 0.75), lod, frame))
    else:
        parts.append(lathe([(1e-3, 0.06), (0.03, 0.06), (0.03, seat)], lod, 'steel'))
        for a in rng.uniform(0, 1) + np.arange(5) * 2 * np.pi / 5:
            parts.append(
                tube(
                    [(0, 0.08, 0), (0.27 * np.cos(a), 0.035, 0.27 * np.sin(a))],
                    (0.03, 0.02),
                    lod,
                    frame,
                    up=(-np.sin(a), 0, np.cos(a)),
                )
            )
    z0, z1, x = -d / 2 + 0.02, -d / 2 - lean, w / 2 - 0.03

    def rail(x0, ya, x1, yb, r=0.02, slot=frame):
        behind = 0.035 if back in ('panel', 'shell') else 0.0
        depth = [np.interp(y, (seat, top), (z0, z1)) - behind for y in (ya, yb)]
        return tube([(x0, ya, depth[0]), (x1, yb, depth[1])], r, lod, slot, up=(0, 0, 1))

    if back in ('panel', 'shell'):
        low = seat + (0.12 if back == 'panel' and rng.uniform() < 0.6 else 0.0)
        panel = box((0, 0, 0), (w * (1.0 if back == 'panel' else 1.05), top - low, 0.045), lod, 'body', 0.022)
        curve = 0.5 if back == 'shell' else 0.15
        parts.append(
            panel.warped(
                lambda px, py, pz: (
                    px,
                    py + (top + low) / 2,
                    pz + np.interp(py + (top + low) / 2, (seat, top), (z0, z1)) + curve * px**2,
                )
            )
        )
        if low > seat:
            parts += [rail(-x * 0.7, seat, -x * 0.7, top - 0.1), rail(x * 0.7, seat, x * 0.7, top - 0.1)]
    else:
        parts += [rail(-x, seat, -x, top), rail(x, seat, x, top)]
        if back == 'slats':
            parts += [rail(u * x, seat, u * x, top - 0.02, 0.013, 'plain') for u in (-0.6, -0.2, 0.2, 0.6)]
            parts.append(rail(-x, top - 0.03, x, top - 0.03, 0.04, 'plain'))
        elif back == 'ladder':
            parts += [
                rail(-x, y, x, y, 0.028, 'plain') for y in np.linspace(seat + 0.15, top - 0.03, pick(rng, 2, 3, 4))
            ]
        else:
            parts.append(
                tube([(-x, top - 0.05, z1), (-x, top + 0.08, z1), (x, top + 0.08, z1), (x, top - 0.05, z1)], 0.025, lod)
            )
            parts += [rail(u * x, seat, u * x, top, 0.011, 'plain') for u in (-0.5, 0.0, 0.5)]
    if rng.uniform() < 0.25:  # arm rests
        arm = seat + 0.22
        for side in (-1, 1):
            parts.append(
                tube(
                    [
                        (side * x, arm, z0),
                        (side * w * 0.54, arm + 0.02, 0),
                        (side * w * 0.54, arm, d * 0.4),
                        (side * w * 0.5, seat, d * 0.42),
                    ],
                    0.022,
                    lod,
                    frame,
                    up=(1, 0, 0.01),
                )
            )
    return parts


HOUSEHOLD = {'mug': mug, 'bottle': bottle, 'vase': vase, 'teapot': teapot, 'lamp': lamp, 'chair': chair}
