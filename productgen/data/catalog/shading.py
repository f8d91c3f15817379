"""How surfaces look: palette colours, materials, patterns and light, in linear RGB."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from productgen.data.catalog.items import PALETTE, Item
from productgen.data.catalog.mesh import CELL
from productgen.data.catalog.raster import Camera, Fragments


def linear(srgb) -> np.ndarray:
    """Linear RGB in [0, 1] of sRGB in 0..255."""
    return (np.asarray(srgb, np.float32) / 255) ** np.float32(2.2)


_COLOURS = linear(list(PALETTE.values()))


@dataclasses.dataclass(frozen=True)
class Material:
    """Reflection of a material; strengths relative to its diffuse colour.

    Attributes:
      spec, gloss: strength and exponent of the highlight.
      mirror: fraction of the studio that it reflects at grazing angles.
      metal: 1 if reflections take the surface's colour and there is no diffuse part.
      opacity: 1 unless the backdrop shines through, tinted.
      sheen: brightening towards the outline, as of fibres.
      texture: fine structure, one of the branches of `_texture`.
    """

    spec: float = 0.0
    gloss: float = 20.0
    mirror: float = 0.0
    metal: float = 0.0
    opacity: float = 1.0
    sheen: float = 0.0
    texture: str = ''


MATERIALS = {
    'ceramic': Material(0.55, 90, 0.7),
    'stoneware': Material(0.06, 10, 0.05, texture='speckle'),
    'glass': Material(1.2, 160, 1.6, opacity=0.25),
    'metal': Material(0.7, 45, 1.0, metal=1.0),
    'plastic': Material(0.3, 35, 0.35),
    'wood': Material(0.1, 18, 0.12, texture='grain'),
    'cotton': Material(sheen=0.12, texture='weave'),
    'knit': Material(sheen=0.2, texture='knit'),
    'denim': Material(sheen=0.1, texture='twill'),
    'leather': Material(0.22, 16, 0.25, texture='pores'),
    'straw': Material(0.05, 10, 0.0, sheen=0.05, texture='straw'),
}
_FOLDS = {'t-shirt': 0.24, 'dress': 0.2, 'trousers': 0.22, 'bag': 0.07, 'hat': 0.06}


@dataclasses.dataclass(frozen=True)
class Finish:
    """Colour [3] and material of one slot; `patterned` surfaces carry the pattern, `glow` is emitted light."""

    colour: np.ndarray
    material: Material
    patterned: bool = False
    glow: float = 0.0


_LENS = dataclasses.replace(MATERIALS['glass'], mirror=3.0, opacity=0.5)
_FIXED = {  # finishes that do not depend on the product
    'white': Finish(linear((238, 238, 236)), MATERIALS['plastic']),
    'dark': Finish(linear((38, 36, 36)), MATERIALS['plastic']),
    'label': Finish(linear((240, 236, 224)), MATERIALS['stoneware']),
    'timber': Finish(linear((176, 122, 74)), MATERIALS['wood']),
    'steel': Finish(linear((205, 207, 210)), MATERIALS['metal']),
    'gold': Finish(linear((222, 178, 96)), MATERIALS['metal']),
    'smoke': Finish(linear((46, 46, 52)), _LENS),
    'amber': Finish(linear((128, 70, 30)), _LENS),
}
_CREAM = linear((236, 228, 212))


def finishes(item: Item) -> dict[str, Finish]:
    """The finish of every slot a part may name, for one product."""
    rng = item.product_rng(5)
    main = linear(PALETTE[item.colour]) * rng.uniform(0.85, 1.12) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
    own = MATERIALS[item.material]
    # The foot of a lamp and the cap of a bottle are neither cloth nor glass.
    firm = own if own.spec and own.opacity == 1 else MATERIALS['plastic']
    glazed = own.opacity == 1 and not own.metal
    return {
        **_FIXED,
        'body': Finish(main, own, True),
        'plain': Finish(main, own),
        'trim': Finish(main * 0.55, own),
        'accent': Finish(second_colour(item), firm if item.label in ('lamp', 'bottle') else own),
        'inside': Finish(0.35 * main + 0.45 if glazed else main, own),
        'shade': Finish(main, own, True, glow=0.45 if item.material == 'cotton' else 0.0),
        'cream': Finish(_CREAM, own if own.texture else MATERIALS['ceramic']),
    }


def second_colour(item: Item) -> np.ndarray:
    """Linear colour of pattern and trimmings: another one of the palette, far enough from the first."""
    rng = item.product_rng(6)
    distance = np.abs(np.sqrt(_COLOURS) - np.sqrt(_COLOURS[list(PALETTE).index(item.colour)])).sum(1)
    others = np.flatnonzero(distance > 0.75)
    white = list(PALETTE).index('white')
    return _COLOURS[white if white in others and rng.uniform() < 0.2 else others[rng.integers(len(others))]]


def _square(x: np.ndarray, duty: float, edge: float) -> np.ndarray:
    """A wave of period 1 that is 1 over the fraction `duty`, with edges `edge` wide."""
    return np.clip((duty / 2 - np.abs(x - np.floor(x) - 0.5)) / edge + 0.5, 0, 1)


def _pattern(item: Item, u: np.ndarray, v: np.ndarray, height: np.ndarray, cell: float) -> np.ndarray:
    """Share [P] of the second colour; `height` in 0..1 over the product, `cell` is the size of a cell in pixels."""
    rng = item.product_rng(7)
    grain = (1.0, 1.0, 0.5)[rng.integers(3)]
    u, v, edge = u * grain, v * grain, max(0.02, 0.35 / (cell / grain))
    upright, duty = rng.uniform() < 0.4, rng.uniform(0.3, 0.5)
    if item.pattern == 'striped':
        return _square(u if upright else v, duty, edge)
    if item.pattern == 'dotted':
        odd = np.floor(v) % 2 * 0.5
        du, dv = (u + odd) % 1 - 0.5, v % 1 - 0.5
        return np.clip((0.27 - np.sqrt(du * du + dv * dv)) / edge + 0.5, 0, 1)
    if item.pattern == 'checked':
        return 0.5 * (_square(u * 0.5, 0.5, edge / 2) + _square(v * 0.5, 0.5, edge / 2))
    if item.pattern == 'zigzag':
        return _square(v * 0.7 + 0.5 * np.abs(u % 1 - 0.5) * 2, duty, edge)
    level = rng.uniform(0.35, 0.6)
    return np.clip((level - height) / 0.004 / max(1.0, 100 / cell), 0, 1)


def _texture(kind: str, u: np.ndarray, v: np.ndarray, position: np.ndarray, cell: float) -> np.ndarray:
    """Brightness factors [P] of a material's fine structure; it fades where the pixels cannot hold it."""

    def fade(frequency: float) -> float:
        return float(np.clip(cell / frequency / 2.0 - 0.6, 0, 1))

    tau = np.float32(2 * np.pi)
    x, y, z = position
    if kind == 'weave':
        return 1 + 0.09 * fade(12) * np.sin(tau * 12 * u) * np.sin(tau * 12 * v)
    if kind == 'twill':
        return 1 + 0.14 * fade(9) * np.sin(tau * 9 * (u + v)) + 0.05 * np.sin(9 * x + 5 * np.sin(4 * y))
    if kind == 'knit':
        return 1 + 0.22 * fade(3.5) * np.sin(tau * (4 * u + 0.5 * np.abs(v * 4 % 1 - 0.5))) * (
            0.7 + 0.3 * np.sin(tau * 4 * v)
        )
    if kind == 'straw':
        return 1 + 0.25 * fade(5) * np.sin(tau * 5 * u) * np.sin(tau * 5 * v) + 0.08 * np.sin(tau * 2 * v)
    if kind == 'pores':
        return 1 + 0.07 * fade(6) * np.sin(tau * (5 * u + np.sin(7 * v))) * np.sin(tau * (6 * v + np.sin(9 * u)))
    if kind == 'speckle':
        column, row = np.floor(9 * u), np.floor(9 * v)
        spots = np.sin(column * np.float32(12.99) + row * np.float32(78.23)) * np.float32(437.58)
        return 1 - 0.4 * fade(3) * (spots - np.floor(spots) > 0.95)
    if kind == 'grain':
        rings = np.sin(26 * (x + z) + 5 * np.sin(1.9 * y + 3 * z) + 2 * np.sin(7 * y))
        return 0.92 + 0.12 * rings * np.abs(rings) + 0.05 * fade(5) * np.sin(190 * (x + z) + 9 * y)
    return np.float32(1)


