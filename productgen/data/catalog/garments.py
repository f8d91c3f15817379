"""Clothes as worn by an invisible mannequin: t-shirt, dress, trousers, hat."""

from __future__ import annotations

import numpy as np

from productgen.data.catalog.household import pick
from productgen.data.catalog.mesh import Part, disc, lathe, loft, ribbed, sheet, tube


def _neckline(body: Part, y0: float, width: float, dip: float, form: str) -> Part:
    """Lowers the front of a body's upper rows above `y0` to make room for the neck."""

    def warp(x, y, z):
        across = np.clip(1 - np.abs(x) / width, 0, 1)
        bowl = across if form == 'v' else np.sqrt(across)
        top = np.clip((y - y0) / (y.max() - y0), 0, 1)
        return x, y - dip * bowl * top * np.clip(0.35 + 2 * z / np.abs(z).max(), 0.1, 1), z

    return body.warped(warp)


def _collar(body: Part, lod: int, radius: float, slot: str) -> Part:
    """A rib along the upper edge of a body."""
    edge = body.points[-1, :: max(1, lod // 16)]
    rib = tube(
        np.concatenate([edge, body.points[-1, -1:]]), radius, max(12, lod // 2), slot, up=(0, 0.99, 0.1), flat=1.5
    )
    return rib


def _sleeves(rng: np.random.Generator, lod: int, shoulder: float, length: float, wide: float, slot: str) -> list[Part]:
    """Two sleeves from the shoulders; `length` 0..1 from cap to wrist."""
    angle = rng.uniform(0.65, 0.95) * (1 - 0.45 * length)
    parts = []
    x0, y0 = shoulder - 0.13, 0.27
    direction = np.array([np.sin(angle), -np.cos(angle), 0])
    reach = 0.3 + 0.6 * length
    for side in (1, -1):
        path = [np.array([x0, y0, 0]) + direction * t * reach for t in (0.0, 0.3, 1.0)]
        path[1] = path[1] + [0.04, 0.03, 0]
        path = [(side * x, y, z) for x, y, z in path]
        parts.append(
            tube(path, (wide * 0.55, wide * 1.05, wide * (0.95 - 0.35 * length)), lod, slot, flat=0.6, hollow=True)
        )
    return parts


def tshirt(rng: np.random.Generator, lod: int) -> list[Part]:
    chest, hem, deep = rng.uniform(0.31, 0.38), rng.uniform(0.95, 1.12), rng.uniform(0.15, 0.19)
    low, neck = -0.5 * rng.uniform(0.95, 1.25), rng.uniform(0.13, 0.17)
    rows = [
        (low, chest * hem, deep * 1.1),
        (low + 0.2, chest * hem, deep),
        (0.0, chest * 0.96, deep),
        (0.2, chest, deep),
        (0.31, chest * 0.98, deep * 0.8),
        (0.375, chest * 0.75, deep * 0.6),
        (0.41, neck * 1.25, 0.1),
        (0.43, neck, 0.085),
    ]
    form = pick(rng, 'crew', 'crew', 'v', 'polo')
    body = loft(rows, lod, power=2.6, hollow=True)
    body = ribbed(body, 5, 0.05, rng.uniform(0, 6), above=0.2)
    body = body.moved(lift=0.06)
    body = _neckline(body, 0.33, neck * 1.3, {'crew': 0.09, 'v': 0.24, 'polo': 0.12}[form], form)
    length = pick(rng, 0.0, 0.08, 0.15, 0.45, 1.0)
    slot = pick(rng, 'body', 'body', 'plain', 'accent')
    parts = [body, *_sleeves(rng, lod, chest, length, rng.uniform(0.11, 0.14), slot)]
    parts.append(_collar(body, lod, 0.014, pick(rng, 'plain', 'trim', 'accent')))
    if form == 'polo':
        for side in (1, -1):
            grid = np.array(
                [
                    [(0.01, 0.34, 0.16), (0.07, 0.28, 0.18)],
                    [(0.06, 0.4, 0.15), (0.13, 0.35, 0.16)],
                    [(0.13, 0.47, 0.02), (0.19, 0.42, 0.05)],
                ]
            )
            parts.append(sheet(grid * (side, 1, 1), 'plain'))
        parts += [disc((0, y, deep * 1.03), 0.012, 8, 'cream', 0.006) for y in (0.14, 0.21)]
    return parts


def dress(rng: np.random.Generator, lod: int) -> list[Part]:
    chest, waist = rng.uniform(0.19, 0.22), rng.uniform(0.13, 0.17)
    low, hem = -rng.uniform(0.55, 0.95), rng.uniform(0.22, 0.52)
    at = rng.uniform(-0.02, 0.1)
    style = pick(rng, 'strap', 'cap', 'short', 'long', 'strapless')
    top = [(at + 0.15, chest * 0.95, 0.12), (0.28, chest, 0.13)]
    if style in ('strap', 'strapless'):
        top += [(0.34, chest * 0.95, 0.12), (0.36, chest * 0.9, 0.11)]
    else:
        top += [(0.35, chest * 0.96, 0.1), (0.39, chest * 0.78, 0.085), (0.42, 0.13, 0.075), (0.43, 0.115, 0.07)]
    skirt = loft(
        [
            (low, hem, hem * 0.6),
            (low * 0.5, hem * 0.72 + 0.05, hem * 0.45),
            (at - 0.12, waist * 1.25, 0.14),
            (at, waist, 0.1),
        ],
        max(lod, 24),
        hollow=True,
        shade=(1, 1, 0.9),
    )
    folds, depth = int(rng.integers(5, 10)), rng.uniform(0.02, 0.1) * min(1.0, hem / 0.35)
    skirt = ribbed(skirt, folds, depth, rng.uniform(0, 6), above=0.05)
    bodice = loft(
        [(at - 0.005, waist * 1.01, 0.102), *top], lod, pick(rng, 'body', 'body', 'plain'), power=2.3, hollow=True
    ).moved(lift=0.05)
    form = pick(rng, 'round', 'v')
    dip = {'strap': 0.05, 'strapless': -0.02}.get(style, 0.09 if form == 'round' else 0.16)
    bodice = _neckline(bodice, 0.26, 0.15, dip, form)
    parts = [skirt, bodice]
    if rng.uniform() < 0.5:
        band = pick(rng, 'accent', 'dark', 'plain')
        parts.append(
            loft(
                [(at - 0.025, waist * 1.06, 0.112), (at, waist * 1.04, 0.112), (at + 0.03, waist * 1.06, 0.112)],
                lod,
                band,
            ).moved(lift=0.12)
        )
    if style == 'strap':
        for s in (1, -1):
            path = [(s * 0.12, 0.3, 0.12), (s * 0.11, 0.42, 0.08), (s * 0.1, 0.47, 0.0), (s * 0.1, 0.35, -0.1)]
            parts.append(tube(path, 0.012, lod, 'plain', up=(1, 0, 0), flat=1.8))
    if style in ('cap', 'short', 'long'):
        parts += _sleeves(rng, lod, chest + 0.03, {'cap': 0.0, 'short': 0.12, 'long': 0.85}[style], 0.085, 'body')
    return parts


def trousers(rng: np.random.Generator, lod: int) -> list[Part]:
    waist, hip = rng.uniform(0.18, 0.22), rng.uniform(0.23, 0.27)
    low = pick(rng, -0.62, -0.62, -0.62, -0.4, 0.0)
    form = pick(rng, 'slim', 'straight', 'wide', 'flare')
    thigh, hem = hip * 0.56, hip * {'slim': 0.3, 'straight': 0.42, 'wide': 0.62, 'flare': 0.62}[form]
    if low > -0.1:
        hem = max(hem, hip * 0.58)
    knee = hip * {'slim': 0.36, 'straight': 0.44, 'wide': 0.56, 'flare': 0.36}[form]
    stance = rng.uniform(0.02, 0.09)
    top = loft(
        [
            (0.1, hip * 1.02, 0.13),
            (0.2, hip * 1.03, 0.14),
            (0.3, hip, 0.14),
            (0.42, waist * 1.06, 0.12),
            (0.5, waist, 0.105),
        ],
        lod,
        power=2.4,
        hollow=True,
    )
    top = top.warped(lambda x, y, z: (x, y + np.clip(0.3 - y, 0, 0.2) * np.sqrt(np.abs(x) / hip) * 0.8, z))
    legs = []
    for s in (1, -1):
        rows = [
            (low, hem, hem * 0.75),
            (low + 0.45 * (0.1 - low), max(knee, hem * 0.9) if low > -0.1 else knee, knee * 0.75),
            (0.1, thigh, 0.128),
            (0.36, thigh * 0.93, 0.13),
        ]
        rows = [(*row, s * (hip * 0.49 + stance * (1 - k / 3)), 0.0) for k, row in enumerate(rows)]
        legs.append(loft(rows, max(12, lod * 3 // 4), hollow=True))
    band = loft(
        [(0.45, waist * 1.05, 0.116), (0.5, waist * 1.02, 0.11), (0.505, waist * 1.0, 0.105)],
        lod,
        pick(rng, 'plain', 'trim', 'trim'),
        hollow=True,
    ).moved(lift=0.03)
    parts = [*legs, top, band, disc((0, 0.478, 0.118), 0.016, 10, 'steel', 0.008)]
    parts.append(
        tube([(0.0, 0.45, 0.122), (0.005, 0.3, 0.145), (0.0, 0.24, 0.145)], 0.005, lod, 'trim', up=(1, 0, 0)).moved(
            lift=0.05
        )
    )
    for s in (1, -1):
        parts.append(
            tube(
                [(s * waist * 0.55, 0.44, 0.108), (s * hip * 0.7, 0.36, 0.115), (s * hip * 0.95, 0.33, 0.065)],
                0.006,
                lod,
                'trim',
                up=(0.2, 1, 0),
            ).moved(lift=0.05)
        )
    if rng.uniform() < 0.4:
        belt = pick(rng, 'dark', 'timber')
        parts.append(loft([(y, waist * 1.07, 0.121) for y in (0.455, 0.455, 0.49, 0.49)], lod, belt).moved(lift=0.06))
        parts.append(
            tube([(-0.03, 0.47, 0.128), (0.03, 0.47, 0.128)], 0.024, lod, 'steel', flat=0.3, power=6).moved(lift=0.08)
        )
    return parts


def hat(rng: np.random.Generator, lod: int) -> list[Part]:
    form = pick(rng, 'fedora', 'sun', 'bucket', 'cap', 'beanie', 'bowler')
    r, height = 0.3, rng.uniform(0.26, 0.38)
    band = lathe([(r * 1.02, 0.015), (r * 1.02, 0.08), (r * 1.0, 0.085)], lod, pick(rng, 'dark', 'accent', 'accent'))
    if form in ('fedora', 'sun', 'bowler'):
        brim = {'fedora': rng.uniform(0.46, 0.54), 'sun': rng.uniform(0.58, 0.72), 'bowler': 0.42}[form]
        curl = {'fedora': 0.05, 'sun': -0.05, 'bowler': 0.09}[form] * rng.uniform(0.6, 1.3)
        domes = {
            'fedora': [(r, 0.0), (r, 0.02), (r * 0.86, height), (r * 0.75, height + 0.03), (1e-3, height - 0.03)],
            'sun': [(r, 0.0), (r, 0.1), (r * 0.9, height), (r * 0.4, height + 0.05), (1e-3, height + 0.05)],
            'bowler': [(r, 0.0), (r, 0.15), (r * 0.95, height), (r * 0.5, height + 0.1), (1e-3, height + 0.1)],
        }
        crown = lathe(domes[form], lod, shade=(0.75, 1, 1, 1))
        if form == 'fedora':
            crown = crown.warped(lambda x, y, z: (x * (1 - 0.12 * np.clip(y / height, 0, 1) * (z > 0)), y, z))
        rim = lathe(
            [
                (r * 0.95, 0.0),
                (brim * 0.8, 0.0),
                (brim, curl),
                (brim, curl + 0.01),
                (brim * 0.8, 0.015),
                (r * 0.95, 0.02),
            ],
            lod,
            pick(rng, 'body', 'plain'),
            shade=(0.5, 0.6, 1, 1, 1, 0.7),
        ).warped(lambda x, y, z: (x, y + 0.35 * curl * (x / brim) ** 2 * (y > -1), z))
        return [rim, crown, band]
    if form == 'bucket':
        crown = lathe(
            [(r, 0.05), (r * 0.85, height), (r * 0.85, height), (r * 0.6, height + 0.02), (1e-3, height + 0.02)], lod
        )
        rim = lathe([(r * rng.uniform(1.4, 1.65), -0.12), (r, 0.05)], lod, pick(rng, 'body', 'plain'), hollow=True)
        return [rim, crown]
    if form == 'beanie':
        crown = lathe(
            [(r, 0.0), (r * 1.08, 0.2), (r * 0.95, height + 0.1), (r * 0.45, height + 0.2), (1e-3, height + 0.21)], lod
        )
        cuff = lathe(
            [(r * 1.03, 0.0), (r * 1.1, 0.01), (r * 1.12, 0.07), (r * 1.09, 0.14), (r * 1.03, 0.15)],
            lod,
            pick(rng, 'plain', 'accent', 'plain'),
        )
        parts = [crown, cuff]
        if rng.uniform() < 0.5:
            ball = lathe(
                [(1e-3, 0), (0.09, 0.0), (0.11, 0.09), (0.09, 0.17), (1e-3, 0.18)], lod, pick(rng, 'cream', 'accent')
            )
            parts.append(ball.moved((0, height + 0.18, 0)))
        return parts
    crown = lathe(
        [(r, 0.0), (r * 1.03, 0.12), (r * 0.92, height * 0.95), (r * 0.45, height + 0.06), (1e-3, height + 0.07)], lod
    )
    angle, reach = np.linspace(0.06, 0.94, lod // 2) * np.pi, np.linspace(0, 1, 5)[:, None]
    out = rng.uniform(0.26, 0.34) * np.sin(angle)
    x, z = r * 0.98 * np.cos(angle) * (1 + 0.06 * reach), r * np.sin(angle) + out * reach
    visor = sheet(
        np.stack([x, 0.03 - 0.25 * x**2 - 0.18 * (z - r * np.sin(angle)) * reach, z], -1),
        pick(rng, 'plain', 'accent', 'plain'),
    )
    button = disc((0, 0, 0), 0.025, 8, 'plain', 0.02).warped(lambda x, y, z: (x, z + height + 0.06, y))
    return [crown, visor, button]


GARMENTS = {'t-shirt': tshirt, 'dress': dress, 'trousers': trousers, 'hat': hat}
