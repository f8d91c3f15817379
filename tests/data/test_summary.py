"""What a user is told of a folder: tables, labels, rows and pictures that do not match, files that are not read."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from productgen.data import DataConfig, conditions, open_source
from productgen.data.source import DataError
from productgen.data.summary import summary, write_lists


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path_factory.mktemp('cache')))


def put(*paths):
    """Writes pictures that differ."""
    for i, path in enumerate(paths):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            Image.new('RGB', (4, 4), (i, 0, 0)).save(file, 'PNG')


def csv(path, column, **values):
    path.write_text(f'file_name,{column}\n' + ''.join(f'{name}.png,{value}\n' for name, value in values.items()))


def told(path, labels='auto', held_out=0):
    """The summary of a folder, and its source."""
    config = DataConfig(source=f'folder:{path}', resolution=4, labels=labels)
    source = open_source(config)
    train = np.arange(len(source) - held_out)
    return summary(config, source, conditions(source, labels), train, held_out), source


def test_class_folders(tmp_path):
    put(tmp_path / 'mug/a.png', tmp_path / 'mug/b.png', tmp_path / 'tie/a.png', tmp_path / 'tie/b.png')
    assert told(tmp_path)[0] == [f'folder:{tmp_path}: 4 pictures to train on, 0 held out', 'label: 2 values, mug, tie']


def test_rare_values(tmp_path):
    put(*(tmp_path / f'{name}.png' for name in 'abcde'))
    csv(tmp_path / 'metadata.csv', 'label', a='mug', b='mug', c='tie', e='hat')
    lines, _ = told(tmp_path, held_out=1)
    assert lines[1:] == [
        'labels and texts are from metadata.csv',
        '1 picture without a row: d.png',
        'label: 3 values, hat, mug, tie',
        'label: 1 value with no picture to train on: hat',
        'label: 1 value with a single picture to train on: tie',
        'label: not known of 1 of the pictures to train on',
    ]


def test_tables_of_sub_folders(tmp_path):
    put(*(tmp_path / f'{folder}/{name}.png' for folder in ('red', 'blue') for name in 'abc'))
    csv(tmp_path / 'red/metadata.csv', 'label', a='mug', b='tie', gone='hat')
    (tmp_path / 'blue/metadata.jsonl').write_text(json.dumps({'file_name': 'a.png', 'label': 'tie'}))
    csv(tmp_path / 'blue/metadata.csv', 'label', a='x')
    lines, source = told(tmp_path)
    assert lines[1:5] == [
        'labels and texts are from blue/metadata.jsonl, red/metadata.csv',
        'blue/metadata.csv is not used, since metadata.jsonl is',
        '1 row without a picture: red/gone.png',
        '3 pictures without a row: blue/b.png, blue/c.png, red/c.png',
    ]
    assert source.codes['label'].tolist() == [1, -1, -1, 0, 1, -1]


def test_two_tables_of_one_picture(tmp_path):
    put(tmp_path / 'x/a.png', tmp_path / 'x/b.png')
    (tmp_path / 'metadata.csv').write_text('file_name,label,size\nx/a.png,mug,7\nx/b.png,tie,\n')
    csv(tmp_path / 'x/metadata.csv', 'size', a='7', b='7')
    assert told(tmp_path)[1].attributes == {'label': ('mug', 'tie'), 'size': ('7',)}
    csv(tmp_path / 'x/metadata.csv', 'size', a='8')
    with pytest.raises(DataError, match=r"metadata\.csv:2: size of x/a\.png is .*'7'.* and .*'8'|'8', and '7' in .*"):
        told(tmp_path)


@pytest.mark.parametrize('name', ['labels.csv', 'train_metadata.jsonl', 'metadata.json1', 'metadata.parquet'])
def test_tables_of_other_names(tmp_path, name):
    put(tmp_path / 'a.png', tmp_path / 'b.png')
    (tmp_path / name).write_text('file_name,label\na.png,x\n')
    lines, _ = told(tmp_path)
    assert any(line.startswith(f'{name}: ') and 'tables of labels are called metadata.jsonl' in line for line in lines)


@pytest.mark.parametrize('content', ['', 'file_name,label\n', 'file_name,label\n,\n'])
def test_an_empty_table_leaves_the_class_folders(tmp_path, content):
    put(tmp_path / 'mug/a.png', tmp_path / 'tie/a.png')
    (tmp_path / 'metadata.csv').write_text(content)
    lines, source = told(tmp_path)
    assert source.attributes == {'label': ('mug', 'tie')}
    assert 'metadata.csv is not used, since it has no rows' in lines


@pytest.mark.parametrize(
    'pictures, row, advice',
    [
        (['images/7.png'], '7.png', r'write images/7\.png for 7\.png'),
        (['7.png'], '7', r'write 7\.png for 7'),
        (['7.png'], 'shop/7.png', r'write 7\.png for shop/7\.png'),
        (['7.png'], '8.png', r'correct its `file_name`, or rename the table'),
    ],
)
def test_no_row_has_a_picture(tmp_path, pictures, row, advice):
    put(*(tmp_path / name for name in pictures))
    (tmp_path / 'metadata.csv').write_text(f'file_name,label\n{row},mug\n')
    with pytest.raises(DataError, match=rf'metadata\.csv: none of its 1 row has a picture: it names .*; {advice}'):
        told(tmp_path)


def test_accents_composed_otherwise(tmp_path):
    put(tmp_path / 'cafe\u0301.png', tmp_path / 'b.png')
    (tmp_path / 'metadata.csv').write_text('file_name,label\ncaf\xe9.png,cr\xe8me\nb.png,cre\u0300me\n')
    _, source = told(tmp_path)
    assert source.attributes == {'label': ('cr\xe8me',)} and source.codes['label'].tolist() == [0, 0]


def test_labels_of_another_column(tmp_path):
    put(*(tmp_path / f'{name}.png' for name in 'abcd'))
    (tmp_path / 'metadata.csv').write_text(
        'file_name,category,cut,price\na.png,mug,x,1.5\nb.png,mug,x,2\nc.png,tie,y,3\nd.png,tie,y,4\n'
    )
    assert told(tmp_path)[0][2:] == [
        'no labels: data.labels=auto finds no class; set data.labels=category, or another of category, cut',
        'columns not used: category (2 values), cut (2 values), price (no classes)',
    ]
    assert told(tmp_path, 'category')[0][2:] == [
        'category: 2 values, mug, tie',
        'columns not used: cut (2 values), price (no classes)',
    ]


def test_label_vectors_are_labels(tmp_path):
    put(*(tmp_path / f'{name}.png' for name in 'abc'))
    labels = [['a.png', [1, 0, 1]], ['b.png', [1, 1, 1]], ['c.png', [1, 0, 0]]]
    (tmp_path / 'dataset.json').write_text(json.dumps({'labels': labels}))
    _, source = told(tmp_path)
    assert conditions(source, 'auto') == ('label_1', 'label_2')  # the first is always 1


def test_whole_numbers_and_measurements(tmp_path):
    put(*(tmp_path / f'{name}.png' for name in 'abcd'))
    rows = [
        {'file_name': f'{name}.png', 'label': value}
        for name, value in zip('abc', (2.0, 10.0, float('nan')), strict=True)
    ]
    (tmp_path / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    _, source = told(tmp_path)
    assert source.attributes == {'label': ('2', '10')} and source.codes['label'].tolist() == [0, 1, -1, -1]
    rows = [{'file_name': f'{name}.png', 'label': i + 0.37} for i, name in enumerate('abcd')]
    (tmp_path / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r'the labels are numbers such as 0\.37, most of which occur once'):
        told(tmp_path)


def test_one_folder_around_the_classes(tmp_path):
    put(*(tmp_path / f'train/{label}/{i}.png' for label in ('mug', 'tie') for i in range(2)))
    lines, source = told(tmp_path)
    assert source.attributes == {'label': ('mug', 'tie')} and 'all pictures are in train/' in lines[1]
    (tmp_path / 'train').rename(tmp_path / 'My photos')
    lines, source = told(tmp_path)
    assert lines[1].startswith('there is one sub-folder, My photos, so there are no classes; if its 2 sub-folders are')
    assert lines[1].endswith(f'use folder:{tmp_path}/My photos') and lines[2] == 'no labels'


def test_a_table_without_labels_and_class_folders(tmp_path):
    put(tmp_path / 'mug/a.png', tmp_path / 'tie/a.png')
    (tmp_path / 'metadata.csv').write_text('file_name,text\nmug/a.png,A mug.\n')
    assert any('sub-folders (mug, tie) are not used as classes' in line for line in told(tmp_path)[0])


def test_files_that_are_not_read(tmp_path):
    put(*(tmp_path / f'{i}.png' for i in range(5)))
    put(tmp_path / 'x')
    (tmp_path / 'x').rename(tmp_path / 'web.jpg?1539')
    (tmp_path / 'photo.CR2').write_bytes(b'II*\0')
    (tmp_path / 'logo.svg').write_text('<svg/>')
    (tmp_path / 'Thumbs.db').write_bytes(b'\xd0\xcf')
    (tmp_path / 'note.txt').write_text('x')
    os.mkfifo(tmp_path / 'pipe.png')
    lines, source = told(tmp_path)
    assert 'files that are no pictures: 1 .txt, 1 .db' in lines or 'files that are no pictures: 1 .db, 1 .txt' in lines
    assert lines[2].startswith('4 files cannot be used: logo.svg (this kind is not read; ')
    reasons = dict(source.skipped)
    assert reasons['photo.CR2'].startswith('camera raw') and reasons['pipe.png'] == 'not a file, but a pipe'
    assert reasons['web.jpg?1539'] == 'without the ending of a picture; rename it to end in .png'
    (path,) = write_lists(tmp_path, source)
    assert len(path.read_text().splitlines()) == 4


def test_raw_copies_of_photos_are_no_reason_to_refuse(tmp_path):
    put(tmp_path / 'a.png')
    for i in range(5):
        (tmp_path / f'{i}.NEF').write_bytes(b'MM\0*')
    assert len(told(tmp_path)[1]) == 1
    (tmp_path / 'a.png').unlink()
    with pytest.raises(DataError, match=r'5 of 5 files .* all of them:\n  0\.NEF: camera raw is not read'):
        told(tmp_path)


def test_folders_of_file_servers_and_of_runs(tmp_path):
    put(tmp_path / 'mug/a.png', tmp_path / 'tie/a.png')
    for name in (
        '@eaDir/a.jpg',
        '#recycle',
        '$RECYCLE.BIN/S-1',
        'lost+found',
        'System Volume Information',
        'mug/@eaDir',
    ):
        put(tmp_path / name / 'b.png')
    put(tmp_path / 'runs/first/samples/fakes.png', tmp_path / 'tie/run/samples/fakes.png')
    for run in (tmp_path / 'runs/first', tmp_path / 'tie/run'):
        (run / 'config.json').write_text('{}')
        (run / 'checkpoints').mkdir()
    lines, source = told(tmp_path)
    assert source.names == ('mug/a.png', 'tie/a.png') and source.attributes == {'label': ('mug', 'tie')}
    assert 'runs/first, tie/run: the folder of a run, whose pictures are not used' in lines
    assert len(told(tmp_path / 'runs/first')[1]) == 1  # unless they are asked for


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path)
    put(folder + b'/caf\xe9/a.png', folder + b'/caf\xe9/b\n.png', folder + b'/tie/c.png', folder + b'/tie/c2.png')
    with open(folder + b'/tie/broken\xfc.png', 'wb') as file:
        file.write(b'x')
    os.link(folder + b'/tie/c.png', folder + b'/tie/same\xfc.png')
    lines, source = told(tmp_path)
    assert 'label: 2 values, caf\\udce9, tie' in lines and len(source) == 5
    for line in lines:
        line.encode()
    write_lists(tmp_path, source)
    assert (tmp_path / 'skipped_files.txt').read_text().startswith('tie/broken\\udcfc.png\t')
    assert (tmp_path / 'duplicate_files.txt').read_text() == 'tie/c.png\ttie/same\\udcfc.png\n'
