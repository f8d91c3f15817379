"""Batches depend on seed and step alone; splits and labels are what they say."""

import numpy as np
import pytest
from tiny import tiny_config

from productgen.config import build
from productgen.data import DataConfig, DataError, conditions, open_source, parse_resolution, split
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
    whole, parts = make(), [make(process=(i, 2)) for i in range(2)]
    for step in range(5):
        assert numbers(whole[step]) == numbers(parts[0][step]) + numbers(parts[1][step])


def test_another_seed_is_another_order():
    assert [numbers(make(0)[i]) for i in range(4)] != [numbers(make(1)[i]) for i in range(4)]


def test_balanced_batches_are_those_of_their_step_too():
    make_third = lambda **options: make(labels=('third',), balance=1.0, **options)
    whole, ahead = make_third(), make_third(threads=4).iterate(3)
    for step in range(3, 20):
        rows = numbers(whole[step])
        assert numbers(next(ahead)) == rows == sum((numbers(make_third(process=(i, 2))[step]) for i in range(2)), [])
    drawn = np.concatenate([numbers(whole[step]) for step in range(30)])  # 12 epochs of 10 places, 3 or 4 a class
    assert set(drawn) == set(range(10)) and np.ptp(np.bincount(drawn % 3)) <= 12


def test_labels_are_columns_in_the_order_asked_for():
    batch = make()[0]
    items = np.array(numbers(batch))
    assert batch['label'].dtype == np.int32
    assert np.array_equal(batch['label'], np.stack([items % 2, items % 3], 1))


def test_a_batch_larger_than_the_data_set_takes_pictures_again():
    assert sorted(numbers(make(size=20)[0])) == sorted([*range(10)] * 2)


def test_splits_share_no_product():
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
def test_conditions_that_cannot_be(labels):
    with pytest.raises(DataError, match='data.labels'):
        conditions(Numbers(), labels)


@pytest.mark.parametrize(
    'text, size', [('64', (64, 64)), (64, (64, 64)), ('96x128', (128, 96)), (' 96 x 128 ', (128, 96))]
)
def test_resolution_is_width_by_height(text, size):
    assert parse_resolution(text) == size


@pytest.mark.parametrize('text', ['', 'x', '64x', '64*64', '-4', '6.4'])
def test_a_wrong_resolution_is_refused(text):
    with pytest.raises(DataError, match='data.resolution'):
        parse_resolution(text)


def test_the_catalog_is_remembered_once_drawn():
    source = open_source(build(DataConfig, tiny_config()['data'], 'data'))
    assert source[3]['image'] is not None
    assert np.array_equal(source[3]['image'], source[3]['image'])
    assert not source[3]['image'].flags.writeable
    assert source.attributes['label'][0] == 'mug'
