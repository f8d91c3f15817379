"""Pairs of pictures in files, and targets drawn from a second data set."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from productgen.data import DataConfig, DataError, open_source, split
from productgen.data.images import load_image
from productgen.data.pairs import Pairs
from productgen.data.pipeline import Batches
from productgen.data.unpaired import Unpaired

DRAW = np.random.default_rng(0)


def save(path, size=(12, 10), image=None):
    """A picture of (width, height) of noise, returned as an array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = DRAW.integers(0, 256, (size[1], size[0], 3), np.uint8) if image is None else image
    Image.fromarray(image).save(path)
    return image


def config(source, **fields):
    return DataConfig(**{'source': str(source), 'resolution': '12x10', 'labels': 'none'} | fields)


@pytest.fixture
def folders(tmp_path):
    """Eight pairs under `input` and `target`, in two sub-folders, with other endings."""
    images = {}
    for i in range(8):
        name = f'{"ab"[i % 2]}/{i}'
        images[name] = save(tmp_path / 'input' / f'{name}.png'), save(tmp_path / 'target' / f'{name}.bmp')
    return tmp_path, images


# ------------------------------------------------------------------------------------------------------------ pairs


def test_two_folders(folders):
    path, images = folders
    source = open_source(config(f'pairs:{path}'))
    assert len(source) == 8 and source.columns == dict.fromkeys(('image', 'input', 'target'), (10, 12, 3))
    assert source.attributes == {'label': ('a', 'b')} and source.names[0] == 'a/0.bmp'
    for i, name in enumerate(source.names):
        item = source[i]
        given, target = images[name.removesuffix('.bmp')]
        assert np.array_equal(item['input'], given) and np.array_equal(item['target'], target)
        assert item['image'] is not None and np.array_equal(item['image'], target)


def test_pictures_without_a_counterpart_are_reported(folders):
    path, _ = folders
    (path / 'target/a/0.bmp').unlink()
    save(path / 'target/c/9.png')
    save(path / 'input/b/1.jpg')  # a second b/1
    source = Pairs(path, (10, 12))
    assert len(source) == 6 and source.names[0] == 'a/2.bmp'
    assert dict(source.missing) == {
        'input/a/0.png': 'no picture of this name in target/',
        'target/c/9.png': 'no picture of this name in input/',
        **dict.fromkeys(['input/b/1.jpg', 'input/b/1.png', 'target/b/1.bmp'], 'several files of this name'),
    }
    assert any('5 pictures without a counterpart' in line for line in source.remarks)


def test_damaged_pictures_and_pairs_of_two_shapes_are_skipped(folders):
    path, _ = folders
    (path / 'input/a/0.png').write_bytes(b'nothing')
    save(path / 'target/a/2.bmp', (10, 12))
    source = Pairs(path, (10, 12))
    assert len(source) == 6
    assert source.skipped[0][0] == 'input/a/0.png'
    assert ('target/a/2.bmp', 'it is 10x12, and its input 12x10') in source.skipped
    save(path / 'target/a/4.bmp', (24, 20))  # twice the size
    assert len(Pairs(path, (10, 12))) == 6 and len(Pairs(path, (10, 12), fit='native')) == 5


def test_no_pair_or_half_of_the_folders_is_an_error(tmp_path):
    save(tmp_path / 'input/a.png')
    with pytest.raises(DataError, match=r'data\.source: .* has input/ but no target/'):
        Pairs(tmp_path, (10, 12))
    save(tmp_path / 'target/b.png')
    with pytest.raises(DataError, match=r'no pair of pictures:\n  input/a\.png: no picture of this name in target/'):
        Pairs(tmp_path, (10, 12))


def test_files_side_by_side(tmp_path):
    whole = [save(tmp_path / f'{i}.png', (24, 10)) for i in range(3)]
    save(tmp_path / 'odd.png', (25, 10))
    source = open_source(config(f'pairs:{tmp_path}'))
    assert len(source) == 4 and any('side by side' in line for line in source.remarks)
    for i in range(3):
        assert np.array_equal(source[i]['input'], whole[i][:, :12])
        assert np.array_equal(source[i]['target'], whole[i][:, 12:])
    other = open_source(config(f'pairs:{tmp_path}', input='target', target='input'))
    assert np.array_equal(other[0]['input'], whole[0][:, 12:]) and np.array_equal(other[0]['target'], whole[0][:, :12])


@pytest.mark.parametrize('fit', ['pad', 'crop', 'stretch'])
def test_halves_are_fitted_as_whole_pictures_are(tmp_path, fit):
    whole = save(tmp_path / 'a/x.png', (30, 10))
    source = Pairs(tmp_path / 'a', (12, 8), fit=fit)
    for side, part in (('input', whole[:, :15]), ('target', whole[:, 15:])):
        save(tmp_path / 'half.png', image=part)
        assert np.array_equal(source[0][side], load_image(tmp_path / 'half.png', (12, 8), fit))


