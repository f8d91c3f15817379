"""Affine resampling of images without aliasing and without black borders.

The chain of Karras et al. 2020 (arXiv 2006.06676, appendix B, algorithm 1): upsample twice with the sym6 wavelet
filter, look up bilinearly, downsample with the same filter. The filter is orthogonal to its own even shifts, so that
upsampling and downsampling again is the identity: an image that is not moved is not blurred.

The paper pads the image by reflection, as far as the largest motion in the batch requires. Shapes are static under
`jit`, so here only a fixed margin is added, enough for the filters at the border, and coordinates beyond it are
reflected before the lookup. Memory does not depend on the motion, and no motion, however large, brings in black. In the
reflected image the filter is mirrored too; sym6 is nearly symmetric, so that only the finest detail differs.

A filter along an axis is one product with a constant banded matrix, borders included. That is more arithmetic than
shifted sums (1.3 GFLOP for an image of 256 x 256, growing with the cube), but its gradient is again one product, where
the gradient of upsampling by slices takes a CPU ten times as long (1.1 ms for an image of 64 x 64); it compiles fast.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Daubechies' least asymmetric wavelet with six vanishing moments: the decomposition low-pass.
SYM6 = np.array(
    [
        0.015404109327027373,
        0.0034907120842174702,
        -0.11799011114819057,
        -0.048311742585633,
        0.4910559419267466,
        0.787641141030194,
        0.3379294217276218,
        -0.07263752278646252,
        -0.021060292512300564,
        0.04472490177066578,
        0.0017677118642428036,
        -0.007800708325034148,
    ]
)
_PEAK = 5  # the tap that is aligned with a pixel when upsampling
_DELAY = float(np.sum((np.arange(12) - _PEAK) * SYM6) / np.sum(SYM6))  # upsampled pixels to the centre of mass
_MARGIN = 4  # pixels kept around the image; the downsampling filter reads 3 of them


def along(matrices, images, axis):
    """Multiplies axis 1 or 2 of [B, H, W, C] by a matrix [N, n], or by one for each image [B, N, n]."""
    batch = 'b' * (matrices.ndim - 2)
    spec = f'{batch}nh,bhwc->bnwc' if axis == 1 else f'{batch}nw,bhwc->bhnc'
    return jnp.einsum(spec, jnp.asarray(matrices, images.dtype), images, precision='highest')


def reflected(size, margin):
    """[size + 2 margin, size]: adds a margin on both sides, mirrored about the centres of the border pixels."""
    return np.pad(np.eye(size, dtype=np.float32), [(margin, margin), (0, 0)], mode='reflect')


def _bank(size):
    """[size, 2 size + 10]: row i has the taps of pixel i, on an axis of double resolution."""
    matrix = np.zeros((size, 2 * (size + _PEAK)), np.float32)
    for pixel in range(size):
        matrix[pixel, 2 * pixel : 2 * pixel + 12] = SYM6
    return matrix


def _upsampling(size):
    """[2 (size + 8), size]: doubles an axis, with `_MARGIN` pixels of its reflection on both sides."""
    reach = 3  # pixels that the filter reads beyond the one it is aligned with
    margin = _MARGIN + reach
    start, length = _PEAK + 2 * reach, 2 * (size + 2 * _MARGIN)
    return 2**0.5 * _bank(size + 2 * margin).T[start : start + length] @ reflected(size, margin)


def _downsampling(size):
    """[size, 2 size + 10]: halves an axis that starts `_PEAK` upsampled pixels before the first pixel."""
    return _bank(size) / 2**0.5


def _reflect(x, size):
    """Mirrors coordinates about the centres of the border pixels, repeatedly, into [0, size - 1]."""
    half = max(size - 1, 1)
    return jnp.minimum(abs(x - 2 * half * jnp.round(x / (2 * half))), size - 1)


def _source(inverse, x, y, width, height):
    """Input positions of the output positions x [X], y [Y]: pixel coordinates x, y [B, Y, X]."""
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    x, y = x - centre_x, (y - centre_y)[:, None]
    a = inverse[..., None, None]  # [B, 2, 3, 1, 1]
    return (
        a[:, 0, 0] * x + a[:, 0, 1] * y + a[:, 0, 2] + centre_x,
        a[:, 1, 0] * x + a[:, 1, 1] * y + a[:, 1, 2] + centre_y,
    )


@jax.vmap
def _lookup(image, y, x):
    """Reads an image [H, W, C] at integer positions [Y, X], all of them inside -> [Y, X, C]."""
    return image.at[y, x].get(mode='promise_in_bounds')


def warp(images, inverse):
    """Resamples images under an affine map, free of aliasing, with reflected borders.

    Args:
      images: float [B, H, W, C], any number of channels; H and W may differ.
      inverse: float [B, 2, 3], maps output to input positions (x, y, 1), in pixels from the image centre.

    Returns:
      [B, H, W, C], linear in `images`.

    Source: Karras et al. 2020, arXiv 2006.06676, appendix B, algorithm 1.
    """
    height, width = images.shape[1:3]
    canvas = along(_upsampling(width), along(_upsampling(height), images, 1), 2)  # [B, 2 (H + 8), 2 (W + 8), C]

    def positions(size):  # of the upsampled pixels that `_downsampling` reads, in input pixels
        return (jnp.arange(2 * (size + _PEAK), dtype=inverse.dtype) - _PEAK - _DELAY) / 2

    def on_canvas(x, size):  # index of a pixel of the canvas, and the fraction of the way to the next one
        x = jnp.where((x < 1 - _MARGIN) | (x > size + _MARGIN - 2), _reflect(x, size), x)
        x = 2 * (x + _MARGIN) + _DELAY
        index = jnp.floor(x)  # not fmod, which is slow on CPUs
        return index.astype(jnp.int32), (x - index).astype(images.dtype)[..., None]

    x, y = _source(inverse, positions(width), positions(height), width, height)  # [B, 2 H + 10, 2 W + 10]
    (x, right), (y, down) = on_canvas(x, width), on_canvas(y, height)
    upper = (1 - right) * _lookup(canvas, y, x) + right * _lookup(canvas, y, x + 1)
    lower = (1 - right) * _lookup(canvas, y + 1, x) + right * _lookup(canvas, y + 1, x + 1)
    moved = (1 - down) * upper + down * lower
    return along(_downsampling(width), along(_downsampling(height), moved, 1), 2)  # [B, H, W, C]


def move_pixels(images, inverse):
    """`warp` for maps of pixels onto pixels (flips, quarter turns, integer shifts): exact, without filters."""
    height, width = images.shape[1:3]
    positions = (jnp.arange(size, dtype=inverse.dtype) for size in (width, height))
    x, y = _source(inverse, *positions, width, height)
    x, y = (_reflect(jnp.round(v), size).astype(jnp.int32) for v, size in ((x, width), (y, height)))
    return _lookup(images, y, x)
