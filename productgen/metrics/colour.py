"""Perceptual colour: sRGB to CIE Lab, and the colour difference CIE Delta E 2000.

Functions accept NumPy or JAX arrays, return arrays of the same library, and compute in the precision of their input.
"""

from __future__ import annotations

from productgen.core.pixels import Array, to_linear

# IEC 61966-2-1, linear sRGB to XYZ under D65. The row sums are the white point, so greys have a = b = 0.
_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


def lab(rgb: Array) -> Array:
    """Converts sRGB colours, floats [..., 3] in [0, 1], to CIE Lab: L in [0, 100], a and b about -110 to 100.

    Values outside of [0, 1] are clipped. Sources: IEC 61966-2-1 for sRGB, CIE 15 for Lab, D65.
    """
    xp = rgb.__array_namespace__()
    linear = to_linear(xp.clip(rgb, 0, 1))
    # Sums instead of a matrix product, which accelerators compute in low precision.
    relative = xp.stack([sum(w * linear[..., i] for i, w in enumerate(row)) / sum(row) for row in _XYZ], -1)
    x, y, z = xp.moveaxis(
        xp.where(relative > (6 / 29) ** 3, xp.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0
    )
    return xp.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def ciede2000(one: Array, other: Array) -> Array:
    """CIE Delta E 2000 between Lab colours [..., 3] and [..., 3], which broadcast; 1 is about just noticeable.

    Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", 2005, equations 2 to 22, kL = kC = kH = 1. The mean
    hue is discontinuous at opposite hues; a tolerance of 1e-4 degrees keeps rounding from choosing the side.
    """
    xp = one.__array_namespace__()
    one, other = xp.broadcast_arrays(one, other)
    root7 = lambda c: xp.sqrt(c**7 / (c**7 + 25.0**7))
    sin, cos = lambda degrees: xp.sin(xp.deg2rad(degrees)), lambda degrees: xp.cos(xp.deg2rad(degrees))

    # Equations 2 to 7: a is stretched near grey, then chroma and hue.
    chroma = (xp.hypot(one[..., 1], one[..., 2]) + xp.hypot(other[..., 1], other[..., 2])) / 2
    stretch = 1.5 - 0.5 * root7(chroma)
    (l1, a1, b1), (l2, a2, b2) = ((x[..., 0], stretch * x[..., 1], x[..., 2]) for x in (one, other))
    c1, c2 = xp.hypot(a1, b1), xp.hypot(a2, b2)
    h1, h2 = (xp.rad2deg(xp.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))

    # Equations 8 to 11 and 14: greys have no hue.
    grey, far = c1 * c2 == 0, xp.abs(h2 - h1) > 180 + 1e-4
    turn = h2 - h1 - xp.where(far, 360 * xp.sign(h2 - h1), 0)
    hue = (h1 + h2) / 2
    hue = xp.where(far, xp.where(h1 + h2 < 360, hue + 180, hue - 180), hue)
    turn, hue = xp.where(grey, 0, turn), xp.where(grey, h1 + h2, hue)
    dl, dc, dh = l2 - l1, c2 - c1, 2 * xp.sqrt(c1 * c2) * sin(turn / 2)

    # Equations 12, 13 and 15 to 22.
    level, chroma = ((l1 + l2) / 2 - 50) ** 2, (c1 + c2) / 2
    t = 1 - 0.17 * cos(hue - 30) + 0.24 * cos(2 * hue) + 0.32 * cos(3 * hue + 6) - 0.2 * cos(4 * hue - 63)
    dl = dl / (1 + 0.015 * level / xp.sqrt(20 + level))
    dc = dc / (1 + 0.045 * chroma)
    dh = dh / (1 + 0.015 * chroma * t)
    rotation = -2 * root7(chroma) * sin(60 * xp.exp(-(((hue - 275) / 25) ** 2)))
    # The quadratic form is not negative, but rounding may make it so for equal colours.
    return xp.sqrt(xp.maximum(dl**2 + dc**2 + dh**2 + rotation * dc * dh, 0))
