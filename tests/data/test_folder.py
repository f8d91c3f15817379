"""Folders as people have them: classes, broken files, links, odd names; what is cached of them."""

import io
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from productgen.data import cache, images
from productgen.data.folder import Folder
from productgen.data.source import DataError

REAL = Path(__file__).parents[2] / '../shared/data/clothing'


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Each test has its own cache folder."""
    path = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(path))
    return path


def put(path, color='red', size=(12, 10)):
    """Writes a picture of one colour; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.new('RGB', size, color).save(buffer, 'PNG')
    path.write_bytes(buffer.getvalue())
    return path


def lines(path, *rows):
    path.write_text(''.join(f'{row if isinstance(row, str) else json.dumps(row)}\n' for row in rows))


def open_folder(path, size=(8, 8), **options):
    return Folder(path, size, **options)


# ------------------------------------------------------------------------------------------------------ class folders


@pytest.fixture
def shop(tmp_path):
    for i, name in enumerate(['shoes/b.png', 'shoes/2024/new/a.png', 'hats/Größe 7.png', 'hats/C.PNG']):
        put(tmp_path / 'shop' / name, (10 * i, 0, 0))
    return tmp_path / 'shop'


def test_classes_are_first_level_folders(shop):
    folder = open_folder(shop)
    assert folder.names == ('hats/C.PNG', 'hats/Größe 7.png', 'shoes/2024/new/a.png', 'shoes/b.png')
    assert folder.attributes == {'label': ('hats', 'shoes')}
    assert folder.codes['label'].dtype == np.int32 and folder.codes['label'].tolist() == [0, 0, 1, 1]
    assert folder.keys == folder.names and folder.skipped == [] and folder.duplicates == []
    assert [folder[i]['image'][4, 4, 0] for i in range(len(folder))] == [30, 20, 10, 0]
    assert folder[0]['image'].shape == (8, 8, 3) and folder.text(0) == ''


def test_pictures_outside_class_folders_have_no_class(shop):
    put(shop / 'z.png')
    assert open_folder(shop).codes['label'].tolist() == [0, 0, 1, 1, -1]


def test_a_flat_folder_has_no_attributes(tmp_path):
    put(tmp_path / 'a.png')
    folder = open_folder(tmp_path)
    assert folder.attributes == {} and folder.codes == {} and len(folder) == 1


def test_other_files_are_ignored(shop):
    put(shop / '.hidden/a.png')
    put(shop / '__MACOSX/shoes/a.png')
    put(shop / 'shoes/._b.png')
    (shop / 'shoes/Thumbs.db').write_bytes(b'x')
    (shop / 'README.txt').write_text('x')
    folder = open_folder(shop)
    assert len(folder) == 4 and folder.skipped == []


def test_folders_named_after_splits_are_no_classes(tmp_path):
    put(tmp_path / 'train/shoes/a.png')
    put(tmp_path / 'validation/shoes/a.png')
    with pytest.raises(DataError, match='are splits, not classes.*folder:.*/train'):
        open_folder(tmp_path)
    lines(tmp_path / 'train/metadata.jsonl', {'file_name': 'shoes/a.png', 'label': 'shoes'})
    with pytest.raises(DataError, match='are splits, not classes'):
        open_folder(tmp_path)
    lines(tmp_path / 'metadata.jsonl', {'file_name': 'train/shoes/a.png', 'label': 'shoes'})
    assert len(open_folder(tmp_path)) == 2


@pytest.mark.parametrize('classes', [('train',), ('train', 'shoes')])
def test_one_folder_named_after_a_split_is_a_class(tmp_path, classes):
    for name in classes:
        put(tmp_path / name / 'a.png')
    assert open_folder(tmp_path).attributes == {'label': tuple(sorted(classes))}


def test_links(shop, tmp_path):
    put(tmp_path / 'elsewhere/x.png')
    (shop / 'bags').symlink_to(tmp_path / 'elsewhere')
    (shop / 'hats/back').symlink_to(shop)  # would never end
    (tmp_path / 'elsewhere/up').symlink_to(tmp_path)
    folder = open_folder(shop)
    assert len(folder) == 5 and folder.attributes['label'] == ('bags', 'hats', 'shoes')


