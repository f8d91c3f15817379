"""A small photo studio: the product, its backdrop, its shadows, and the camera's imperfections."""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from productgen.core.pixels import LUMA
from productgen.data.catalog import shading
from productgen.data.catalog.accessories import ACCESSORIES
from productgen.data.catalog.garments import GARMENTS
from productgen.data.catalog.household import HOUSEHOLD
from productgen.data.catalog.items import CATEGORIES, Item
from productgen.data.catalog.raster import Camera, Fragments, Mesh, rasterise

PRODUCTS = {**HOUSEHOLD, **GARMENTS, **ACCESSORIES}
_SHADOW_SIZE = 64  # longer side of the shadow buffer, in pixels: shadows are soft, so it serves every resolution
_ANY = [0] + [255] * 255

_BACKDROPS = {  # sRGB
    'white': (252, 252, 252), 'grey': (214, 215, 217), 'beige': (228, 215, 194), 'blue': (182, 206, 226),
    'pink': (240, 208, 210), 'wood': (188, 140, 96), 'marble': (236, 235, 233), 'dark': (62, 62, 66),
}  # fmt: skip

_VIEWS = {'front': (0, 10, 10), 'left': (34, 14, 10), 'right': (-34, 14, 10), 'above': (0, 34, 20)}  # yaw, pitch, +-yaw
_CAST = {'soft': 0.3, 'left': 0.4, 'right': 0.4, 'hard': 0.55}  # darkness of the cast shadow


def _camera(item: Item, points: np.ndarray, height: int, width: int) -> Camera:
    """Frames the product for the item's view."""
    rng = item.photo_rng(1)
    yaw, pitch, wobble = _VIEWS[item.view]
    yaw, pitch = yaw + wobble * rng.uniform(-1, 1), pitch + rng.uniform(-4, 5)
    roll, fill, jitter = rng.normal(0, 1.0), rng.uniform(0.78, 0.9), rng.uniform(-0.6, 0.6, 2)
    if _lies(item):
        yaw, pitch, roll = 0.45 * yaw, 0.3 * (pitch - 10), 3 * roll
    if item.label == 'shoe':
        yaw += 12  # a shoe is built as seen exactly from its side
    return Camera.fit(points, *np.radians([yaw, pitch, roll]), fill, jitter, height, width)


def _shadows(
    coarse: np.ndarray, world: np.ndarray, camera: Camera, light: shading.Light, flat: bool, ground: float
) -> tuple[np.ndarray, np.ndarray]:
    """Contact shadow and cast shadow [H, W] in 0..1 on the plane y = `ground` (z = `ground` if `flat`).

    Faces `coarse` [G, 4] of the vertices `world` [V, 3] are thrown onto the plane along the light and painted from high
    to low, with a value that tells how close to the plane they are.
    """
    shrink = _SHADOW_SIZE / max(camera.height, camera.width)
    size = max(1, round(camera.width * shrink)), max(1, round(camera.height * shrink))
    axis = 2 if flat else 1
    height = np.maximum(world[:, axis] - ground, 0) * (0.4 if flat else 1.0)  # clothes lie flatter than they are drawn
    x, y, _ = camera.project(world - light.direction * (height / max(light.direction[axis], 0.35))[:, None])
    quads = np.rint(np.stack([x, y], 1) * shrink).astype(int)[coarse].reshape(-1, 8)
    height = height[coarse].min(1)
    order = np.argsort(-height)
    closeness = (1 + 254 * np.exp(-height[order] / 0.07)).astype(int)
    buffer = Image.new('L', size)
    polygon = ImageDraw.Draw(buffer).polygon
    for quad, value in zip(quads[order].tolist(), closeness.tolist(), strict=True):
        polygon(quad, value)
    soft = 1.8 if flat else 2.2 if light.key > 0.9 else 3.7
    contact = buffer.filter(ImageFilter.MaxFilter(3)).filter(ImageFilter.GaussianBlur(1.2))
    cast = buffer.point(_ANY).filter(ImageFilter.GaussianBlur(soft))
    layers = [layer.resize((camera.width, camera.height), Image.Resampling.BICUBIC) for layer in (contact, cast)]
    return tuple(np.asarray(layer, np.float32) / 255 for layer in layers)


