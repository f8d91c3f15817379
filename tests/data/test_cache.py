"""Pixels in memory: one buffer a column, within the memory given, and only for columns that are read."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from productgen.data.cache import PixelCache, read, read_arrays, write, write_arrays

COLUMNS = {'image': (4, 6, 3), 'mask': (4, 6, 1), 'input': (2, 2, 5)}
SIZES = {'image': 72, 'mask': 24, 'input': 20}
COUNT = 10


def pixels(name, slot):
    return np.full(COLUMNS[name], 20 * slot + len(name), np.uint8)


class Reader:
    """Reads from a cache and counts what is loaded."""

    def __init__(self, cache_bytes):
        self.cache, self.loaded = PixelCache(COUNT, COLUMNS, cache_bytes), []

    def __call__(self, name, slot):
        array = self.cache.get(name, slot, lambda: self.loaded.append((name, slot)) or pixels(name, slot))
        assert array.dtype == np.uint8 and np.array_equal(array, pixels(name, slot))
        return array

    def times_loaded(self, name):
        """Of an item that is read three times."""
        del self.loaded[:]
        for _ in range(3):
            self(name, 7)
        return len(self.loaded)


def test_columns_of_other_shapes_are_kept_apart():
    read = Reader(COUNT * sum(SIZES.values()))
    for _ in range(2):
        for name in COLUMNS:
            for slot in (0, 3, 9):
                read(name, slot)
    assert sorted(read.loaded) == sorted((name, slot) for name in COLUMNS for slot in (0, 3, 9))


@pytest.mark.parametrize('name', COLUMNS)
def test_all_items_of_a_column_fit_or_none(name):
    assert Reader(COUNT * SIZES[name]).times_loaded(name) == 1
    assert Reader(COUNT * SIZES[name] - 1).times_loaded(name) == 3


def test_the_memory_is_for_all_columns_together():
    read = Reader(COUNT * (SIZES['image'] + SIZES['input']))
    assert [read.times_loaded(name) for name in ('image', 'mask', 'input')] == [1, 3, 1]
    read = Reader(COUNT * (SIZES['image'] + SIZES['input']) - 1)
    assert [read.times_loaded(name) for name in ('image', 'input', 'mask')] == [1, 3, 3]


def test_a_column_that_nobody_reads_takes_no_memory():
    read = Reader(10**6)
    assert read.times_loaded('mask') == 1
    assert sum(buffer[0].nbytes for buffer in read.cache._buffers.values()) == COUNT * SIZES['mask']


def test_arrays_cannot_be_overwritten():
    read = Reader(10**6)
    for _ in range(2):
        with pytest.raises(ValueError, match='read-only'):
            read('image', 1)[:] = 0


def test_a_load_that_fails_is_tried_again():
    cache = PixelCache(COUNT, COLUMNS, 10**6)
    with pytest.raises(OSError, match='gone'):
        cache.get('image', 2, lambda: (_ for _ in ()).throw(OSError('gone')))
    assert np.array_equal(cache.get('image', 2, lambda: pixels('image', 2)), pixels('image', 2))


def test_a_thread_sees_no_half_loaded_item():
    cache, entered, leave = PixelCache(COUNT, COLUMNS, 10**6), threading.Event(), threading.Event()

    def slow():
        entered.set()
        assert leave.wait(10)
        return pixels('image', 4)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, 'image', 4, slow)
        assert entered.wait(10)
        second = cache.get('image', 4, lambda: pixels('image', 4))  # loads its own instead of taking empty pixels
        leave.set()
        assert np.array_equal(second, pixels('image', 4)) and np.array_equal(first.result(), second)


def test_threads_get_one_buffer():
    read, start = Reader(10**6), threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda slot: start.wait() and 0 or read('image', slot % COUNT), range(8)))
        del read.loaded[:]
        list(pool.map(lambda slot: read('image', slot), range(8)))
    assert not read.loaded


# ------------------------------------------------------------------------------------------------------------ on disk


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path))
    return tmp_path


def test_values_and_arrays_are_read_back_by_kind_and_key(folder):
    write('a', 'key', {'x': [1, 2.5, None]})
    write('b', 'key', 'other')
    write('a', 'shirt-\udcff.jpg', [])  # a file name that is not Unicode
    write_arrays('a', 'key', {'x': np.arange(6, dtype=np.uint8).reshape(2, 3), 'y/z': np.ones(2)})
    assert (read('a', 'key'), read('b', 'key'), read('a', 'shirt-\udcff.jpg')) == ({'x': [1, 2.5, None]}, 'other', [])
    arrays = read_arrays('a', 'key')
    assert (
        list(arrays) == ['x', 'y/z']
        and arrays['x'].dtype == np.uint8
        and arrays['x'].tolist() == [[0, 1, 2], [3, 4, 5]]
    )
    assert read('a', 'none') is None and read_arrays('b', 'key') is None
    assert not list(folder.rglob('*.tmp'))


@pytest.mark.parametrize('keep', [0, 1, 10, 100, -1])
def test_damaged_entries_are_as_good_as_none(folder, keep):
    write('a', 'key', list(range(100)))
    write_arrays('a', 'key', {'x': np.arange(100)})
    for path in folder.rglob('*.*'):
        path.write_bytes(path.read_bytes()[:keep])
    assert read('a', 'key') is None and read_arrays('a', 'key') is None


def test_a_write_that_fails_leaves_the_old_entry(folder, monkeypatch, caplog):
    write('a', 'key', 1)
    monkeypatch.setattr('os.replace', lambda *paths: (_ for _ in ()).throw(OSError('disk full')))
    write('a', 'key', 2)
    assert read('a', 'key') == 1 and 'disk full' in caplog.text
    assert [path.suffix for path in folder.rglob('*') if path.is_file()] == ['.json']