def _folds(item: Item, position: np.ndarray, camera: Camera) -> np.ndarray:
    """Disturbance [3, P] of cloth normals: the gradient of a few long, mostly vertical waves."""
    rng = item.product_rng(8)
    total = np.zeros_like(position)
    x, y, z = position
    bend = np.float32(0.25) * np.sin(np.float32(5) * y + np.float32(rng.uniform(0, 6))) * (1 + x)
    for _ in range(4):
        angle, length = rng.normal(0, 0.5), rng.uniform(10, 30)
        wave = length * np.array([np.cos(angle), np.sin(angle), rng.normal(0, 0.4)])
        wx, wy, wz = wave.astype(np.float32)
        slope = np.cos(wx * (x + bend) + wy * y + wz * z + np.float32(rng.uniform(0, 6)))
        total += (camera.turn @ (wave / length)).astype(np.float32)[:, None] * slope
    return total


@dataclasses.dataclass(frozen=True)
class Light:
    """A key light from `direction` [3] of strength `key` over an even surrounding of strength `fill`."""

    direction: np.ndarray
    key: float
    fill: float

    @classmethod
    def of(cls, item: Item) -> Light:
        rng = item.photo_rng(9)
        side = -1.0 if item.light == 'left' or (item.light == 'hard' and rng.uniform() < 0.5) else 1.0
        x, y, z, key, fill = {
            'soft': (0.25, 1.0, 0.75, 0.5, 0.5),
            'left': (0.95, 0.8, 0.6, 0.7, 0.34),
            'right': (0.95, 0.8, 0.6, 0.7, 0.34),
            'hard': (0.6, 0.75, 0.55, 1.0, 0.2),
        }[item.light]
        direction = np.array([side * x, y, z]) + rng.normal(0, 0.08, 3)
        return cls((direction / np.linalg.norm(direction)).astype(np.float32), key, fill)


