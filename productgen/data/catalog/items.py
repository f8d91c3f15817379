"""What each item is: attributes drawn from its index alone, and the caption made of them.

Every draw is a hash of (seed, stream, number), so the table of any number of items is a few array operations, and
item i does not depend on how many there are. Four consecutive items are pictures of one product (SKU): they share what
belongs to the product and differ in how it was photographed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

VIEWS_PER_SKU = 4

PALETTE = {  # sRGB
    'white': (240, 240, 237), 'black': (42, 42, 46), 'grey': (128, 130, 133), 'red': (192, 30, 40),
    'orange': (232, 112, 28), 'yellow': (242, 200, 44), 'green': (54, 130, 68), 'teal': (22, 132, 136),
    'blue': (36, 82, 172), 'purple': (112, 60, 152), 'pink': (238, 142, 170), 'brown': (108, 68, 40),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Category:
    """What a kind of product is made of (`material: weight`), how it may be decorated, and how it is staged."""

    materials: dict[str, float]
    patterned: float  # fraction of products with a pattern
    stage: str = 'floor'  # 'floor': stands in front of a backdrop; 'flat': lies on one, seen from above
    plural: bool = False


CATEGORIES = {
    'mug': Category({'ceramic': 6, 'stoneware': 3, 'metal': 1}, 0.6),
    'bottle': Category({'glass': 4, 'metal': 3, 'plastic': 3}, 0.25),
    'vase': Category({'ceramic': 4, 'stoneware': 3, 'glass': 2, 'metal': 1}, 0.45),
    'teapot': Category({'ceramic': 5, 'stoneware': 3, 'metal': 2}, 0.4),
    'lamp': Category({'cotton': 5, 'metal': 3, 'glass': 1}, 0.3),
    'chair': Category({'wood': 4, 'plastic': 3, 'leather': 2, 'cotton': 2}, 0.12),
    't-shirt': Category({'cotton': 8, 'knit': 2}, 0.55, 'flat'),
    'dress': Category({'cotton': 7, 'knit': 1, 'denim': 2}, 0.6, 'flat'),
    'trousers': Category({'denim': 4, 'cotton': 5, 'leather': 1}, 0.2, 'flat', plural=True),
    'bag': Category({'leather': 5, 'cotton': 3, 'denim': 1}, 0.35),
    'shoe': Category({'leather': 6, 'cotton': 3, 'denim': 1}, 0.15),
    'hat': Category({'cotton': 3, 'straw': 3, 'knit': 2, 'leather': 1}, 0.3),
    'watch': Category({'leather': 5, 'metal': 4, 'plastic': 2}, 0.12, 'flat'),
    'sunglasses': Category({'plastic': 7, 'metal': 2, 'wood': 1}, 0.1, plural=True),
}

_PATTERNS = {'striped': 4, 'dotted': 3, 'checked': 3, 'zigzag': 2, 'two-tone': 2}
_BACKGROUNDS = {'white': 42, 'grey': 24, 'beige': 7, 'blue': 5, 'pink': 5, 'wood': 9, 'marble': 4, 'dark': 4}
_LIGHTS = {'soft': 4, 'left': 3, 'right': 3, 'hard': 2}
_VIEWS = ('front', 'left', 'right', 'above')

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    'label': tuple(CATEGORIES),
    'colour': tuple(PALETTE),
    'pattern': ('plain', *_PATTERNS),
    'material': (
        'ceramic',
        'stoneware',
        'glass',
        'metal',
        'plastic',
        'wood',
        'cotton',
        'knit',
        'denim',
        'leather',
        'straw',
    ),
    'background': tuple(_BACKGROUNDS),
    'view': _VIEWS,
    'light': tuple(_LIGHTS),
}
PRODUCT_ATTRIBUTES = ('label', 'colour', 'pattern', 'material')  # the others belong to the photo


def uniforms(seed: int, stream: int, numbers: np.ndarray, count: int) -> np.ndarray:
    """Hashes to uniform numbers in [0, 1): [len(numbers), count], a pure function of its arguments (splitmix64)."""
    base = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    z = np.asarray(numbers, np.uint64)[:, None] * np.uint64(count) + np.arange(count, dtype=np.uint64)
    z = base + (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


def generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """The random stream of one product or one photo."""
    return np.random.Generator(np.random.Philox(key=[(seed << 4) + stream, number]))


def _choose(u: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Codes [N] from uniforms [N] and weights [K] or [N, K]."""
    edges = np.cumsum(weights, -1) / np.sum(weights, -1, keepdims=True)
    return np.minimum((u[:, None] >= edges).sum(1), edges.shape[-1] - 1)


