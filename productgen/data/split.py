"""The train/validation split: a property of each product's name, not of the list it stands in.

So adding, removing or reordering pictures never moves another picture to the other side, and all views of a product
(same key) stay together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from productgen.data.source import DataError


def in_validation(keys: Sequence[str], share: float) -> np.ndarray:
    """Which items are kept out of training.

    Args:
      keys: N strings; items with the same key get the same answer.
      share: expected share of the distinct keys, 0 to below 1. Raising it only ever adds to the validation set.

    Returns:
      bool [N], True for validation.

    Raises:
      DataError: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise DataError('data.validation', f'{share} is not a share from 0 to below 1.')
    return np.fromiter((_position(key) < share for key in keys), bool, len(keys))


def _position(key: str) -> float:
    """A number in [0, 1) that depends on nothing but the key (Python's own hash differs from run to run)."""
    digest = hashlib.blake2b(key.encode('utf-8', 'surrogateescape'), digest_size=8).digest()
    return int.from_bytes(digest, 'big') / 2**64
