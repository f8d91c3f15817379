"""Crops of pictures in their own resolution, at places that the seed and the step decide."""

import numpy as np
import pytest
from PIL import Image

from productgen.data.folder import Folder
from productgen.data.images import cut
from productgen.data.pipeline import Batches
from productgen.data.wrappers import Renamed

SIZES = ((40, 30), (16, 90), (9, 50))  # (width, height)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Pictures whose pixels have (column, row, number of the picture) as their colour."""
    path = tmp_path_factory.mktemp('pictures')
    for i, (width, height) in enumerate(SIZES):
        rows, columns = np.mgrid[:height, :width]
        Image.fromarray(np.stack([columns, rows, np.full_like(rows, i)], -1).astype(np.uint8)).save(path / f'{i}.png')
    return path


def test_a_crop_is_part_of_the_picture_and_reaches_its_corners():
    picture = np.arange(5 * 7).reshape(5, 7, 1)
    corners = [cut(picture, (2, 3), draw)[0, 0, 0] for draw in (0, 0xFFFF, 0xFFFF0000, 0xFFFFFFFF)]
    assert corners == [0, 4, 21, 25]
    assert cut(picture, (2, 3)).ravel().tolist() == [9, 10, 11, 16, 17, 18]
    assert cut(picture, (5, 7), 123456789).tolist() == picture.tolist()


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (3, 2)])
def test_a_picture_smaller_than_the_crop_is_mirrored(shape):
    picture = np.arange(np.prod(shape)).reshape(*shape, 1)
    crop = cut(picture, (8, 8), 7)
    assert crop.shape == (8, 8, 1) and np.isin(crop, picture).all()
    assert (np.abs(np.diff(crop[..., 0], axis=0)) <= shape[1]).all()


def test_a_folder_gives_pixels_as_they_are(folder):
    source = Folder(folder, (16, 12), fit='native', cache_bytes=2**20)
    whole = [np.asarray(Image.open(folder / f'{i}.png')) for i in range(3)]
    for draw in (0, 1 << 20, 2**32 - 1):
        crop = source.drawn(0, draw)['image']
        left, top = crop[0, 0, :2]
        assert np.array_equal(crop, whole[0][top : top + 16, left : left + 12])
    assert np.array_equal(source[0]['image'], whole[0][7:23, 14:26])


@pytest.mark.parametrize('cache_bytes', [0, 40 * 30 * 3, 2**20])
def test_the_cache_changes_no_pixel(folder, cache_bytes):
    source = Folder(folder, (16, 12), fit='native', cache_bytes=cache_bytes)
    for _ in range(2):
        for i in range(3):
            assert (source[i]['image'][..., 2] == i).all()


def test_places_depend_on_seed_and_step_only(folder):
    source = Renamed(Folder(folder, (8, 8), fit='native'), {'target': 'image'})
    make = lambda seed: Batches(source, np.arange(3), (), 4, seed, inputs=('target',))
    batches = make(0)
    first = [batches[step]['target'] for step in range(4)]
    assert np.array_equal(first[2], make(0)[2]['target'])
    assert np.array_equal(first[3], next(make(0).iterate(3))['target'])
    assert not any(np.array_equal(first[3], make(seed)[3]['target']) for seed in (1, 2))
    places = {tuple(row[0, 0]) for batch in first for row in batch}
    assert len(places) > 8


def test_processes_load_their_rows_of_the_same_batch(folder):
    source = Folder(folder, (8, 8), fit='native')
    whole = Batches(source, np.arange(3), (), 4, 0, inputs=('image',))[5]['image']
    parts = [Batches(source, np.arange(3), (), 4, 0, (i, 2), inputs=('image',))[5]['image'] for i in range(2)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_held_out_pictures_are_cropped_in_the_middle(folder):
    source = Folder(folder, (8, 8), fit='native')
    batches = Batches(source, np.arange(3), (), 4, 0, inputs=('image',))
    assert np.array_equal(batches.load(np.asarray([1]))['image'][0], source[1]['image'])