def table(seed: int, items: int) -> dict[str, np.ndarray]:
    """Attribute codes of items 0..`items`-1: for every attribute an int32 [items]."""
    kinds = len(CATEGORIES)
    blocks = -(-items // (VIEWS_PER_SKU * kinds))
    sku = np.arange(items) // VIEWS_PER_SKU
    # Every run of len(CATEGORIES) products holds each category once: small data sets are balanced too.
    label = np.argsort(uniforms(seed, 0, np.arange(blocks), kinds), 1).ravel()[sku]
    u = uniforms(seed, 1, sku, 4)
    names = ATTRIBUTES['material']
    materials = np.array([[c.materials.get(name, 0) for name in names] for c in CATEGORIES.values()], float)
    material = _choose(u[:, 0], materials[label])
    share = np.array([c.patterned for c in CATEGORIES.values()])[label]
    share = np.where(material == names.index('glass'), 0.0, share)
    pattern = np.where(u[:, 1] < share, 1 + _choose(u[:, 2], np.array(list(_PATTERNS.values()))), 0)
    colour = (u[:, 3] * len(PALETTE)).astype(int)
    w = uniforms(seed, 2, np.arange(items), 2)
    first = (uniforms(seed, 3, sku, 1)[:, 0] * len(_VIEWS)).astype(int)
    codes = {
        'label': label,
        'colour': colour,
        'pattern': pattern,
        'material': material,
        'background': _choose(w[:, 0], np.array(list(_BACKGROUNDS.values()))),
        'view': (first + np.arange(items)) % len(_VIEWS),  # a product is seen once from every side
        'light': _choose(w[:, 1], np.array(list(_LIGHTS.values()))),
    }
    return {name: codes[name].astype(np.int32) for name in ATTRIBUTES}


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture: its numbers and the names of its attributes."""

    seed: int
    index: int
    label: str
    colour: str
    pattern: str
    material: str
    background: str
    view: str
    light: str

    @property
    def sku(self) -> int:
        return self.index // VIEWS_PER_SKU

    def product_rng(self, stream: int) -> np.random.Generator:
        """Randomness shared by all pictures of this product."""
        return generator(self.seed, stream, self.sku)

    def photo_rng(self, stream: int) -> np.random.Generator:
        """Randomness of this picture."""
        return generator(self.seed, stream, self.index)


_MATERIAL_WORDS = {'glass': 'glass', 'wood': 'wooden', 'knit': 'knitted', 'metal': 'metal'}
_BACKGROUND_WORDS = {
    'white': 'on a white background', 'grey': 'on a light grey background', 'beige': 'on a beige background',
    'blue': 'on a pale blue background', 'pink': 'on a pale pink background', 'wood': 'on a wooden table',
    'marble': 'on white marble', 'dark': 'on a dark background',
}  # fmt: skip
_VIEW_WORDS = {
    'front': 'seen from the front', 'left': 'seen from the left', 'right': 'seen from the right',
    'above': 'seen from slightly above',
}  # fmt: skip
_LIGHT_WORDS = {
    'soft': 'in soft light',
    'left': 'lit from the left',
    'right': 'lit from the right',
    'hard': 'in hard light',
}


def caption(item: Item) -> str:
    """An English description, such as 'a red striped ceramic mug on a white background, seen from the left, ...'."""
    material = _MATERIAL_WORDS.get(item.material, item.material)
    pattern = '' if item.pattern == 'plain' else item.pattern + ' '
    noun = f'{item.colour} {pattern}{material} {item.label}'
    article = 'a pair of' if CATEGORIES[item.label].plural else 'an' if item.colour[0] in 'aeiou' else 'a'
    return ', '.join(
        [f'{article} {noun} {_BACKGROUND_WORDS[item.background]}', _VIEW_WORDS[item.view], _LIGHT_WORDS[item.light]]
    )
