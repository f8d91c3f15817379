"""The embedded catalogue: items depend on their index alone, show their labels, and can be distinguished."""

import colorsys
import pathlib
import time
from concurrent import futures

import numpy as np
import pytest
from PIL import Image, ImageFilter

from productgen.data import catalog
from productgen.data.catalog import Catalog, scene
from productgen.data.catalog import items as items_lib

FIXTURES = pathlib.Path(__file__).parent.parent / 'fixtures'
KINDS = len(items_lib.CATEGORIES)
BLOCK = KINDS * items_lib.VIEWS_PER_SKU  # the shortest run of items in which every category occurs


@pytest.fixture(scope='module')
def small() -> Catalog:
    return Catalog((32, 32), 12 * BLOCK)


@pytest.fixture(scope='module')
def pictures(small) -> tuple[np.ndarray, np.ndarray]:
    found = [small[i] for i in range(len(small))]
    return np.stack([p['image'] for p in found]), np.stack([p['mask'] for p in found])


def test_shapes_and_types():
    catalog = Catalog((24, 40), 5)
    assert len(catalog) == len(catalog.keys) == 5
    assert set(catalog.codes) == set(catalog.attributes)
    for codes in catalog.codes.values():
        assert codes.dtype == np.int32 and codes.shape == (5,)
    picture = catalog[np.int64(4)]
    assert picture['image'].shape == (24, 40, 3) and picture['image'].dtype == np.uint8
    assert picture['mask'].shape == (24, 40, 1) and picture['mask'].dtype == np.uint8


@pytest.mark.parametrize('index', [-1, 5])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match='of 5'):
        Catalog((16, 16), 5)[index]


@pytest.mark.parametrize(
    'arguments, message', [(((4, 64), 5), 'not 64x4'), (((64, 64), 0), 'positive'), (((64, 64), 5, -1), 'seed')]
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Catalog(*arguments)


def test_items_do_not_depend_on_their_number():
    few, many = Catalog((32, 32), 7), Catalog((32, 32), 5000)
    for name in few.codes:
        np.testing.assert_array_equal(few.codes[name], many.codes[name][:7])
    assert list(few.keys) == list(many.keys[:7])
    for i in (0, 6):
        np.testing.assert_array_equal(few[i]['image'], many[i]['image'])
        assert few.text(i) == many.text(i)


def test_threads_draw_the_same(small):
    with futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: small[i]['image'], range(40)))
    for i, image in enumerate(together):
        np.testing.assert_array_equal(image, small[i]['image'])


def test_another_seed_is_another_catalogue():
    one, two = Catalog((32, 32), 200), Catalog((32, 32), 200, seed=1)
    assert all((one.codes[name] != two.codes[name]).mean() > 0.2 for name in one.codes)
    assert np.abs(one[0]['image'].astype(int) - two[0]['image']).mean() > 5


def test_the_pictures_are_those_of_this_version():
    """`catalog_v1.png` has an item of every category in a row; a change to the pictures needs another `VERSION`."""
    assert catalog.VERSION == 1
    with Image.open(FIXTURES / 'catalog_v1.png') as sheet:
        expected = np.asarray(sheet, int)
    items = Catalog((32, 32), BLOCK)
    found = np.concatenate([items[i]['image'] for i in range(0, BLOCK, items_lib.VIEWS_PER_SKU)], 1)
    # Processors differ in the last bit of a sine.
    assert np.abs(found - expected).max() <= 8 and np.abs(found - expected).mean() < 0.02


def test_digest(monkeypatch):
    digests = {Catalog(*args).digest for args in [((32, 32), 8), ((32, 48), 8), ((32, 32), 9), ((32, 32), 8, 1)]}
    assert len(digests) == 4
    assert Catalog((32, 32), 8).digest in digests
    monkeypatch.setattr(catalog, 'VERSION', 2)
    assert Catalog((32, 32), 8).digest not in digests


@pytest.mark.parametrize('index', range(0, BLOCK, items_lib.VIEWS_PER_SKU))
def test_same_scene_at_every_resolution(index):
    """One product of every category: 128 pixels averaged down show what 64 pixels show."""
    large, small = (Catalog((n, n), BLOCK)[index] for n in (128, 64))
    for name, limit in (('image', 8.0), ('mask', 6.0)):
        down = large[name].reshape(64, 2, 64, 2, -1).mean((1, 3))
        assert np.abs(down - small[name]).mean() < limit