def test_options_reach_the_pictures(tmp_path):
    put(tmp_path / 'a.png', 'red', size=(20, 10))
    padded = open_folder(tmp_path, (8, 12), background='blue')[0]['image']
    assert padded.shape == (8, 12, 3) and padded[0, 0].tolist() == [0, 0, 255]
    assert open_folder(tmp_path, (8, 12), fit='crop')[0]['image'][0, 0].tolist() == [255, 0, 0]
    with pytest.raises(DataError, match='data.background'):
        open_folder(tmp_path, background='rde')
    with pytest.raises(DataError, match='data.fit'):
        open_folder(tmp_path, fit='zoom')


# --------------------------------------------------------------------------------------------------------- bad files


def test_bad_files_are_skipped_and_listed(shop):
    large = put(shop / 'shoes/cut.png', size=(400, 400))
    (shop / 'hats/letter.jpg').write_text('Dear customer,')
    (shop / 'hats/zero.png').touch()
    large.write_bytes(large.read_bytes()[:300])
    (shop / 'shoes/link.png').symlink_to(shop / 'gone.png')
    for _ in range(2):  # the second start, with a cache, says the same
        folder = open_folder(shop)
        assert len(folder) == 4 and folder.codes['label'].tolist() == [0, 0, 1, 1]
        reasons = dict(folder.skipped)
        assert list(reasons) == ['hats/letter.jpg', 'hats/zero.png', 'shoes/cut.png', 'shoes/link.png']
        assert 'not an image' in reasons['hats/letter.jpg'] and 'empty' in reasons['hats/zero.png']
        assert 'damaged' in reasons['shoes/cut.png'] and 'dangling' in reasons['shoes/link.png']


def test_too_many_bad_files_are_an_error(tmp_path):
    put(tmp_path / 'a.png')
    for i in range(7):
        (tmp_path / f'bad{i}.png').touch()
    with pytest.raises(DataError, match='7 of 8 files .* more than half(.|\n)*bad0.png: empty file(.|\n)*and 2 more'):
        open_folder(tmp_path)
    (tmp_path / 'a.png').unlink()
    with pytest.raises(DataError, match='7 of 7 files .* all of them'):
        open_folder(tmp_path)


def test_half_of_the_files_may_be_bad(tmp_path):
    put(tmp_path / 'a.png')
    (tmp_path / 'b.png').touch()
    assert open_folder(tmp_path).names == ('a.png',)


def test_bad_files_do_not_shift_those_after_them(shop):
    (shop / 'hats/D.png').touch()
    folder = open_folder(shop, cache_bytes=10**6)
    for _ in range(2):
        assert [folder[i]['image'][4, 4, 0] for i in range(len(folder))] == [30, 20, 10, 0]


def test_folders_without_pictures(tmp_path):
    with pytest.raises(DataError, match=r'no picture in .*\.jpg'):
        open_folder(tmp_path)
    (tmp_path / 'clothing').mkdir()
    with pytest.raises(DataError, match='no folder .*clothes; did you mean .*/clothing?'):
        open_folder(tmp_path / 'clothes')
    with pytest.raises(DataError, match='did you mean .*/clothing?'):
        open_folder(tmp_path / 'clothin/train/x')
    with pytest.raises(DataError, match='has no zzz'):
        open_folder(tmp_path / 'zzz')
    put(tmp_path / 'shop.zip')
    with pytest.raises(DataError, match='is a file, not a folder'):
        open_folder(tmp_path / 'shop.zip')


def test_duplicates_are_kept_and_reported(shop):
    put(shop / 'hats/copy.png', (0, 0, 0))
    folder = open_folder(shop)
    assert len(folder) == 5 and folder.duplicates == [['hats/copy.png', 'shoes/b.png']]


# ------------------------------------------------------------------------------------------------- digest and caches


