"""A batch holds the columns that it is configured for, and others are not decoded."""

import copy
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from productgen.config import UserError
from productgen.data import DataConfig, DataError, open_source
from productgen.data.catalog import Catalog
from productgen.data.folder import Folder
from productgen.data.pipeline import Batches
from productgen.data.source import Item
from productgen.data.wrappers import Cached, Renamed

ITEMS = 12


class Counted:
    """A source of two columns that counts what is decoded, rendering them together or each when it is read."""

    columns = {'image': (4, 6, 3), 'mask': (2, 2, 1)}
    attributes = {'label': ('a', 'b', 'c')}
    codes = {'label': np.arange(ITEMS, dtype=np.int32) % 3}
    keys = tuple(map(str, range(ITEMS)))
    digest = 'abc'

    def __init__(self, together=False):
        self.together, self.read = together, []

    def __len__(self):
        return ITEMS

    def column(self, index, name):
        return np.full(self.columns[name], index + 100 * (name == 'mask'), np.uint8)

    def __getitem__(self, index):
        if self.together:
            self.read.append(index)
            return {name: self.column(index, name) for name in self.columns}
        readers = {name: lambda name=name: self.read.append(name) or self.column(index, name) for name in self.columns}
        return Item(readers)


def batches_of(source, inputs, size=4):
    return Batches(source, np.arange(len(source)), ('label',), size, 3, inputs=inputs)


def translation(**fields):
    return DataConfig(resolution='16x24', catalog_items=40, input='mask', target='image', **fields)


# ---------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize('cache_gb', [0.0, 1.0])
def test_masks_and_photos_of_the_catalog(cache_gb):
    source, catalog = open_source(translation(cache_gb=cache_gb)), Catalog((24, 16), 40)
    shapes = {'image': (24, 16, 3), 'mask': (24, 16, 1), 'sketch': (24, 16, 1), 'studio': (24, 16, 3)}
    assert source.columns == shapes | {'input': (24, 16, 1), 'target': (24, 16, 3)}
    batches = batches_of(source, ('input', 'target', 'label'))
    plain = batches_of(open_source(DataConfig(resolution='16x24', catalog_items=40)), ('image', 'label'))
    for step in (0, 7, 12):  # into the second epoch, from memory
        batch = batches[step]
        assert set(batch) == {'input', 'target', 'label'}
        assert batch['input'].dtype == batch['target'].dtype == np.uint8 and batch['label'].dtype == np.int32
        assert np.array_equal(batch['target'], plain[step]['image'])
        assert np.array_equal(batch['label'], plain[step]['label'])
        items = [next(i for i in range(40) if np.array_equal(catalog[i]['image'], x)) for x in batch['target']]
        assert np.array_equal(batch['input'], np.stack([catalog[i]['mask'] for i in items]))
        assert 0 < (batch['input'] == 255).mean() < 1


def test_only_what_a_batch_holds_is_decoded():
    for inputs, decoded in [
        (('image', 'label'), {'image'}),
        (('label', 'mask'), {'mask'}),
        (('image', 'mask'), {'image', 'mask'}),
        (('label',), set()),
    ]:
        source = Counted()
        batch = batches_of(source, dict.fromkeys(inputs))[0]  # a method's `inputs()` is a dict
        assert set(batch) == set(inputs) and set(source.read) == decoded and len(source.read) == 4 * len(decoded)
        for name in set(inputs) - {'label'}:
            assert batch[name].shape == (4, *Counted.columns[name])


def test_a_batch_of_columns_of_other_shapes():
    items = np.array([3, 1, 7])
    batch = batches_of(Counted(), ('mask', 'image', 'label')).load(items)
    assert (batch['image'] == items[:, None, None, None]).all() and batch['image'].shape == (3, 4, 6, 3)
    assert (batch['mask'] == 100 + items[:, None, None, None]).all() and batch['mask'].shape == (3, 2, 2, 1)
    assert batch['label'].tolist() == [[0], [1], [1]]


def test_other_columns_can_be_loaded_too():
    source = Counted(together=True)
    batches = batches_of(source, ('mask', 'label'))
    assert list(batches.load(np.arange(2))) == ['mask', 'label'] and batches.load(np.arange(2), ()) == {}
    assert list(batches.load(np.arange(2), ('image',))) == ['image']
    del source.read[:]
    assert list(batches.load(np.arange(2), ['label'])) == ['label'] and not source.read
    assert np.array_equal(batches.load(np.arange(5), {'label': 0})['label'], batches.label(np.arange(5)))


# ---------------------------------------------------------------------------------------------------------- sources