def test_products_share_what_belongs_to_the_product(small):
    for name in items_lib.PRODUCT_ATTRIBUTES:
        per_sku = small.codes[name].reshape(-1, items_lib.VIEWS_PER_SKU)
        assert (per_sku == per_sku[:, :1]).all()
    views = np.sort(small.codes['view'].reshape(-1, items_lib.VIEWS_PER_SKU), 1)
    assert (views == np.arange(items_lib.VIEWS_PER_SKU)).all()
    assert len(set(small.keys)) == len(small) // items_lib.VIEWS_PER_SKU
    first, second = small.item(0), small.item(1)
    shapes = [scene.PRODUCTS[item.label](item.product_rng(4), 16)[0].points for item in (first, second)]
    np.testing.assert_array_equal(*shapes)


def test_every_value_occurs_and_fits_its_category():
    catalog = Catalog((32, 32), 4000)
    for name, values in catalog.attributes.items():
        assert set(catalog.codes[name]) == set(range(len(values))), name
    for i in range(0, 4000, 4):
        item = catalog.item(i)
        assert item.material in items_lib.CATEGORIES[item.label].materials
    counts = np.bincount(Catalog((32, 32), 10 * BLOCK).codes['label'])
    assert (counts == counts[0]).all()


def test_columns_of_many_items_are_quick():
    start = time.perf_counter()
    assert len(Catalog((256, 256), 16_384).keys) == 16_384
    assert time.perf_counter() - start < 2.0


def test_captions_name_label_and_colour(small):
    for i in range(BLOCK):
        item, text = small.item(i), small.text(i)
        assert item.colour in text and item.label in text
        assert item.pattern == 'plain' or item.pattern in text
    assert len({small.text(i) for i in range(BLOCK)}) > 0.9 * BLOCK


def test_mask_separates_product_from_backdrop(small, pictures, monkeypatch):
    """Without the product, pictures stay as they were outside of mask and shadow, and change inside."""
    image, mask = pictures
    covered = mask.mean((1, 2, 3)) / 255
    assert covered.min() > 0.03 and covered.max() < 0.9
    border = np.concatenate([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]], 1)
    assert (border.max((1, 2)) == 0).mean() > 0.85  # a few reach the edge, none fills it
    assert border.mean() < 5

    studios = []
    backdrop = scene._backdrop
    monkeypatch.setattr(scene, '_backdrop', lambda *args: studios.append(backdrop(*args)) or studios[-1])
    monkeypatch.setattr(scene, '_shadows', lambda *args: (np.zeros((32, 32)), np.zeros((32, 32))))
    for i in range(0, 2 * BLOCK, 3):
        item, lit = small.item(i), small[i]['image'].astype(int)
        empty = scene._develop(item, studios[-1]).astype(int)
        outside, inside = mask[i, ..., 0] == 0, mask[i, ..., 0] == 255
        change = np.abs(lit - empty).max(-1)
        assert change[outside].max() <= 1, small.text(i)
        if item.material != 'glass' and item.background not in ('white', 'dark'):
            assert np.median(change[inside]) > 8, small.text(i)
        # With shadows, what lies outside is darker or the same, never brighter.
        assert (image[i][outside] <= empty[outside] + 1).all()
        assert (image[i][outside] < empty[outside] - 8).any()


def test_white_products_show_on_white():
    catalog = Catalog((32, 32), 12_000)
    wanted = {'colour': 'white', 'background': 'white', 'pattern': 'plain', 'material': 'ceramic'}
    chosen = np.ones(len(catalog), bool)
    for name, value in wanted.items():
        chosen &= catalog.codes[name] == catalog.attributes[name].index(value)
    assert chosen.sum() >= 5
    for i in np.flatnonzero(chosen)[:8]:
        picture = catalog[i]
        assert picture['image'][picture['mask'][..., 0] == 255].std() > 8


def test_products_have_the_named_colour():
    catalog = Catalog((32, 32), 6000)
    kinds = [catalog.attributes['label'].index(name) for name in ('mug', 't-shirt', 'teapot', 'vase')]
    chosen = np.isin(catalog.codes['label'], kinds)
    chosen &= catalog.codes['material'] != catalog.attributes['material'].index('glass')
    for name, value in {'pattern': 'plain', 'light': 'soft'}.items():
        chosen &= catalog.codes[name] == catalog.attributes[name].index(value)
    names = catalog.attributes['colour']
    palette = np.array([_chroma(items_lib.PALETTE[name]) for name in names])
    right = []
    for i in np.flatnonzero(chosen)[:120]:
        picture = catalog[i]
        seen = np.median(picture['image'][picture['mask'][..., 0] == 255], 0)
        nearest = np.argmin(((palette - _chroma(seen)) ** 2).sum(1))
        right.append(nearest == catalog.codes['colour'][i])
    assert len(right) >= 60 and np.mean(right) > 0.75


