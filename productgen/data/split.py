"""The train/validation split: a function of each product's key, independent of the rest of the data set.

So adding, removing or reordering pictures never moves another picture to the other side, and all views of a product
(same key) are on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from productgen.data.source import DataError


def in_validation(keys: Sequence[str], fraction: float) -> np.ndarray:
    """Which items are held out from training.

    Args:
      keys: N strings; items with the same key are on the same side.
      fraction: expected fraction of the distinct keys, 0 to below 1. Raising it only adds to the validation set.

    Returns:
      bool [N], True for validation.

    Raises:
      DataError: `fraction` is out of range.
    """
    if not 0 <= fraction < 1:
        raise DataError('data.validation', f'{fraction} is not a fraction from 0 to below 1')
    return np.fromiter((_position(key) < fraction for key in keys), bool, len(keys))


def _position(key: str) -> float:
    """A number in [0, 1) that depends on the key alone (Python's own hash differs between processes)."""
    digest = hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
    return int.from_bytes(digest, 'big') / 2**64
