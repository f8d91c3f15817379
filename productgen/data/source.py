"""What a data source is: a sequence of product pictures with named attributes.

Every source is built for one output size and yields pictures that already have it, so that nothing after it has to
know where a picture came from. The columns that choose and label pictures (`codes`, `keys`) are known without decoding
a single one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class DataError(ValueError):
    """A data set that cannot be used; the message names the file or field and the way out."""


class Source(Protocol):
    """A data set of N pictures of one size.

    Attributes:
      attributes: value names of every categorical attribute, in code order; the class of a picture is `label`.
      codes: for every attribute an int32 [N] array of indices into its value names; -1 where an item lacks the value.
      keys: N strings that identify the *product* of each item (its SKU or group where there is one, else the file):
        the train/validation split hashes them, so that views of one product stay together.
      digest: a hex string that changes when any picture or column does.

    A source may also have `usual_conditions` (what `data.labels=auto` means), `skipped` (pairs of path and reason) and
    `duplicates` (groups of paths), which a run reports.
    """

    attributes: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, np.ndarray]
    keys: Sequence[str]
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`image` uint8 [H, W, 3] in sRGB and, where the source knows it, `mask` uint8 [H, W, 1] (255 = product)."""
        ...

    def text(self, index: int) -> str:
        """An English description of the item; empty where there is none."""
        ...


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section of a config.

    Attributes:
      source: `catalog` (embedded, procedural), `folder:PATH`, or `tfds:NAME`.
      resolution: `64` or WIDTHxHEIGHT such as `96x128`.
      fit: how a photo of another shape is brought to the resolution: `pad` keeps all of it, `crop` fills the frame
        from its centre, `stretch` distorts.
      background: colour (`white`, `#f4f4f4`, ...) behind transparent pictures and around padded ones.
      labels: attributes to condition on, comma separated; `none` is unconditional; `auto` is the class (and, for the
        catalog, colour and background) where there are at least two values.
      group: metadata column that says which pictures show one product (an SKU); empty uses `sku` where it exists.
      validation: share of the products kept out of training, 0 to below 1.
      balance: how evenly the values of the first attribute conditioned on are drawn: 0 as the data has them, 1 every
        value equally often; a value of n pictures is drawn in proportion to n^(1 - balance). Pictures without a value
        keep their share.
      catalog_items: number of pictures of the `catalog` source; other sources always use all they have.
      cache_gb: decoded pictures are kept in memory up to this size; beyond it they are read again each epoch.
      workers: threads that read and decode.
    """

    source: str = 'catalog'
    resolution: int | str = '32'
    fit: str = 'pad'
    background: str = 'white'
    labels: str = 'auto'
    group: str = ''
    validation: float = 0.1
    catalog_items: int = 20000
    cache_gb: float = 4.0
    workers: int = 2
    balance: float = 0.0

    def __post_init__(self):
        if not 0 <= self.balance <= 1:
            raise DataError('data.balance', f'{self.balance} is not from 0 (as the data is) to 1 (every value equally)')