def _studio(r: np.ndarray, light: Light) -> np.ndarray:
    """Brightness [P] of the studio in directions `r` [3, P]: a soft box, a strip light, floor and ceiling."""
    lx, ly, lz = light.direction
    window = _ease((r[0] * lx + r[1] * ly + r[2] * lz - 0.66) * 3.2)
    strip = _ease((r[0] * (-np.sign(lx)) - 0.45) * 2.5) * _ease((0.95 - np.abs(r[1])) * 3)
    return 0.34 + 0.34 * _ease(r[1] * 2 + 0.5) + 1.3 * window + 0.5 * strip - 0.2 * _ease(1 - np.abs(r[1] + 0.15) * 4)


def _ease(x: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1 over x in 0..1."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def shade(
    item: Item, slots: Sequence[str], f: Fragments, camera: Camera, light: Light
) -> tuple[np.ndarray, np.ndarray | None]:
    """Linear RGB [3, P] of the fragments, and the fraction of the backdrop [3, P] seen through them, if any."""
    table = finishes(item)
    used = [table[name] for name in slots]

    def gather(values) -> np.ndarray:
        return np.asarray(values, np.float32)[f.slot]

    cell = camera.scale * CELL
    albedo = np.stack([finish.colour for finish in used], 1)[:, f.slot].astype(np.float32)
    u, v = f.uv
    own = gather([finish.material is MATERIALS[item.material] for finish in used])
    if item.pattern != 'plain':
        y = f.position[1]
        share = _pattern(item, u, v, (y - y.min()) / max(float(np.ptp(y)), 1e-3), cell) * gather(
            [x.patterned for x in used]
        )
        albedo += (second_colour(item)[:, None] - albedo) * share
    texture = MATERIALS[item.material].texture
    if texture:
        albedo *= 1 + (_texture(texture, u, v, f.position, cell) - 1) * own

    normal = f.normal
    if folds := _FOLDS.get(item.label):
        normal = normal + _folds(item, f.position, camera) * (folds * own)
        normal = normal / np.sqrt(np.maximum((normal * normal).sum(0), 1e-6))
    eye, key = camera.eye.astype(np.float32), light.direction
    facing = np.clip(eye @ normal, 0, 1)
    lit = key @ normal
    half = (eye + key) / np.linalg.norm(eye + key)
    rim = (1 - facing) ** 2
    rim4 = rim * rim

    ambient = light.fill * (0.86 + 0.28 * normal[1]) * f.occlusion
    direct = light.key * np.clip((lit + 0.15) / 1.15, 0, 1) * (0.35 + 0.65 * f.occlusion)
    sheen, metal, mirror = (gather([getattr(x.material, k) for x in used]) for k in ('sheen', 'metal', 'mirror'))
    glow = gather([x.glow for x in used])
    opacity = gather([x.material.opacity for x in used])
    rgb = albedo * (opacity * (1 - metal) * (1.18 * (ambient + direct))) + (albedo + 0.04) * (sheen * rim)
    if glow.any():  # a lamp shade, brightest where one looks through it towards the bulb
        rgb += albedo * np.array([[1.0], [0.86], [0.62]], np.float32) * (glow * facing**3)

    shiny = np.flatnonzero(gather([x.material.spec for x in used]) > 0)
    if len(shiny):
        slot, n, at = f.slot[shiny], normal[:, shiny], facing[shiny]
        spec, gloss = (np.array([getattr(x.material, k) for x in used], np.float32)[slot] for k in ('spec', 'gloss'))
        highlight = spec * light.key * np.clip(half @ n, 1e-3, 1) ** gloss
        seen = _studio(2 * at * n - eye[:, None], light) * (0.4 + 0.6 * f.occlusion[shiny])
        m, grazing = metal[shiny], 0.05 + 0.95 * rim4[shiny]
        tint = m * albedo[:, shiny] + (1 - m)
        rgb[:, shiny] += tint * (highlight + seen * (m * 0.95 + (1 - m) * mirror[shiny] * grazing))
    if opacity.min() == 1:
        return rgb, None
    passed = np.maximum(albedo, 0.004) ** (0.3 + 0.5 * (1 - facing))  # a longer way through the glass near the outline
    return rgb, passed * ((1 - opacity) * (1 - 0.65 * rim4))
