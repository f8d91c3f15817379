"""The content of a batch depends only on seed and step; splits and labels are what they say."""

import dataclasses
import zlib

import numpy as np
import pytest
from PIL import Image

from productgen.data import DataConfig, DataError, conditions, images, open_source, parse_resolution, split, spread
from productgen.data.catalog import Catalog
from productgen.data.pipeline import Batches


class Numbers:
    """A source whose picture i is filled with i."""

    attributes = {'label': ('even', 'odd'), 'third': ('a', 'b', 'c'), 'only': ('x',)}
    keys = [f'sku{i // 2}' for i in range(20)]
    codes = {'label': np.arange(20, dtype=np.int32) % 2, 'third': np.arange(20, dtype=np.int32) % 3}

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {'image': np.full((2, 2, 3), index, np.uint8)}


def numbers(batch):
    return batch['image'][:, 0, 0, 0].tolist()


def make(seed=0, process=(0, 1), threads=2, size=4, items=10, labels=('label', 'third'), balance=0.0):
    return Batches(Numbers(), np.arange(items), labels, size, seed, process, threads, balance)


def test_an_epoch_has_every_picture_once_in_another_order_each_time():
    batches = make(size=5)
    epochs = [numbers(batches[2 * e]) + numbers(batches[2 * e + 1]) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_reading_from_any_step_gives_the_batches_from_there():
    batches = make()
    ahead = batches.iterate(3)
    for step in range(3, 12):
        assert numbers(next(ahead)) == numbers(batches[step])


def test_the_number_of_threads_changes_nothing():
    one, four = make(threads=1).iterate(0), make(threads=4).iterate(0)
    for _ in range(8):
        assert numbers(next(one)) == numbers(next(four))


def test_processes_hold_the_rows_of_one_batch_in_order():
    all_rows, parts = make(), [make(process=(i, 2)) for i in range(2)]
    for step in range(5):
        assert numbers(all_rows[step]) == numbers(parts[0][step]) + numbers(parts[1][step])


def test_another_seed_is_another_order():
    assert [numbers(make(0)[i]) for i in range(4)] != [numbers(make(1)[i]) for i in range(4)]


def test_balanced_batches_depend_on_their_step_alone_too():
    make_third = lambda **options: make(labels=('third',), balance=1.0, **options)
    batches, ahead = make_third(), make_third(threads=4).iterate(3)
    for step in range(3, 20):
        rows = numbers(batches[step])
        assert numbers(next(ahead)) == rows == sum((numbers(make_third(process=(i, 2))[step]) for i in range(2)), [])
    drawn = np.concatenate([numbers(batches[step]) for step in range(30)])  # 12 epochs of 10 places, 3 or 4 a class
    assert set(drawn) == set(range(10)) and np.ptp(np.bincount(drawn % 3)) <= 12


class Noise:
    """A source of pictures that differ from pixel to pixel, and of labels that are missing here and there."""

    codes = {'label': (np.arange(40) ** 2 % 3 - (np.arange(40) % 11 == 0)).astype(np.int32)}

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {'image': (np.arange(72).reshape(4, 6, 3) * 7 + 31 * index).astype(np.uint8)}


# Of `image` and `label` of steps 0, 1, 13 and 40, by balance and process, as commit 9f56c49 made them.
CHECKSUMS = {
    (0.0, (0, 1)): [
        (3853325625, 910663963),
        (790724681, 4143768316),
        (1842193614, 3675118253),
        (4212224069, 2407695190),
    ],
    (0.0, (1, 2)): [
        (195629696, 1121180356),
        (448911024, 50880705),
        (2195306807, 3149137828),
        (1224760615, 2347341828),
    ],
    (0.7, (0, 1)): [
        (427445519, 2884811296),
        (1159278451, 1308957020),
        (2999573488, 3324533164),
        (3198652583, 4088078403),
    ],
    (0.7, (1, 2)): [
        (472800489, 3149137828),
        (2472169326, 3149137828),
        (1462724295, 1121180356),
        (3565262130, 1640690126),
    ],
}


@pytest.mark.parametrize('balance, process', CHECKSUMS)
def test_batches_are_those_of_earlier_versions(balance, process):
    batches = Batches(Noise(), np.arange(3, 40), ('label',), 8, 5, process, balance=balance)
    found = [tuple(zlib.crc32(batches[step][name]) for name in ('image', 'label')) for step in (0, 1, 13, 40)]
    assert found == CHECKSUMS[balance, process]


# Items of steps 0, 13 and 40, as commit 9f56c49 drew them from the training part of 128 items.
DRAWN = {
    0.0: {
        0: [79, 123, 107, 67, 125, 73, 115, 21],
        13: [32, 98, 91, 68, 124, 75, 70, 97],
        40: [44, 52, 70, 32, 54, 84, 73, 114],
    },
    0.7: {
        0: [120, 2, 87, 18, 9, 102, 17, 21],
        13: [86, 35, 88, 1, 57, 114, 111, 101],
        40: [70, 6, 113, 50, 71, 75, 39, 88],
    },
}


@pytest.mark.parametrize('cache_gb', [0.0, 1.0])
@pytest.mark.parametrize('balance', DRAWN)
def test_batches_of_the_catalog_are_those_of_earlier_versions(balance, cache_gb):
    source = open_source(DataConfig(resolution='16', catalog_items=128, cache_gb=cache_gb))
    names, catalog = conditions(source, 'auto'), Catalog((16, 16), 128)
    batches = Batches(source, split(source, 0.1)[0], names, 8, 5, balance=balance)
    for step, items in DRAWN[balance].items():
        batch = batches[step]
        assert list(batch) == ['image', 'label']
        assert np.array_equal(batch['image'], np.stack([catalog[i]['image'] for i in items]))
        assert np.array_equal(batch['label'], np.stack([catalog.codes[name][items] for name in names], 1))


def test_labels_are_columns_in_the_order_of_their_names():
    batch = make()[0]
    items = np.array(numbers(batch))
    assert batch['label'].dtype == np.int32
    assert np.array_equal(batch['label'], np.stack([items % 2, items % 3], 1))


def test_labels_are_int32_whatever_the_codes_are():
    source = Numbers()
    source.codes = {'label': np.arange(20) % 2}
    batch = Batches(source, np.arange(10), ('label',), 4, 0)[0]
    assert source.codes['label'].dtype == np.int64 and batch['label'].dtype == np.int32


def test_without_labels_there_are_no_columns():
    batch = make(labels=())[0]
    assert batch['label'].shape == (4, 0) and batch['label'].dtype == np.int32


def test_a_batch_larger_than_the_data_set_repeats_pictures():
    assert sorted(numbers(make(size=20)[0])) == sorted([*range(10)] * 2)


def test_no_product_is_on_both_sides_of_a_split():
    train, held_out = split(Numbers(), 0.4)
    keys = np.array(Numbers.keys)
    assert len(train) + len(held_out) == 20 and len(held_out)
    assert not set(keys[train]) & set(keys[held_out])


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(DataError, match='data.validation'):
        split(Numbers(), 1.0)


@pytest.mark.parametrize('labels, names', [('auto', ('label',)), ('none', ()), ('third, label', ('third', 'label'))])
def test_conditions_by_name(labels, names):
    assert conditions(Numbers(), labels) == names


@pytest.mark.parametrize('labels', ['only', 'lable'])
def test_conditions_that_do_not_exist_or_have_one_value(labels):
    with pytest.raises(DataError, match='data.labels'):
        conditions(Numbers(), labels)


@pytest.mark.parametrize(
    'text, size', [('64', (64, 64)), (64, (64, 64)), ('96x128', (128, 96)), (' 96 x 128 ', (128, 96))]
)
def test_resolution_is_width_by_height(text, size):
    assert parse_resolution(text) == size


@pytest.mark.parametrize('text', ['', 'x', '64x', '64*64', '-4', '6.4', '0', 0, '64x0', '0x64'])
def test_a_wrong_resolution_is_refused(text):
    with pytest.raises(DataError, match='data.resolution'):
        parse_resolution(text)


def test_catalog_pictures_are_kept_in_memory():
    source = open_source(DataConfig(resolution='16', catalog_items=128))
    assert source[3]['image'] is not None
    assert np.array_equal(source[3]['image'], source[3]['image'])
    assert not source[3]['image'].flags.writeable
    assert source.attributes['label'][0] == 'mug'


@pytest.mark.parametrize('field, value', [('catalog_items', 0), ('workers', 0), ('cache_gb', -1.0), ('balance', 1.5)])
def test_a_setting_out_of_range_is_named(field, value):
    with pytest.raises(DataError, match=f'^data.{field}: {value} is ') as error:
        DataConfig(**{field: value})
    assert error.value.field == f'data.{field}'


def test_pictures_too_small_for_the_catalog_are_refused():
    with pytest.raises(DataError, match='^data.resolution: .* at least 8x8 pixels'):
        open_source(DataConfig(resolution='7x9', catalog_items=4))


def test_a_spread_reaches_from_the_first_item_to_near_the_last():
    items = np.arange(100, 120)
    assert spread(items, 4).tolist() == [100, 105, 110, 115]
    assert spread(items, 3).tolist() == [100, 106, 113]
    assert spread(items, 50).tolist() == items.tolist() and not len(spread(items, 0))


def test_auto_is_without_a_label_of_one_value():
    source = Numbers()
    source.attributes = {'label': ('shoe',), 'third': ('a', 'b', 'c')}
    assert conditions(source, 'auto') == ()
    source.usual_conditions = ('label', 'third', 'size')
    assert conditions(source, 'auto') == ('third',)


def test_settings_reach_the_pictures_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path / 'cache'))
    shop = tmp_path / 'shop'
    shop.mkdir()
    for name in ('a', 'b'):
        Image.new('RGB', (20, 10), 'red').save(shop / f'{name}.png')
    (shop / 'metadata.csv').write_text('file_name,set\na.png,7\nb.png,7\n')
    config = DataConfig(source=f'folder:{shop}', resolution='12x8', fit='crop', group='set', background='blue')
    source = open_source(config)
    assert source.keys == ('7', '7') and source[0]['image'][0, 0].tolist() == [255, 0, 0]
    source = open_source(dataclasses.replace(config, fit='pad'))
    assert source[0]['image'].shape == (8, 12, 3) and source[0]['image'][0, 0].tolist() == [0, 0, 255]
    with pytest.raises(DataError, match='^data.fit: '):
        open_source(dataclasses.replace(config, fit='zoom'))
    with pytest.raises(DataError, match='^data.background: '):
        open_source(dataclasses.replace(config, background='rde'))


@pytest.mark.parametrize('gigabytes, calls', [(2 * 8 * 12 * 3 / 2**30, 2), (1.9 * 8 * 12 * 3 / 2**30, 6)])
def test_the_memory_for_pictures_is_in_gigabytes(tmp_path, monkeypatch, gigabytes, calls):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path / 'cache'))
    for name in ('a', 'b'):
        Image.new('RGB', (20, 10), 'red').save(tmp_path / f'{name}.png')
    decoded = []
    load = images.load_image
    monkeypatch.setattr(images, 'load_image', lambda *args, **options: decoded.append(0) or load(*args, **options))
    source = open_source(DataConfig(source=f'folder:{tmp_path}', resolution='12x8', cache_gb=gigabytes))
    for _ in range(2):
        assert all(source[i]['image'].max() == 255 for i in range(2))
    assert len(decoded) == calls