def _chroma(srgb) -> np.ndarray:
    """Hue as a point on a circle, scaled by saturation, and a little brightness."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.asarray(srgb) / 255))
    return np.array([saturation * np.cos(2 * np.pi * hue), saturation * np.sin(2 * np.pi * hue), 0.8 * value])


def test_categories_can_be_distinguished(small, pictures):
    """Ridge regression on 16 x 16 silhouettes, of products it has not seen, against a chance of 1 in KINDS."""
    _, mask = pictures
    features = mask.reshape(len(mask), 16, 2, 16, 2).mean((2, 4)).reshape(len(mask), -1) / 255
    label = small.codes['label']
    train = np.arange(len(mask)) < 9 * BLOCK
    mean = features[train].mean(0)
    x, y = features - mean, np.eye(KINDS)[label]
    weights = np.linalg.solve(x[train].T @ x[train] + 5.0 * np.eye(x.shape[1]), x[train].T @ (y[train] - 1 / KINDS))
    accuracy = (np.argmax(x[~train] @ weights, 1) == label[~train]).mean()
    assert accuracy > 0.6


def test_rendering_is_not_slow():
    catalog = Catalog((64, 64), BLOCK)
    start = time.process_time()
    for i in range(0, BLOCK, 4):
        catalog[i]
    assert (time.process_time() - start) / KINDS < 0.1


def test_tfds_builder(tmp_path):
    pytest.importorskip('tensorflow_datasets')
    from productgen.data.catalog import builder as builder_lib

    config = builder_lib.CatalogConfig(name='tiny', resolution=16, items=80)
    builder = builder_lib.ProductCatalog(config=config, data_dir=tmp_path, file_format='array_record')
    builder.download_and_prepare()
    train, validation = builder.as_data_source('train'), builder.as_data_source('validation')
    assert len(train) == 72 and len(validation) == 8
    assert not {e['sku'] for e in train} & {e['sku'] for e in validation}

    catalog = Catalog((16, 16), 80)
    assert builder.info.features['label'].names == list(catalog.attributes['label'])
    by_caption = {catalog.text(i).encode(): i for i in range(80)}
    example = train[3]
    i = by_caption[example['caption']]
    assert example['sku'].decode() == catalog.keys[i]
    np.testing.assert_array_equal(example['image'], catalog[i]['image'])
    np.testing.assert_array_equal(example['mask'], catalog[i]['mask'])
    assert all(example[name] == codes[i] for name, codes in catalog.codes.items())


def test_sketches_and_studio_pictures_show_the_same_product():
    catalog = Catalog((48, 64), 400)
    for i in range(0, 400, 40):
        item = catalog[i]
        image, studio, sketch, mask = (item[name] for name in ('image', 'studio', 'sketch', 'mask'))
        assert studio.shape == (48, 64, 3) and sketch.shape == (48, 64, 1)
        assert {name: (item[name].shape, item[name].dtype) for name in item} == {
            name: (shape, np.uint8) for name, shape in catalog.columns.items()
        }
        assert (studio[mask[..., 0] == 0] == 255).all()
        inside = mask[..., 0] == 255
        if catalog.item(i).material != 'glass' and inside.any():
            assert np.abs(studio[inside].astype(int) - image[inside]).max() <= 1
        lines = sketch == 0
        assert set(np.unique(sketch)) == {0, 255} and 0 < lines.mean() < 0.4
        near = np.asarray(Image.fromarray(mask[..., 0]).filter(ImageFilter.MaxFilter(5))) > 0
        assert near[lines[..., 0]].all()


def test_only_columns_that_are_read_are_drawn(monkeypatch):
    item = Catalog((16, 16), 8)[3]
    for name in ('sketch', 'studio'):
        monkeypatch.setattr(scene, name, None)  # would fail if it were called
    assert item['image'].shape == (16, 16, 3) and set(item) == {'image', 'mask', 'sketch', 'studio'}
