"""TFDS data sets without TensorFlow; the tests prepare tiny ones."""

import gzip
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from productgen.data.source import DataError
from productgen.data.tfds_source import TfdsSource

tfds = pytest.importorskip('tensorflow_datasets')

ITEMS = 6


def photo(i):
    return Image.new('RGB', (20, 10), (40 * i, 0, 0))


class TinyShop(tfds.core.GeneratorBasedBuilder):
    """Products with everything that a feature can be."""

    VERSION = tfds.core.Version('1.2.0')
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ('full', 'large')]

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    'back': tfds.features.Image(shape=(None, None, 3)),
                    'boxes': tfds.features.Sequence({'box': tfds.features.BBoxFeature()}),
                    'color': tfds.features.ClassLabel(names=['red', 'blue']),
                    'image': tfds.features.Image(shape=(None, None, 3)),
                    'label': tfds.features.ClassLabel(names=['shoe', 'hat', 'bag']),
                    'mask': tfds.features.Image(shape=(None, None, 1)),
                    'number': tfds.features.Scalar(np.int64),
                    'sku': tfds.features.Text(),
                    'text': tfds.features.Text(),
                }
            ),
        )

    def _split_generators(self, manager):
        return {'train': self._generate_examples(0, ITEMS), 'test': self._generate_examples(4, ITEMS)}

    def _generate_examples(self, first, last):
        for i in range(first, last):
            mask = Image.new('L', (20, 10), 0)
            mask.paste(255, (0, 0, 10, 10))
            yield (
                i,
                {
                    'back': photo(0),
                    'boxes': [],
                    'color': i % 2,
                    'image': photo(i),
                    'label': i % 3,
                    'mask': mask,
                    'number': i // 3,
                    'sku': f'sku-{i // 2}',
                    'text': f'Größe {i}',
                },
            )


class TinyPets(tfds.core.GeneratorBasedBuilder):
    """No feature has the usual name, no split either."""

    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
        features = {'photo': tfds.features.Image(), 'breed': tfds.features.ClassLabel(names=['pug', 'cat'])}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {'everything': self._generate_examples()}

    def _generate_examples(self):
        for i in range(3):
            yield i, {'photo': photo(i), 'breed': -1 if i == 2 else i}


class TinyTable(TinyPets):
    """No pictures, two splits and none of them for training."""

    def _info(self):
        features = tfds.features.FeaturesDict({'breed': tfds.features.ClassLabel(names=['pug', 'cat'])})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {'one': self._generate_examples(), 'two': self._generate_examples()}

    def _generate_examples(self):
        yield 0, {'breed': 0}


class TinyArchive(TinyPets):
    """Unpacks gzip, for which TFDS needs TensorFlow."""

    def _split_generators(self, manager):
        path = Path(self.data_dir).parent / 'some.gz'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b'x'))
        manager.extract(path)
        return super()._split_generators(manager)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp('tfds'))


def open_source(name, data_dir, size=(5, 10), **options):
    return TfdsSource(name, size, data_dir=data_dir, **options)