def _wave(x: np.ndarray, y: np.ndarray, rng: np.random.Generator, stretch: float) -> np.ndarray:
    """Smooth noise in about -1..1: sines warped by sines, `stretch` times longer along x."""
    a, b, c = rng.uniform(0, 6, 3).astype(np.float32)
    x = x / np.float32(stretch)
    y = y + 0.35 * np.sin(2.1 * x + a) + 0.12 * np.sin(5.3 * x + b)
    return 0.6 * np.sin(9 * y + c) + 0.4 * np.sin(23 * y + 3 * x + a)


def _backdrop(item: Item, camera: Camera, flat: bool, ground: float) -> np.ndarray:
    """Linear RGB [3, H, W] of the empty studio."""
    rng = item.photo_rng(2)
    h, w = camera.height, camera.width
    y, x = (np.arange(h, dtype=np.float32)[:, None] + 0.5) / h, (np.arange(w, dtype=np.float32) + 0.5) / w
    colour = shading.linear(_BACKDROPS[item.background]) * rng.uniform(0.96, 1.04)
    glow = 1 - ((x - rng.uniform(0.35, 0.65)) ** 2 + (y - rng.uniform(0.3, 0.5)) ** 2)
    depth = {'white': 0.04, 'grey': 0.55, 'dark': 0.7, 'marble': 0.1}.get(item.background, 0.25)
    tone = 1 + depth * (glow - 0.85)
    if item.background == 'grey':
        tone = tone * (1.12 - 0.3 * y) if rng.uniform() < 0.6 else tone
    image = colour[:, None, None] * tone
    if item.background in ('wood', 'marble'):
        if flat:
            px, pz = (x * w - camera.x0) / camera.scale, (y * h - camera.y0) / camera.scale
            px, pz, fog = np.broadcast_to(px, (h, w)), np.broadcast_to(pz, (h, w)), np.float32(0)
        else:
            px, pz = camera.floor(ground)
            fog = np.clip((-pz - 1.2) / 0.8, 0, 1)  # the table ends, the wall begins
            fog = np.where(np.isfinite(pz), fog, 1)
            px, pz = np.where(fog < 1, px, 0), np.where(fog < 1, pz, 0)
        if item.background == 'wood':
            plank = np.floor(pz / 0.34)
            grain = _wave(px + 3.1 * plank, pz * 2.2 + 1.7 * plank, rng, 2.0)
            seam = np.clip(1 - np.abs(pz / 0.34 - np.round(pz / 0.34)) * 40, 0, 1)
            board = (0.92 + 0.13 * grain + 0.1 * np.sin(12.9 * plank)) * (1 - 0.45 * seam)
            table = image * np.stack([board, board**1.25, board**1.5])
        else:
            vein = _wave(px * 1.7 + pz, pz * 0.3 - 0.35 * px, rng, 1.2)
            table = image * (0.97 - 0.1 * np.exp(-((vein - 0.2) ** 2) * 25) + 0.03 * vein)
        wall = shading.linear((226, 224, 220))[:, None, None] * tone
        image = table + (wall - table) * fog
    return image.astype(np.float32)


def _occlusion(f: Fragments, camera: Camera, floor: float | None) -> np.ndarray:
    """Fraction [P] of the surrounding light that arrives, with what the neighbourhood and the floor take away.

    The neighbourhood counts by unsharp masking of the depth: how far a sample lies behind the mean around it.
    """
    height, width = camera.height, camera.width
    count = np.bincount(f.pixel, minlength=height * width).astype(np.float32).reshape(height, width)
    depth = np.bincount(f.pixel, f.nearness, height * width).astype(np.float32).reshape(height, width)
    radius = max(3, round(0.09 * min(height, width)) | 1)
    count, depth = (ndimage.uniform_filter(a, radius, mode='constant') for a in (count, depth))
    behind = (depth / np.maximum(count, 1e-3)).ravel()[f.pixel] - f.nearness
    occlusion = f.occlusion / (1 + 3.0 * np.clip(behind - 0.01, 0, 0.4))
    if floor is None:
        return occlusion
    above = f.position[1] - np.float32(floor + camera.centre[1])
    return occlusion * np.clip(0.62 + 2.2 * above, 0, 1)


class _Shot(NamedTuple):
    """A product before the camera, without its backdrop.

    Attributes:
      camera: frames it.
      ground: height of the plane it stands on, or depth of that it lies on.
      shadow: what its shadows leave of the light on that plane, [H, W].
      free: fraction of the backdrop that is seen, [H, W], or [3, H, W] through coloured glass.
      light: linear RGB [3, H, W] of the product, weighted by how much of a pixel it covers.
      cover: how much of each pixel it covers, [H, W].
    """

    camera: Camera
    ground: float
    shadow: np.ndarray
    free: np.ndarray
    light: np.ndarray
    cover: np.ndarray


