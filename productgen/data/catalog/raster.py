"""From surfaces to fragments: a camera and a visibility buffer.

Pillow paints the number of every visible face, far ones first, into one integer image; everything else is computed
once per covered sample, by inverting the bilinear map of the face that is seen there. Drawing thus costs one polygon
fill per face, and shading is a few dozen array operations whatever the product.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

from productgen.data.catalog.mesh import Part


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that looks at the middle of a product, turned by `yaw` about its vertical axis, from `pitch` above.

    World coordinates have the product's turn applied and its middle at the origin. `scale` (pixels per unit, at the
    origin), `x0` and `y0` (pixels) place the picture in a frame of `height` x `width`.
    """

    yaw: float
    pitch: float
    roll: float
    centre: np.ndarray
    distance: float
    scale: float
    x0: float
    y0: float
    height: int
    width: int

    @classmethod
    def fit(
        cls, points: np.ndarray, yaw: float, pitch: float, roll: float, fill: float, jitter, height: int, width: int
    ) -> Camera:
        """Frames `points` [V, 3] so that they fill the fraction `fill` of the frame, off centre by `jitter` [2]."""
        low, high = points.min(0), points.max(0)
        centre, distance = (low + high) / 2, 3.2 * float(np.linalg.norm(high - low)) / 2 + 0.5
        camera = cls(yaw, pitch, roll, centre, distance, 1.0, 0.0, 0.0, height, width)
        x, y, _ = camera.project(camera.world(points))
        w, h = np.ptp(x), np.ptp(y)
        scale = fill * min(width / w, height / h)
        slack = np.array([width - w * scale, height - h * scale]) / 2
        dx, dy = np.asarray(jitter) * np.minimum(slack, 0.1 * min(height, width))
        return dataclasses.replace(
            camera,
            scale=scale,
            x0=width / 2 + dx - scale * (x.min() + x.max()) / 2,
            y0=height / 2 + dy - scale * (y.min() + y.max()) / 2,
        )

    @property
    def turn(self) -> np.ndarray:
        """Rotation [3, 3] from product to world directions."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])

    @property
    def eye(self) -> np.ndarray:
        """Direction [3] from the product to the camera."""
        return np.array([0, np.sin(self.pitch), np.cos(self.pitch)])

    def world(self, points: np.ndarray) -> np.ndarray:
        """World coordinates [V, 3] of product coordinates."""
        return (points - self.centre) @ self.turn.T

    def project(self, world: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixel coordinates x, y (downwards) and nearness of world points [V, 3]."""
        x, y, z = world.T
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        y, near = y * c - z * s, y * s + z * c
        k = self.distance / (self.distance - near)
        c, s = np.cos(self.roll), np.sin(self.roll)
        x, y = (x * c - y * s) * k, -(x * s + y * c) * k
        return x * self.scale + self.x0, y * self.scale + self.y0, near

    def floor(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """World x and z, each [H, W], where the pixel's ray meets the plane y = `level`; infinite above the horizon."""
        x = (np.arange(self.width, dtype=np.float32) + 0.5 - self.x0) / self.scale
        y = -(np.arange(self.height, dtype=np.float32)[:, None] + 0.5 - self.y0) / self.scale
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        down = self.distance * s - y * c
        t = np.where(down > 1e-3, (self.distance * s - level) / np.maximum(down, 1e-3), np.inf)
        return t * x, self.distance * c - t * (y * s + self.distance * c)


@dataclasses.dataclass(frozen=True)
class Fragments:
    """What the P covered samples of a picture show; floats are float32.

    Attributes:
      pixel: int [P], flat index of the pixel a sample belongs to.
      normal: [3, P] in world coordinates, turned towards the camera.
      position: [3, P] in product coordinates.
      uv: [2, P] pattern coordinates.
      occlusion, nearness: [P].
      slot: int [P], index into the list of finishes.
    """

    pixel: np.ndarray
    normal: np.ndarray
    position: np.ndarray
    uv: np.ndarray
    occlusion: np.ndarray
    nearness: np.ndarray
    slot: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mesh:
    """All parts of a product in one set of arrays.

    Attributes:
      vertex: float32 [V, 9]: product coordinates, normal, pattern coordinates, occlusion.
      corners: int [F, 4], vertices of every face.
      slot, hollow, lift: [F], see `Part`; a slot is an index into `slots`.
      coarse: int [G, 4], vertices of far fewer and larger faces, for shadows.
      slots: names of the finishes used.
    """

    vertex: np.ndarray
    corners: np.ndarray
    slot: np.ndarray
    hollow: np.ndarray
    lift: np.ndarray
    coarse: np.ndarray
    slots: tuple[str, ...]

    @classmethod
    def of(cls, parts: list[Part]) -> Mesh:
        slots = tuple(sorted({part.slot for part in parts}))
        vertex, corners, coarse, kinds, base = [], [], [], [], 0
        for part in parts:
            m, n, _ = part.points.shape
            grid = np.arange(base, base + m * n).reshape(m, n)
            corners.append(_quads(grid))
            coarse.append(_quads(grid[_some(m)][:, _some(n)]))
            kinds.append((len(corners[-1]), slots.index(part.slot), part.hollow, part.lift))
            fields = part.points, part.normals(), part.uv, part.occlusion[..., None]
            vertex.append(np.concatenate(fields, -1).reshape(m * n, 9))
            base += m * n
        count, *kinds = zip(*kinds, strict=True)
        return cls(
            np.concatenate(vertex).astype(np.float32),
            np.concatenate(corners),
            *(np.repeat(kind, count) for kind in kinds),
            np.concatenate(coarse),
            slots,
        )

    @property
    def points(self) -> np.ndarray:
        return self.vertex[:, :3]


def _quads(grid: np.ndarray) -> np.ndarray:
    """Corners [F, 4] of the faces of a grid [M, N] of vertex numbers."""
    return np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], -1).reshape(-1, 4)