def order(source):
    """Which picture each item is: TFDS shuffles while it prepares."""
    return [source[i]['image'][0, 0, 0] // 40 for i in range(len(source))]


def test_pictures_and_columns(data_dir):
    loaded = 'tensorflow' in sys.modules
    source = open_source('tiny_shop', data_dir)
    items = order(source)
    assert sorted(items) == list(range(ITEMS)) and len(source) == ITEMS
    assert source.attributes == {'label': ('shoe', 'hat', 'bag'), 'color': ('red', 'blue')}
    assert source.codes['label'].dtype == np.int32
    assert source.codes['label'].tolist() == [i % 3 for i in items]
    assert source.codes['color'].tolist() == [i % 2 for i in items]
    assert source.keys == tuple(f'sku-{i // 2}' for i in items)
    assert [source.text(i) for i in range(ITEMS)] == [f'Größe {i}' for i in items]
    assert ('tensorflow' in sys.modules) == loaded  # nothing here has imported it
    item = source[0]
    assert item['image'].shape == (5, 10, 3) and item['image'].dtype == np.uint8
    assert item['mask'].shape == (5, 10, 1) and item['mask'].dtype == np.uint8
    assert item['mask'][:, :4].min() > 250 and item['mask'][:, 6:].max() < 5


def test_bars_of_padding_are_not_the_product(data_dir):
    item = open_source('tiny_shop', data_dir, size=(10, 10), background='white')[0]
    assert (item['image'][:2] == 255).all() and (item['mask'][:2] == 0).all()


def test_names_configs_versions_and_splits(data_dir):
    assert len(open_source('tiny_shop/large:1.2.0', data_dir)) == ITEMS
    assert len(open_source('tiny_shop@test', data_dir)) == 2
    assert len(open_source('tiny_shop/full:1.2.0@train[:50%]', data_dir)) == 3
    assert len(open_source('tiny_shop@train+test', data_dir)) == ITEMS + 2


def test_groups(data_dir):
    source = open_source('tiny_shop', data_dir, group='number')
    assert source.keys == tuple(str(i // 3) for i in order(source))
    with pytest.raises(DataError, match="data.group: .* no feature 'sk'; it has color, label, number, sku, text"):
        open_source('tiny_shop', data_dir, group='sk')


def test_the_catalogue(tmp_path, monkeypatch):
    builder = pytest.importorskip('productgen.data.catalog.builder')
    config = builder.CatalogConfig(name='tiny', resolution=16, items=40, description='for tests')
    monkeypatch.setattr(builder.ProductCatalog, 'BUILDER_CONFIGS', [config])
    monkeypatch.setattr(builder.ProductCatalog, 'builder_configs', {'tiny': config})
    source = open_source('product_catalog/tiny', str(tmp_path), size=(16, 16))
    assert len(source) == 36 and len(set(source.keys)) == 9
    assert source[0]['image'].shape == (16, 16, 3) and source[0]['mask'].max() == 255
    assert len(source.attributes['label']) > 1 and source.text(0)


def test_unusual_names(data_dir):
    source = open_source('tiny_pets', data_dir)
    items = order(source)
    assert source.attributes == {'label': ('pug', 'cat')}
    assert source.codes['label'].tolist() == [-1 if i == 2 else i for i in items]
    assert len(set(source.keys)) == 3 and source.text(0) == '' and 'mask' not in source[0]


def test_second_start_reads_no_record(data_dir, monkeypatch):
    first = open_source('tiny_shop', data_dir)
    texts = [first.text(i) for i in range(ITEMS)]
    with monkeypatch.context() as patch:
        patch.setattr(tfds.core.features.FeaturesDict, 'deserialize_example_np', None)
        second = open_source('tiny_shop', data_dir)
        assert second.digest == first.digest and second.keys == first.keys
        assert second.codes['label'].tolist() == first.codes['label'].tolist()
    assert [second.text(i) for i in range(ITEMS)] == texts
    assert open_source('tiny_shop', data_dir, fit='crop').digest != first.digest
    assert open_source('tiny_shop@test', data_dir).digest != first.digest


def test_pictures_in_memory(data_dir):
    source = open_source('tiny_shop', data_dir, cache_bytes=10**6)
    before = order(source)
    source._records = None
    assert [source._pixels.get('image', i, None)[0, 0, 0] // 40 for i in range(ITEMS)] == before == order(source)


@pytest.fixture
def prepared(data_dir, tmp_path):
    """The folder of a prepared data set in another place."""
    open_source('tiny_shop', data_dir)
    return shutil.copytree(Path(data_dir) / 'tiny_shop' / 'full' / '1.2.0', tmp_path / 'copies @home' / '1.2.0')


def test_the_folder_of_a_prepared_data_set(data_dir, prepared, monkeypatch):
    named, found = open_source('tiny_shop', data_dir), TfdsSource(str(prepared), (5, 10))
    assert found.digest == named.digest and found.attributes == named.attributes and order(found) == order(named)
    assert len(TfdsSource(f'{prepared}@test', (5, 10))) == 2
    monkeypatch.setenv('HOME', str(prepared.parent))
    assert TfdsSource('~/1.2.0', (5, 10)).digest == named.digest


def test_a_folder_that_is_no_prepared_data_set(prepared, tmp_path):
    with pytest.raises(DataError, match=rf'is no data set that TFDS has prepared; did you mean tfds:{prepared}\?'):
        TfdsSource(str(tmp_path / 'copies @home'), (5, 10))
    with pytest.raises(DataError, match='nowhere is no folder; give the folder of its version, .*dataset_info'):
        TfdsSource('/nowhere', (5, 10))
    with pytest.raises(DataError, match="no split 'nope'; there are train, test"):
        TfdsSource(f'{prepared}@nope', (5, 10))
    (prepared / 'dataset_info.json').write_text('{')
    with pytest.raises(DataError, match=r'1\.2\.0 cannot be opened: .* copy or prepare the data set again'):
        TfdsSource(str(prepared), (5, 10))


@pytest.mark.parametrize('damage', [lambda path: path.write_bytes(b''), lambda path: path.unlink()])
def test_a_damaged_file_is_named_in_one_line(prepared, damage):
    damage(next(prepared.glob('*train*')))
    with pytest.raises(
        DataError, match=r'record 0 of tfds:.* cannot be read: .*; copy or prepare .*1\.2\.0 again'
    ) as error:
        TfdsSource(str(prepared), (5, 10))
    assert '\n' not in str(error.value)


def test_a_picture_that_cannot_be_decoded_is_named(prepared, monkeypatch):
    source = TfdsSource(str(prepared), (5, 10))
    broken = {**source._record(1), 'image': b'no picture'}
    monkeypatch.setattr(source, '_record', lambda index: broken)
    with pytest.raises(
        DataError, match='the image of item 1 of tfds:.* cannot be used: .*; prepare the data set again'
    ):
        source[1]['image']


def test_unknown_names(data_dir):
    for name, hint in [('tiny_shp', 'did you mean tiny_shop'), ('beens', 'beans'), ('qqqqqq', 'catalog')]:
        with pytest.raises(DataError, match=f'no data set .*{hint}'):
            open_source(name, data_dir)
    with pytest.raises(DataError, match='cannot be opened(.|\n)*nope'):
        open_source('tiny_shop/nope', data_dir)
    with pytest.raises(DataError, match='cannot be opened(.|\n)*9.9.9'):
        open_source('tiny_shop:9.9.9', data_dir)
    with pytest.raises(DataError, match="no split 'nope'; there are train, test"):
        open_source('tiny_shop@nope', data_dir)
    with pytest.raises(DataError, match='choose from one, two'):
        open_source('tiny_table', data_dir)
    with pytest.raises(DataError, match='holds no pictures; its features are breed'):
        open_source('tiny_table@one', data_dir)


@pytest.mark.skipif('tensorflow' in sys.modules, reason='TensorFlow is loaded, so nothing is missing')
def test_preparation_that_needs_tensorflow_says_so(tmp_path):
    with pytest.raises(DataError, match='cannot be prepared(.|\n)*pip install tensorflow(.|\n)*tiny_archive'):
        open_source('tiny_archive', str(tmp_path))


def test_data_prepared_as_tfrecord_says_what_to_do(tmp_path):
    open_source('tiny_pets', str(tmp_path))
    (info,) = tmp_path.rglob('dataset_info.json')
    info.write_text(json.dumps(json.loads(info.read_text()) | {'fileFormat': 'tfrecord'}))
    with pytest.raises(DataError, match='is on disk as tfrecord(.|\n)*convert_format .*tiny_pets/1.0.0'):
        open_source('tiny_pets', str(tmp_path))