def test_digest(shop, tmp_path):
    first = open_folder(shop).digest
    assert open_folder(shop, workers=4, cache_bytes=10**6).digest == first
    assert len({first, open_folder(shop, (8, 10)).digest, open_folder(shop, background='red').digest}) == 3
    put(shop / 'hats/C.PNG', (99, 0, 0))
    second = open_folder(shop).digest
    lines(shop / 'metadata.jsonl', {'file_name': 'hats/C.PNG', 'label': 'cap'})
    third = open_folder(shop).digest
    (shop / 'hats/Größe 7.png').rename(shop / 'hats/Größe 8.png')
    assert len({first, second, third, open_folder(shop).digest}) == 4


def count_decoding(monkeypatch):
    calls = []
    load = images.load_image
    monkeypatch.setattr(images, 'load_image', lambda *args, **options: calls.append(0) or load(*args, **options))
    return calls


def test_second_start_opens_no_file(shop, monkeypatch):
    first = open_folder(shop)
    calls = count_decoding(monkeypatch)
    second = open_folder(shop)
    assert not calls and second.digest == first.digest
    np.testing.assert_array_equal(second[1]['image'], first[1]['image'])
    file = shop / 'hats/C.PNG'
    os.utime(file, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert len(open_folder(shop)) == 4 and len(calls) == 3  # two in the comparison, one here


@pytest.mark.parametrize('cached', [False, True])
def test_pictures_in_memory_are_decoded_once(shop, monkeypatch, cached):
    if cached:
        open_folder(shop)
    calls = count_decoding(monkeypatch)
    folder = open_folder(shop, cache_bytes=4 * 8 * 8 * 3)
    for _ in range(2):
        assert [folder[i]['image'][4, 4, 0] for i in range(4)] == [30, 20, 10, 0]
    assert len(calls) == 4
    folder = open_folder(shop, cache_bytes=4 * 8 * 8 * 3 - 1)
    del calls[:]
    _ = [folder[i % 4] for i in range(8)]
    assert len(calls) == 8


def test_pictures_in_memory_cannot_be_overwritten(shop):
    picture = open_folder(shop, cache_bytes=10**6)[0]['image']
    with pytest.raises(ValueError, match='read-only'):
        picture[:] = 0


def test_a_file_that_vanishes_later_is_named(shop):
    folder = open_folder(shop)
    (shop / 'shoes/b.png').unlink()
    with pytest.raises(DataError, match='shoes/b.png: changed after the start: no such file') as error:
        folder[3]
    assert error.value.field == str(shop / 'shoes/b.png')


def test_unwritable_or_broken_cache_only_warns(shop, own_cache, monkeypatch, caplog):
    open_folder(shop)
    (entry,) = own_cache.rglob('*.json')
    entry.write_text('{"half')
    assert len(open_folder(shop)) == 4
    assert [path.suffix for path in own_cache.rglob('*') if path.is_file()] == ['.json']
    (shop / 'file').touch()
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(shop / 'file/below'))
    assert len(open_folder(shop)) == 4 and 'cannot be written' in caplog.text


def test_folders_of_one_name_have_entries_of_their_own(tmp_path, own_cache):
    for i, place in enumerate(('a', 'b')):
        put(tmp_path / place / 'shop/x.png', (99 * i, 0, 0))
    first, second = (open_folder(tmp_path / place / 'shop') for place in ('a', 'b'))
    assert first.digest != second.digest and len(list(own_cache.rglob('*.json'))) == 2


def test_place_of_the_cache(monkeypatch, tmp_path):
    assert cache.cache_dir() == Path(os.environ['PRODUCTGEN_CACHE'])
    monkeypatch.delenv('PRODUCTGEN_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache.cache_dir() == tmp_path / 'productgen'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert cache.cache_dir() == Path.home() / '.cache/productgen'


# --------------------------------------------------------------------------------------------------------- real data


@pytest.mark.skipif(not REAL.is_dir(), reason=f'the clothing photos are not at {REAL}')
def test_real_photos():
    folder = Folder(REAL / 'validation', (64, 64), cache_bytes=10**8)
    assert len(folder) == 341 and folder.skipped == []
    assert len(folder.attributes['label']) == 10 and folder.codes['label'].min() == 0
    bars = [(folder[i]['image'][[0, -1]] == 255).all() for i in range(50)]
    assert all(folder[i]['image'].std() > 5 for i in range(50)) and any(bars) and not all(bars)
