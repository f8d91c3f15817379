"""Tables as programs and people write them: what has one obvious meaning is understood, the rest is refused by name."""

import json

import pytest

from productgen.data.source import DataError
from productgen.data.tables import read_table

ROWS = {'a.png': {'label': 'mug'}, 'b/c.png': {'label': 'tie'}}
PLAIN = 'file_name,label\na.png,mug\nb/c.png,tie\n'


def read(tmp_path, content, name='metadata.csv', encoding='utf-8'):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return read_table(path)


@pytest.mark.parametrize(
    'content',
    [
        PLAIN,
        PLAIN.replace('\n', '\r\n'),
        PLAIN.replace('\n', '\r'),
        PLAIN.replace(',', ';'),
        PLAIN.replace(',', '\t'),
        PLAIN.replace(',', '|'),
        'sep=;\r\n' + PLAIN.replace(',', ';'),
        PLAIN.replace(',', ' , '),
        PLAIN.replace('file_name', 'File Name').replace('label', 'Label'),
        PLAIN.replace('file_name', 'IMAGE'),
        ',file_name,label\n0,a.png,mug\n1,b/c.png,tie\n',  # pandas.DataFrame.to_csv
        'file_name,label,\na.png,mug,\nb/c.png,tie,,\n',
        PLAIN + ',\n\n , \n',
        PLAIN + 'a.png,mug\n',  # twice the same
        '"file_name", "label"\n"a.png" , "mug"\n"b\\c.png","tie"',
    ],
)
def test_spellings(tmp_path, content):
    assert read(tmp_path, content).rows == ROWS
    assert read(tmp_path, content, encoding='utf-8-sig').rows == ROWS
    assert read(tmp_path, content, encoding='utf-16').rows == ROWS
    assert read(tmp_path, content, 'METADATA.CSV').rows == ROWS


def test_what_was_understood_is_told(tmp_path):
    table = read(tmp_path, ',Image,label\n0,a.png,mug\n')
    assert table.remarks == ('a column without a name is left out', "the column 'Image' is taken as 'file_name'")
    assert table.places == {'a.png': f'{tmp_path / "metadata.csv"}:2'}


def test_an_exact_name_comes_before_a_similar_one(tmp_path):
    table = read(tmp_path, 'image,Label,file_name,label\nx.png,no,a.png,yes\n')
    assert table.rows == {'a.png': {'image': 'x.png', 'Label': 'no', 'label': 'yes'}} and not table.remarks


@pytest.mark.parametrize('text', ['', 'NaN', 'nan', '#N/A', '<NA>', 'null', ' '])
def test_missing_values_in_csv(tmp_path, text):
    row = read(tmp_path, f'file_name,label,size\na.png,{text},7\n').rows['a.png']
    assert row['label'] in ('', None) and row['size'] == '7'


def test_words_that_may_be_values_stay(tmp_path):
    assert read(tmp_path, 'file_name,sleeve\na.png,None\nb.png,NA\n').rows['a.png'] == {'sleeve': 'None'}


def test_missing_values_in_jsonl(tmp_path):
    content = '{"file_name": " a.png ", " label ": NaN, "colour": " red "}\r\n\n{"file_name": null, "label": NaN}\n'
    assert read(tmp_path, content, 'metadata.jsonl', 'utf-8-sig').rows == {'a.png': {'label': None, 'colour': 'red'}}


def test_long_texts(tmp_path):
    text = 'word ' * 100_000 + 'end'
    assert read(tmp_path, f'file_name,text\na.png,"{text}"\n').rows['a.png']['text'] == text


def test_line_feeds_in_texts_count_as_lines(tmp_path):
    with pytest.raises(DataError, match=r'metadata\.csv:4: 2 fields are expected, as in the header, not 1'):
        read(tmp_path, 'file_name,text\na.png,"one\ntwo"\nb.png\n')
    with pytest.raises(DataError, match=r'metadata\.csv:3: 2 fields'):
        read(tmp_path, 'sep=;\nfile_name;text\na.png\n')


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('metadata.csv', b'file_name,label\na.png,caf\xe9\n', r'metadata\.csv:2: not UTF-8 .*save it as UTF-8'),
        ('metadata.jsonl', b'{"file_name": "caf\xe9"}', r'metadata\.jsonl:1: not UTF-8'),
        ('metadata.csv', 'file_name,label\na.png,x\0\n', r'metadata\.csv:2: it contains a NUL character'),
        ('metadata.csv', 'file_name\tlabel\n'.encode('utf-16-le'), r'metadata\.csv:1: it contains a NUL character'),
        ('metadata.jsonl', '{"file_name": "a\\u0000b.png"}', r':1: the file name a\\x00b\.png contains a NUL'),
        ('metadata.csv', 'file_name,label,label\na.png,x,y\n', r":1: two columns are called 'label'"),
        ('metadata.csv', 'id,label\n1,x\n', r'no column `file_name`; its columns are id, label'),
        ('metadata.csv', 'file_name,label\n,x\n', r'metadata\.csv:2: no `file_name`'),
        ('metadata.csv', 'file_name,label\n/a.png,x\n', r':2: /a\.png lies outside the folder'),
        ('metadata.csv', 'file_name,label\n..,x\n', r':2: \.\. lies outside the folder'),
        ('metadata.jsonl', '[' * 100_000, r'metadata\.jsonl:1: not a line of JSON'),
        ('dataset.json', '[' * 100_000, r'dataset\.json: not JSON'),
        ('metadata.csv', 'file_name,label\na.png,"x\n', None),
    ],
)
def test_refusals(tmp_path, name, content, message):
    if message is None:  # an unclosed quote is closed by the end
        assert read(tmp_path, content, name).rows == {'a.png': {'label': 'x'}}
        return
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, content, name)
    assert '\0' not in str(error.value)


def test_what_is_no_file(tmp_path):
    (tmp_path / 'metadata.csv').symlink_to(tmp_path / 'gone')
    with pytest.raises(DataError, match=r'metadata\.csv: it cannot be read: dangling link'):
        read_table(tmp_path / 'metadata.csv')


def test_multi_hot_with_large_numbers(tmp_path):
    labels = [['a.png', [10**400, 1.0]], ['b.png', [0, 1e300]]]
    rows = read(tmp_path, json.dumps({'labels': labels}), 'dataset.json').rows
    assert rows['a.png'] == {'label_0': 10**400, 'label_1': 1}
    with pytest.raises(DataError, match='the label of a.png'):
        read(tmp_path, '{"labels": [["a.png", [NaN, Infinity]]]}', 'dataset.json')
