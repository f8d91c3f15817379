"""Metadata tables in every format, their errors, and which of their columns are attributes."""

import json

import pytest
from PIL import Image

from productgen.data.folder import Folder
from productgen.data.metadata import MAX_VALUES, categorical
from productgen.data.source import DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv('PRODUCTGEN_CACHE', str(tmp_path_factory.mktemp('cache')))


def lines(path, *rows):
    path.write_text(''.join(f'{row if isinstance(row, str) else json.dumps(row)}\n' for row in rows))


@pytest.fixture
def table(tmp_path):
    """Four pictures and a function that writes their table."""
    for i, name in enumerate(['a.png', 'b.png', 'c.png', 'd/e.png']):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (12, 10), (i, 0, 0)).save(tmp_path / name)
    return tmp_path, lambda *rows, name='metadata.jsonl': lines(tmp_path / name, *rows)


def test_jsonl(table):
    path, write = table
    write(
        {'file_name': 'b.png', 'label': 'shoe', 'color': 'red', 'size': 10, 'new': True, 'price': 9.5, 'text': 'Red.'},
        '',
        {'file_name': './d/e.png', 'label': 'hat', 'color': 'red', 'size': 9, 'new': False, 'price': 9.5, 'ean': 7},
        {'file_name': 'a.png', 'label': 'hat', 'color': '', 'size': 10, 'new': False, 'price': 1.5, 'ean': 8},
        {'file_name': 'c.png', 'label': 'hat', 'color': None, 'size': 9, 'new': True, 'text': 'Say\u2028more.'},
    )
    folder = Folder(path, (8, 8))
    assert folder.names == ('a.png', 'b.png', 'c.png', 'd/e.png')
    assert folder.attributes == {
        'label': ('hat', 'shoe'),
        'color': ('red',),
        'size': ('9', '10'),  # as numbers
        'new': ('false', 'true'),
    }  # a price is no attribute, and a number that never repeats is none
    assert folder.codes['label'].tolist() == [0, 1, 0, 0]
    assert folder.codes['color'].tolist() == [-1, 0, -1, 0]
    assert folder.codes['size'].tolist() == [1, 1, 0, 0]
    assert folder.codes['new'].tolist() == [0, 1, 1, 0]
    assert [folder.text(i) for i in range(4)] == ['', 'Red.', 'Say\u2028more.', '']


def test_labels_need_not_repeat(table):
    path, write = table
    write(*[{'file_name': f'{name}.png', 'label': name} for name in 'abc'])
    folder = Folder(path, (8, 8))
    assert folder.attributes['label'] == ('a', 'b', 'c')
    assert folder.codes['label'].tolist() == [0, 1, 2, -1]  # a picture the table does not name stays, without label


def test_text_is_no_attribute(table):
    path, write = table
    write(*[{'file_name': f'{name}.png', 'text': 'Red.', 'color': 'red'} for name in 'abc'])
    folder = Folder(path, (8, 8))
    assert folder.attributes == {'color': ('red',)} and folder.text(0) == 'Red.'


def test_most_items_must_have_the_value_of_another():
    assert categorical('size', ['s', 's', 'm', 'l']) is None
    assert categorical('size', ['s', 's', 'm', None])[0] == ('m', 's')