def _some(count: int, most: int = 6) -> np.ndarray:
    """At most `most` + 1 of `count` indices, both ends among them."""
    steps = min(count - 1, most)
    return np.arange(steps + 1) * (count - 1) // steps


def _invert(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear coordinates s, t in [0, 1] of points in quadrilaterals `corners` [P, 8], by two Newton steps."""
    ax, ay, bx, by, cx, cy, dx, dy = corners.T
    bx, by, dx, dy, cx, cy = bx - ax, by - ay, dx - ax, dy - ay, ax - bx + cx - dx, ay - by + cy - dy
    x, y = x - ax, y - ay
    s = t = np.float32(0.5)
    for _ in range(2):
        sx, sy, tx, ty = bx + cx * t, by + cy * t, dx + cx * s, dy + cy * s
        rx, ry = x - bx * s - dx * t - cx * s * t, y - by * s - dy * t - cy * s * t
        det = sx * ty - sy * tx
        det = np.where(np.abs(det) < 1e-3, 1e-3, det)
        s, t = np.clip(s + (rx * ty - ry * tx) / det, 0, 1), np.clip(t + (ry * sx - rx * sy) / det, 0, 1)
    return s, t


def rasterise(mesh: Mesh, world: np.ndarray, camera: Camera, samples: int) -> Fragments:
    """Draws a mesh, whose vertices are at `world` [V, 3], with `samples` x `samples` samples per pixel."""
    x, y, near = camera.project(world)
    corners = mesh.corners
    quad = (np.stack([x, y], 1) * samples).astype(np.float32)[corners]
    diagonal, other = quad[:, 2] - quad[:, 0], quad[:, 3] - quad[:, 1]
    front = diagonal[:, 0] * other[:, 1] - diagonal[:, 1] * other[:, 0] > 0
    seen = np.flatnonzero(front | mesh.hollow)
    seen = seen[np.argsort(near[corners[seen]].mean(1) + mesh.lift[seen])]

    size = camera.width * samples, camera.height * samples
    buffer = Image.new('I', size)
    polygon = ImageDraw.Draw(buffer).polygon
    for number, outline in enumerate(np.rint(quad[seen] - 0.5).astype(int).reshape(-1, 8).tolist(), 1):
        polygon(outline, number)
    buffer = np.asarray(buffer).ravel()
    covered = np.flatnonzero(buffer)
    face = seen[buffer[covered] - 1]
    row, column = np.divmod(covered, size[0])

    vertex = np.concatenate([mesh.vertex.T, near[None].astype(np.float32)])  # [10, V], so that samples are contiguous
    s, t = _invert(
        quad.reshape(-1, 8)[face], column.astype(np.float32) + np.float32(0.5), row.astype(np.float32) + np.float32(0.5)
    )
    st = s * t
    ids = corners[face]
    weights = 1 - s - t + st, s - st, st, t - st
    values = sum(weight * vertex.take(ids[:, k], 1) for k, weight in enumerate(weights))
    side = np.where(front[face], np.float32(1), np.float32(-1))
    normal = camera.turn.astype(np.float32) @ values[3:6]
    normal *= side / np.sqrt(np.maximum((normal * normal).sum(0), 1e-8))
    occlusion = values[8] * np.where(side < 0, np.float32(0.5), np.float32(1))  # the inside of something hollow
    return Fragments(
        (row // samples) * camera.width + column // samples,
        normal,
        values[:3],
        values[6:8],
        occlusion,
        values[9],
        mesh.slot[face],
    )
