"""ICC profiles from the numbers that define colour spaces."""

import struct

import numpy as np

# Primaries [3, 2] and white point D65 of well-known spaces (SMPTE EG 432-1; Adobe RGB (1998)), and their gammas.
D65 = 0.3127, 0.3290
SPACES = {
    'p3': (((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), None),
    'adobe': (((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), 563 / 256),
}
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
D50 = np.array([0.9642, 1.0, 0.8249])


def to_xyz(primaries):
    """Linear RGB to XYZ under D65, from chromaticities (SMPTE RP 177)."""
    column = lambda x, y: np.array([x / y, 1, (1 - x - y) / y])
    columns = np.stack([column(*p) for p in primaries], -1)
    return columns * np.linalg.solve(columns, column(*D65))


def icc(primaries, gamma):
    """A profile of version 2 or 4 with these primaries; gamma None is the curve of sRGB."""
    curve = b'curv' + struct.pack('>IIH', 0, 1, round(gamma * 256)) if gamma else b''
    curve = curve or b'para' + struct.pack('>IHH', 0, 3, 0) + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    names = b'rXYZ', b'gXYZ', b'bXYZ'
    columns = (_adapted() @ to_xyz(primaries)).T
    tags = {name: b'XYZ ' + bytes(4) + _fixed(*x) for name, x in zip(names, columns, strict=True)}
    tags |= {name: curve for name in (b'rTRC', b'gTRC', b'bTRC')}
    return _profile(b'mntr', b'RGB ', b'XYZ ', tags)


def cmyk_icc():
    """A printer's profile with tables for paper as white as paper can be and perfect inks."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 7)] * 4, indexing='ij'), -1).reshape(-1, 4)
    light = ((1 - grid[:, :3]) * (1 - grid[:, 3:])) ** 2.2
    xyz = light @ (_adapted() @ to_xyz(SRGB)).T / D50
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    lab = np.stack([(116 * y - 16) / 100, (500 * (x - y) + 128) / 255, (200 * (y - z) + 128) / 255], -1)
    nodes = np.stack(np.meshgrid(*[np.linspace(0, 1, 17)] * 3, indexing='ij'), -1).reshape(-1, 3)
    y = (nodes[:, 0] * 100 + 16) / 116
    root = np.stack([y + (nodes[:, 1] * 255 - 128) / 500, y, y - (nodes[:, 2] * 255 - 128) / 200], -1)
    xyz = np.where(root > 6 / 29, root**3, 3 * (6 / 29) ** 2 * (root - 4 / 29)) * D50
    light = xyz @ np.linalg.inv(_adapted() @ to_xyz(SRGB)).T
    rgb = np.clip(light, 0, 1) ** (1 / 2.2)
    black = np.minimum(1 - rgb.max(-1, keepdims=True), 0.999)
    inks = np.concatenate([1 - rgb / (1 - black), black], -1)
    tables = {}
    for direction, table in ((b'A2B', lab), (b'B2A', inks)):
        tables |= {direction + digit: _table(4 if direction == b'A2B' else 3, table) for digit in (b'0', b'1', b'2')}
    return _profile(b'prtr', b'CMYK', b'Lab ', tables)


def _table(inputs, table):
    """A `lut8Type` without curves."""
    side, outputs = round(len(table) ** (1 / inputs)), table.shape[1]
    head = b'mft1' + struct.pack('>IBBBB', 0, inputs, outputs, side, 0)
    head += struct.pack('>9i', *(65536 * np.eye(3, dtype=int)).ravel())
    same = bytes(range(256))
    return head + same * inputs + np.rint(np.clip(table, 0, 1) * 255).astype(np.uint8).tobytes() + same * outputs


def _adapted():
    """From XYZ under D65 to XYZ under D50 (Bradford)."""
    white = to_xyz(SRGB).sum(1)
    return np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD


def _fixed(*values):
    return struct.pack(f'>{len(values)}i', *(round(v * 65536) for v in values))


def _profile(kind, space, connection, tags):
    tags = {**tags, b'wtpt': b'XYZ ' + bytes(4) + _fixed(*D50)}
    tags[b'desc'] = b'desc' + struct.pack('>II', 0, 5) + b'test\0' + bytes(78)
    table, body, start = b'', b'', 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack('>II', start + len(body), len(content))
        body += content
    size = start + len(body)
    head = struct.pack('>I4sI4s4s4s12s4s', size, bytes(4), 0x02400000, kind, space, connection, bytes(12), b'acsp')
    return head + bytes(68 - 40) + _fixed(*D50) + bytes(128 - 80) + struct.pack('>I', len(tags)) + table + body