def test_columns_are_json():
    source = open_source(translation())
    assert {k: tuple(v) for k, v in json.loads(json.dumps(source.columns)).items()} == source.columns
    assert all(type(side) is int for shape in source.columns.values() for side in shape)


def test_a_folder_has_images_only(tmp_path):
    for name in ('a', 'b'):
        Image.new('RGB', (9, 9), 'red').save(tmp_path / f'{name}.png')
    assert Folder(tmp_path, (8, 12)).columns == {'image': (8, 12, 3)}
    source = open_source(DataConfig(source=f'folder:{tmp_path}', resolution='12x8', input='image', target='image'))
    item = source[0]
    assert np.array_equal(item['input'], item['image']) and item['target'].shape == (8, 12, 3)
    assert source.names == ('a.png', 'b.png') and source.digest == Folder(tmp_path, (8, 12)).digest
    with pytest.raises(DataError, match=r"data.input: the data set has no column 'mask' \(known: image\)"):
        open_source(DataConfig(source=f'folder:{tmp_path}', resolution='12x8', input='mask'))


@pytest.mark.parametrize('field', ['input', 'target'])
def test_an_unknown_column_is_named(field):
    with pytest.raises(DataError) as error:
        open_source(DataConfig(resolution='16', catalog_items=4, **{field: 'masks'}))
    assert error.value.field == f'data.{field}'
    assert "no column 'masks'; did you mean 'mask'? (known: image, mask, sketch, studio)" in str(error.value)


def test_without_new_settings_the_source_is_the_old_one():
    source, catalog = open_source(DataConfig(resolution='16', catalog_items=8)), Catalog((16, 16), 8)
    assert not isinstance(source, Renamed) and set(source.columns) == set(catalog[0]) == set(source[0])
    renamed = open_source(translation())
    for name in ('attributes', 'keys', 'usual_conditions', 'digest'):
        assert getattr(renamed, name) == getattr(Catalog((24, 16), 40), name)
    assert len(renamed) == 40 and renamed.text(3) == Catalog((24, 16), 40).text(3)


def test_further_names_copy_no_pixels():
    cached = Cached(Counted(together=True), Counted.columns, 10**6)
    item = Renamed(cached, {'input': 'image', 'target': 'mask'})[5]
    assert set(item) == {'image', 'mask', 'input', 'target'} and len(item) == 4
    assert np.shares_memory(item['input'], item['image']) and np.shares_memory(item['target'], item['mask'])


def test_one_rendering_serves_all_columns_of_an_item():
    source = Counted(together=True)
    cached = Cached(source, source.columns, 10**6)
    for _ in range(2):
        item = cached[3]
        assert item['mask'][0, 0, 0] == 103 and item['image'][0, 0, 0] == 3
    assert source.read == [3]
    assert cached[4]['image'][0, 0, 0] == 4 and source.read == [3, 4]


def test_columns_that_are_not_read_take_no_memory():
    source = Counted(together=True)
    cached = Cached(source, source.columns, ITEMS * 4 * 6 * 3)  # room for the images only
    for _ in range(2):
        assert [int(cached[i]['image'][0, 0, 0]) for i in range(ITEMS)] == [*range(ITEMS)]
    assert len(source.read) == ITEMS
    assert cached[0]['mask'][0, 0, 0] == 100 and len(source.read) == ITEMS + 1


def test_looking_for_a_column_does_not_decode_it():
    source = Counted()
    item = Renamed(source, {'input': 'mask'})[0]
    assert 'input' in item and 'target' not in item and set(item) == {'image', 'mask', 'input'} and not source.read
    with pytest.raises(KeyError):
        item['target']


def test_wrapped_sources_can_be_copied():
    source = Renamed(Counted(), {'input': 'mask'})
    for other in (copy.copy(source), copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert np.array_equal(other[2]['input'], source[2]['input']) and other.keys == source.keys
    with pytest.raises(AttributeError, match='skipped'):
        source.skipped  # noqa: B018
    assert getattr(source, 'duplicates', ()) == ()


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize('how', [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_can_be_copied(how):
    error = how(DataError('data.group', 'there is no column', 'choose another'))
    assert type(error) is DataError and isinstance(error, UserError)
    assert (error.field, error.reason, error.remedy) == ('data.group', 'there is no column', 'choose another')
    assert str(error) == 'data.group: there is no column; choose another'


def test_errors_of_loading_threads_arrive_as_they_are():
    class Broken(Counted):
        def __getitem__(self, index):
            raise DataError('a.png', 'changed after the start', 'restore it')

    with pytest.raises(DataError) as error:
        next(batches_of(Broken(), ('image',)).iterate(0))
    assert (error.value.field, error.value.reason, error.value.remedy) == (
        'a.png',
        'changed after the start',
        'restore it',
    )
