"""The embedded data set: any number of procedural product photos, at any resolution, without a download.

A product is a few surfaces of revolution, lofts, tubes and sheets (`household`, `garments`, `accessories`, built on
`mesh`), drawn through a visibility buffer (`raster`), shaded (`shading`) and set into a small photo studio (`scene`).
"""

from __future__ import annotations

import functools
import hashlib
import operator

from productgen.data.catalog import items as items_lib
from productgen.data.catalog import scene
from productgen.data.source import Item

# Part of the digest; raise it with every change to a picture, a caption or an attribute of an item.
VERSION = 1


class Catalog:
    """A `Source` of procedural product photos; item i depends only on `seed` and i.

    Args:
      resolution: (height, width) in pixels.
      items: number of pictures; four consecutive ones show one product.
      seed: another seed is another catalogue.
    """

    # What `data.labels=auto` conditions on: given the large areas, a generator learns shapes sooner.
    usual_conditions = ('label', 'colour', 'background')

    def __init__(self, resolution: tuple[int, int], items: int, seed: int = 0):
        height, width = resolution
        if min(height, width) < 8:
            raise ValueError(f'catalog pictures need at least 8x8 pixels, not {width}x{height}')
        if items < 1:
            raise ValueError(f'items must be positive, not {items}')
        if not 0 <= seed < 2**32:
            raise ValueError(f'seed must lie in 0..2**32-1, not {seed}')
        self.resolution, self.seed = (height, width), seed
        self.columns = {'image': (*resolution, 3), 'mask': (*resolution, 1)}
        self.columns |= {'sketch': (*resolution, 1), 'studio': (*resolution, 3)}
        self.attributes = items_lib.ATTRIBUTES
        self.codes = items_lib.table(seed, items)
        labels = [name.upper().replace('-', '')[:5] for name in self.attributes['label']]
        per_sku = items_lib.VIEWS_PER_SKU
        self.keys = [f'{labels[code]}-{i // per_sku:06d}' for i, code in enumerate(self.codes['label'])]

    @property
    def digest(self) -> str:
        """Changes with every argument and with `VERSION`."""
        content = 'catalog', VERSION, self.resolution, len(self), self.seed
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.keys)

    def item(self, index: int) -> items_lib.Item:
        """The attributes of item `index` by name."""
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f'item {index} of {len(self)}')
        names = {name: values[self.codes[name][index]] for name, values in self.attributes.items()}
        return items_lib.Item(seed=self.seed, index=index, **names)

    def __getitem__(self, index: int) -> Item:
        """The columns of an item, each drawn when it is read.

        `image` uint8 [H, W, 3] in sRGB; `mask` uint8 [H, W, 1], how much of each pixel the product covers; `studio`
        uint8 [H, W, 3], the product on pure white; `sketch` uint8 [H, W, 1], its edges.
        """
        item = self.item(index)
        rendered = functools.cache(lambda: scene.render(item, *self.resolution))
        return Item(
            {
                'image': lambda: rendered()[0],
                'mask': lambda: rendered()[1],
                'sketch': lambda: scene.sketch(item, *self.resolution),
                'studio': lambda: scene.studio(item, *self.resolution),
            }
        )

    def text(self, index: int) -> str:
        """An English caption of item `index`."""
        return items_lib.caption(self.item(index))
