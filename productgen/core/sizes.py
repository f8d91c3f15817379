"""Image sizes that networks can halve or double."""

from __future__ import annotations

import numpy as np

from productgen.config import UserError


def levels(resolution: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Base size and number of doublings of a resolution: (128, 96) -> ((4, 3), 5).

    The longer side of the base is 4 to 7 pixels.

    Args:
      resolution: (H, W).

    Raises:
      UserError: the resolution is not a base times 2^n with n of at least 1; the message names the nearest that are.
    """
    n = max(int(np.log2(max(resolution) / 4)), 0)
    if n < 1 or any(r % 2**n for r in resolution):
        valid = {(h << m, w << m) for m in range(1, n + 3) for h in range(1, 8) for w in range(1, 8) if max(h, w) >= 4}
        # By how much larger or smaller, and by how much another shape.
        ratios = lambda size: [np.log(a / b) for a, b in zip(size, resolution, strict=True)]
        gap = lambda size: sum(map(abs, ratios(size))) + 2 * abs(np.subtract(*ratios(size)))
        near = [f'{w}x{h}' for h, w in sorted(valid, key=gap)[:2]]
        raise UserError(
            'data.resolution',
            f'{resolution[1]}x{resolution[0]} is not base x 2^n with the longer side of the base 4 to 7 pixels',
            f'the nearest that are: {" and ".join(near)}',
        )
    return (resolution[0] >> n, resolution[1] >> n), n


def check_size(size: tuple[int, int], halvings: int) -> None:
    """Checks that feature maps of a size (H, W) can be halved `halvings` times.

    Raises:
      ValueError: they cannot; the message names the nearest size that can.
    """
    unit = 1 << halvings
    if any(side % unit for side in size):
        height, width = (max(round(side / unit), 1) * unit for side in size)
        raise ValueError(
            f'{size[1]}x{size[0]} cannot be halved {halvings} times; the nearest size that can is {width}x{height}'
        )
