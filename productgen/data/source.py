"""What a data source is: a sequence of product pictures with named attributes.

A source is built for one output size and yields pictures of that size, so nothing downstream depends on where a picture
came from. The arrays that select and label pictures (`codes`, `keys`) are known without decoding a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from productgen.config import UserError


class DataError(UserError):
    """A data set that cannot be used; `field` is the setting or the file that is wrong."""


class Item(Mapping[str, np.ndarray]):
    """The columns of one item, each decoded when it is looked up, so that unused ones cost nothing.

    Args:
      readers: for each column a function that returns it, uint8 [H, W, C].
    """

    def __init__(self, readers: Mapping[str, Callable[[], np.ndarray]]):
        self._readers = readers

    def __getitem__(self, name: str) -> np.ndarray:
        return self._readers[name]()

    def __contains__(self, name: object) -> bool:  # Mapping's own would decode the column
        return name in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class Source(Protocol):
    """A data set of N items.

    Attributes:
      columns: shape (H, W, C) of every array of an item, by name: `image` (H, W, 3) in sRGB and, where the source has
        it, `mask` (H, W, 1), 255 where the product is. `input` and `target` exist where the config names them.
      attributes: value names of every categorical attribute, in code order; the class of a picture is `label`.
      codes: for every attribute an int32 [N] array of indices into its value names; -1 where an item lacks the value.
      keys: N strings that identify the *product* of each item (its SKU or group where there is one, else the file).
        The train/validation split hashes them, so that all views of a product are on the same side.
      digest: a hex string that changes when any picture, attribute or key does.

    A source whose items have random parts also has `drawn(index, draw)`: the columns of an item with the random parts
    that a number from 0 to 2^32 - 1 decides, such as the place of a crop; `__getitem__` has fixed ones. A source may
    have `usual_conditions`, what `data.labels=auto` means. A run reports, where there are any,
    `skipped` and `missing` files (pairs of path and reason), `duplicates` (groups of paths), `remarks` (lines on how
    the data was read) and `unused` (columns that are no attributes).
    """

    columns: Mapping[str, tuple[int, int, int]]
    attributes: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, np.ndarray]
    keys: Sequence[str]
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        """The columns of an item, uint8 [H, W, C] each; a source may decode a column when it is looked up (`Item`)."""
        ...

    def text(self, index: int) -> str:
        """An English description of the item; empty where there is none."""
        ...


def read_item(source: Source, index: int, draw: int | None) -> Mapping[str, np.ndarray]:
    """An item with the random parts that a number decides; with fixed ones for None and where it has none."""
    drawn = getattr(source, 'drawn', None)
    return source[index] if draw is None or drawn is None else drawn(index, draw)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The `data` section of a config.

    Attributes:
      source: `catalog` (embedded, procedural), `folder:PATH`, `pairs:PATH` (pictures and what they should become, see
        `productgen.data.pairs`), or `tfds:NAME`, where NAME may be the folder of a prepared data set.
      resolution: `64` or WIDTHxHEIGHT such as `96x128`.
      fit: how a photo of another aspect ratio is brought to the resolution: `pad` keeps all of it, `crop` fills the
        frame from its centre, `stretch` distorts; `native` takes a crop of that size without resizing, at another place
        each time the photo is trained on and from the centre of held-out ones.
      background: colour (`white`, `#f4f4f4`, ...) behind transparent pictures and around padded ones.
      labels: attributes to condition on, comma separated; `none` is unconditional; `auto` is the class (and, for the
        catalog, colour and background) where there are at least two values.
      group: metadata column that identifies the product (an SKU); empty uses `sku` where it exists.
      validation: fraction of the products held out from training, 0 to below 1.
      balance: how evenly the values of the first attribute conditioned on are drawn: 0 as the data has them, 1 every
        value equally often; a value of n pictures is drawn in proportion to n^(1 - balance). Pictures without a value
        are drawn as often as the data has them.
      catalog_items: number of pictures of the `catalog` source; other sources always use all they have.
      cache_gb: decoded pictures are kept in memory up to this size; beyond it they are decoded again each epoch.
      workers: threads that read and decode.
      input: column of the source, such as `mask`, that is the `input` of a method that translates pictures; empty where
        no method needs one.
      target: column of the source, such as `image`, that such a method learns to produce; or a second data set, written
        as `source` is: its pictures are then drawn at random for every input, without pairs. `catalog:COLUMN` takes
        another column of the catalog, such as `catalog:studio`.

    Raises:
      DataError: a value is out of range.
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
    input: str = ''
    target: str = ''

    @property
    def unpaired(self) -> bool:
        """Whether targets come from a second data set."""
        return ':' in self.target

    def __post_init__(self):
        for name, least in (('catalog_items', 1), ('workers', 1), ('cache_gb', 0)):
            if not getattr(self, name) >= least:  # not `<`: a NaN is refused too
                raise DataError(f'data.{name}', f'{getattr(self, name)} is below {least}, the smallest value')
        if not 0 <= self.balance <= 1:
            raise DataError('data.balance', f'{self.balance} is not from 0 (as the data is) to 1 (every value equally)')