def test_a_column_of_more_values_than_the_limit_is_no_attribute():
    values = [i // 2 for i in range(2 * MAX_VALUES)]
    assert len(categorical('set', values)[0]) == MAX_VALUES
    assert categorical('set', [*values, -1, -1]) is None


def test_jsonl_comes_before_csv(table):
    path, write = table
    write('file_name,label', 'a.png,shoe', name='metadata.csv')
    write({'labels': [['a.png', 3]]}, name='dataset.json')
    assert Folder(path, (8, 8)).attributes == {'label': ('shoe',)}
    write({'file_name': 'a.png', 'label': 'hat'})
    assert Folder(path, (8, 8)).attributes == {'label': ('hat',)}


def test_paths_of_other_systems(table):
    path, write = table
    write({'file_name': '.\\d\\e.png', 'label': 'hat'})
    assert Folder(path, (8, 8)).codes['label'].tolist() == [-1, -1, -1, 0]


def test_csv(table):
    path, write = table
    write('\ufefffile_name,label,text', 'a.png,shoe,"Red, new"', 'b.png,hat,', 'c.png,,plain', name='metadata.csv')
    folder = Folder(path, (8, 8))
    assert folder.attributes == {'label': ('hat', 'shoe')}
    assert folder.codes['label'].tolist() == [1, 0, -1, -1]
    assert [folder.text(i) for i in range(4)] == ['Red, new', '', 'plain', '']


@pytest.mark.parametrize(
    'labels, attributes, codes',
    [
        ([['a.png', 3], ['b.png', 10], ['d/e.png', 3]], {'label': ('3', '10')}, {'label': [0, 1, -1, 0]}),
        ([['a.png', [0, 1.0]], ['b.png', [1, 0]]], {'label': ('0', '1')}, {'label': [1, 0, -1, -1]}),
        (
            [['a.png', [0, 1]], ['b.png', [1, 1]], ['c.png', [0, 1]], ['d/e.png', [1, 0]]],
            {'label_0': ('0', '1'), 'label_1': ('0', '1')},
            {'label_0': [0, 1, 0, 1], 'label_1': [1, 1, 1, 0]},
        ),
        (None, {}, {}),
    ],
)
def test_dataset_json(table, labels, attributes, codes):
    path, write = table
    write({'labels': labels}, name='dataset.json')
    folder = Folder(path, (8, 8))
    assert folder.attributes == attributes
    assert {name: values.tolist() for name, values in folder.codes.items()} == codes


@pytest.mark.parametrize(
    'name, rows, message',
    [
        ('metadata.jsonl', [{'file_name': 'a.png'}, '{"file_name": "b.png"'], r'metadata.jsonl:2: not a line of JSON'),
        ('metadata.jsonl', [{'file_name': 'a.png'}, '["b.png"]'], r'metadata.jsonl:2: a JSON object'),
        ('metadata.jsonl', ['', {'title': 'a.png'}], r'metadata.jsonl: no column `file_name`; its columns are title'),
        ('metadata.jsonl', [{'file_name': 'a.png'}, {'label': 'x'}], r'metadata.jsonl:2: no `file_name`'),
        (
            'metadata.jsonl',
            [{'file_name': 'a.png', 'label': 1}, {'file_name': './a.png', 'label': 2}],
            r':2: a.png appears before, at .*:1',
        ),
        ('metadata.jsonl', [{'file_name': '../a.png'}], r':1: ../a.png lies outside'),
        ('metadata.jsonl', [{'file_name': 'a.png', 'label': ['x']}], r'the label of a.png'),
        ('metadata.csv', ['file_name,label', 'a.png,shoe,red'], r'metadata.csv:2: 2 fields'),
        ('metadata.csv', ['file_name,label', 'a.png'], r'metadata.csv:2: 2 fields'),
        (
            'metadata.csv',
            ['name,label', 'a.png,shoe'],
            r'metadata.csv: no column `file_name`; its columns are name, lab',
        ),
        ('dataset.json', ['{"labels":', '[}'], r'dataset.json:2: not JSON'),
        ('dataset.json', ['[1]'], r'dataset.json: \{"labels"'),
        ('dataset.json', ['{"labels": [["a.png", 1], ["b.png"]]}'], r'labels\[1\]'),
        ('dataset.json', ['{"labels": [["a.png", [0.5]]]}'], r'the label of a.png is \[0.5\]'),
        ('dataset.json', ['{"labels": [["a.png", [0, 1]], ["b.png", [1]]]}'], r'the label of b.png'),
        ('dataset.json', ['{"labels": [["a.png", [0, 1]], ["b.png", 1]]}'], r'the label of b.png'),
    ],
)
def test_malformed_tables_name_file_and_line(table, name, rows, message):
    path, write = table
    write(*rows, name=name)
    with pytest.raises(DataError, match=message):
        Folder(path, (8, 8))


def test_named_but_absent_files_are_listed(table):
    path, write = table
    write({'file_name': 'a.png', 'label': 'x'}, {'file_name': 'gone.png', 'label': 'y'})
    folder = Folder(path, (8, 8))
    assert folder.missing == [('gone.png', f'no such file, but a row at {path / "metadata.jsonl"}:2')]
    assert not folder.skipped and folder.remarks[1] == '1 row without a picture: gone.png'
    assert len(folder) == 4 and folder.attributes == {'label': ('x',)}


def test_groups(table):
    path, write = table
    rows = [{'file_name': f'{name}.png', 'sku': sku, 'set': 7} for name, sku in [('a', 's1'), ('b', 's1'), ('c', None)]]
    write(*rows)
    assert Folder(path, (8, 8)).keys == ('s1', 's1', 'c.png', 'd/e.png')
    assert Folder(path, (8, 8), group='set').keys == ('7', '7', '7', 'd/e.png')
    with pytest.raises(DataError, match="data.group: .* no column 'skuu'; it has set, sku"):
        Folder(path, (8, 8), group='skuu')
    write(*[{'file_name': f'{name}.png', 'sku': 0} for name in 'ab'])
    assert Folder(path, (8, 8)).keys == ('0', '0', 'c.png', 'd/e.png')