@pytest.mark.parametrize('layout', ['folders', 'halves'])
def test_both_pictures_are_cropped_at_the_same_place(tmp_path, layout):
    for i in range(4):
        given = DRAW.integers(0, 200, (40, 50, 3), np.uint8)
        target = given + np.uint8(50)
        if layout == 'folders':
            save(tmp_path / f'input/{i}.png', image=given)
            save(tmp_path / f'target/{i}.png', image=target)
        else:
            save(tmp_path / f'{i}.png', image=np.concatenate([given, target], 1))
    source = open_source(config(f'pairs:{tmp_path}', fit='native'))
    batches = Batches(source, np.arange(4), (), 4, 0, inputs=('input', 'target'))
    seen = []
    for step in range(3):
        batch = batches[step]
        assert np.array_equal(batch['target'], batch['input'] + np.uint8(50))
        seen.append(batch['input'].tobytes())
    assert len(set(seen)) == 3
    assert np.array_equal(source[0]['target'], source[0]['input'] + np.uint8(50))


def test_the_digest_covers_both_pictures_and_the_layout(folders):
    path, _ = folders
    first = Pairs(path, (10, 12)).digest
    assert Pairs(path, (10, 12)).digest == first
    save(path / 'input/a/0.png')
    second = Pairs(path, (10, 12)).digest
    save(path / 'target/a/0.bmp')
    assert len({first, second, Pairs(path, (10, 12)).digest}) == 3


# --------------------------------------------------------------------------------------------------------- unpaired


@pytest.fixture
def two(tmp_path):
    """Config of twenty dark pictures and thirty bright ones, each of one grey."""
    for i in range(20):
        save(tmp_path / f'photos/{i:02d}.png', image=np.full((10, 12, 3), i, np.uint8))
    for i in range(30):
        save(tmp_path / f'wanted/{i:02d}.png', image=np.full((10, 12, 3), 200 + i, np.uint8))
    return config(f'folder:{tmp_path}/photos', target=f'folder:{tmp_path}/wanted', validation=0.3)


def test_targets_are_drawn_from_the_second_data_set(two):
    source = open_source(two)
    assert isinstance(source, Unpaired) and len(source) == 20 and two.unpaired
    assert source.columns == dict.fromkeys(('image', 'input', 'target'), (10, 12, 3))
    value = lambda item: (int(item['input'][0, 0, 0]), int(item['target'][0, 0, 0]))
    assert all(value(source[i]) == value(open_source(two)[i]) for i in range(20))
    assert len({value(source[i])[1] for i in range(20)}) > 5
    found = [value(source.drawn(3, draw)) for draw in range(40)]
    assert {given for given, _ in found} == {3} and len({target for _, target in found}) > 4
    assert found == [value(source.drawn(3, draw)) for draw in range(40)]


def test_held_out_items_have_held_out_targets(two):
    source = open_source(two)
    sides = split(source, two.validation)
    bright = [{200 + int(i) for i in items} for items in source.targets]
    assert not bright[0] & bright[1] and len(bright[0] | bright[1]) == 30 and all(bright)
    for items, allowed in zip(sides, bright, strict=True):
        for i in items:
            drawn = {int(source.drawn(int(i), draw)['target'][0, 0, 0]) for draw in range(20)}
            assert drawn | {int(source[int(i)]['target'][0, 0, 0])} <= allowed


def test_batches_draw_other_targets_each_time(two):
    source = open_source(dataclasses.replace(two, validation=0.0))
    batches = Batches(source, np.arange(20), (), 20, 0, inputs=('input', 'target'))
    table = []
    for step in range(2):
        batch = batches[step]
        order = np.argsort(batch['input'][:, 0, 0, 0])
        table.append(batch['target'][order, 0, 0, 0])
    assert np.mean(table[0] == table[1]) < 0.5
    again = Batches(source, np.arange(20), (), 20, 0, inputs=('input', 'target'))[1]
    assert np.array_equal(again['target'], batches[1]['target'])


def test_the_digest_covers_both_data_sets(two, tmp_path):
    digests = {open_source(two).digest, open_source(dataclasses.replace(two, target='')).digest}
    save(tmp_path / 'wanted/00.png')
    digests.add(open_source(two).digest)
    save(tmp_path / 'photos/00.png')
    assert len(digests | {open_source(two).digest}) == 4


def test_a_second_data_set_that_cannot_be_used_is_named(two, tmp_path):
    with pytest.raises(DataError, match=r'^data\.target=folder:.*: there is no folder'):
        open_source(dataclasses.replace(two, target=f'folder:{tmp_path}/want'))
    with pytest.raises(DataError, match=r"^data\.target: the second data set has no column 'studios'"):
        open_source(dataclasses.replace(two, target='catalog:studios'))
    for i in range(1, 30):
        (tmp_path / f'wanted/{i:02d}.png').unlink()
    with pytest.raises(DataError, match=r'^data\.validation: 0\.3 leaves none of the 1 pictures of data\.target to'):
        open_source(two)


def test_another_column_of_the_catalog(monkeypatch):
    from productgen.data.catalog import scene

    source = open_source(DataConfig(resolution='16', catalog_items=40, target='catalog:studio'))
    for name in ('sketch', 'studio'):
        monkeypatch.setattr(scene, name, None)  # would fail if it were called
    assert source[0]['input'].shape == (16, 16, 3) and np.array_equal(source[0]['input'], source[0]['image'])
    monkeypatch.undo()
    assert source[0]['target'].shape == (16, 16, 3) and source[0]['target'][0, 0].tolist() == [255] * 3