@functools.lru_cache(maxsize=8)  # columns of one item are read together
def _shoot(item: Item, height: int, width: int) -> _Shot:
    short = min(height, width)
    samples = 3 if short < 48 else 2
    lod = int(np.clip(10 + short // 6, 14, 40)) // 2 * 2
    flat = _lies(item)
    light = shading.Light.of(item)

    mesh = Mesh.of(PRODUCTS[item.label](item.product_rng(4), lod))
    camera = _camera(item, mesh.points, height, width)
    world = camera.world(mesh.points)
    ground = float(world[:, 2].min()) - 0.02 if flat else float(world[:, 1].min())
    fragments = rasterise(mesh, world, camera, samples)
    fragments = dataclasses.replace(fragments, occlusion=_occlusion(fragments, camera, None if flat else ground))
    rgb, passed = shading.shade(item, mesh.slots, fragments, camera, light)
    rgb = np.where(rgb < 0.7, rgb, 1 - 0.3 * np.exp((0.7 - rgb) / 0.3))  # a film-like shoulder

    contact, cast = _shadows(mesh.coarse, world, camera, light, flat, ground)
    dense = 0.5 if item.material == 'glass' else 1.0
    shadow = (1 - dense * _CAST[item.light] * cast) * (1 - dense * 0.5 * contact)

    def pixels(values: np.ndarray | None) -> np.ndarray:
        total = np.bincount(fragments.pixel, values, height * width).astype(np.float32)
        return total.reshape(height, width) / samples**2

    cover = pixels(None)
    free = 1 - cover if passed is None else 1 - cover + np.stack([pixels(c) for c in passed])
    return _Shot(camera, ground, shadow, free, np.stack([pixels(c) for c in rgb]), cover)


def _lies(item: Item) -> bool:
    """Whether the product lies on the ground instead of standing on it."""
    return CATEGORIES[item.label].stage == 'flat'


def render(item: Item, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture uint8 [H, W, 3] and the fraction of each pixel that the product covers, uint8 [H, W, 1]."""
    shot = _shoot(item, height, width)
    backdrop = _backdrop(item, shot.camera, _lies(item), shot.ground) * shot.shadow
    image = backdrop * shot.free + shot.light
    mask = np.rint(255 * shot.cover).astype(np.uint8)[..., None]
    return _develop(item, image), mask


def studio(item: Item, height: int, width: int) -> np.ndarray:
    """The same product in the same light on a pure white ground without shadows, uint8 [H, W, 3]."""
    shot = _shoot(item, height, width)
    return _develop(item, shot.light, np.broadcast_to(shot.free, shot.light.shape))


def sketch(item: Item, height: int, width: int) -> np.ndarray:
    """The edges of `studio`, black lines of one pixel on white, uint8 [H, W, 1].

    Canny, "A Computational Approach to Edge Detection", 1986.
    """
    from skimage.feature import canny  # here, since only sketches need the library

    gray = studio(item, height, width) @ LUMA / 255
    edges = canny(gray, sigma=max(min(height, width) / 128, 0.6), low_threshold=0.05, high_threshold=0.12)
    return np.where(edges, 0, 255).astype(np.uint8)[..., None]


def _develop(item: Item, image: np.ndarray, white: np.ndarray | None = None) -> np.ndarray:
    """Exposure, white balance, vignette and sensor noise; linear RGB [3, H, W] to sRGB uint8 [H, W, 3].

    `white` [3, H, W] is how much of a pure white ground is seen, which none of these changes.
    """
    rng = item.photo_rng(3)
    _, h, w = image.shape
    y, x = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    vignette = 1 - rng.uniform(0.0, 0.03) * (x * x + y * y)
    balance = (rng.uniform(0.97, 1.06) * (1 + rng.normal(0, 0.012, 3))).astype(np.float32)
    image = image * vignette * balance[:, None, None]
    image = np.clip(image if white is None else image + white, 0, 1) ** np.float32(1 / 2.2)
    noise = np.float32(rng.uniform(0.003, 0.008)) * rng.standard_normal((h, w), np.float32)
    image = image + (noise if white is None else noise * (1 - white))
    image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    return np.ascontiguousarray(image.transpose(1, 2, 0))
