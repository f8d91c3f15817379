"""Labels are parsed from names, and drawn as often as they occur."""

import random
import shlex
import types

import numpy as np
import pytest

from productgen.config import UserError
from productgen.data.labels import LabelTable

SOURCE = types.SimpleNamespace(
    attributes={'label': ('mug', 'shoe'), 'body': ('red', 'blue'), 'lid': ('red', 'none'), 'size': ('s', 'm, l')},
    codes={
        'label': np.asarray([0, 0, 0, 1, 1, 0], np.int32),
        'body': np.asarray([0, 0, 1, 1, 1, 0], np.int32),
        'lid': np.asarray([0, 0, 1, -1, 1, 1], np.int32),
        'size': np.asarray([0, 0, 0, 1, 1, 1], np.int32),
    },
)
TABLE = LabelTable.of(SOURCE, ('label', 'body', 'lid', 'size'), np.arange(5))
NOTHING = LabelTable.of(SOURCE, (), np.arange(5))


def test_the_table_counts_the_rows_of_the_items():
    assert TABLE.names == ('label', 'body', 'lid', 'size') and TABLE.sizes == (2, 2, 2, 2)
    assert TABLE.rows.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [1, 1, -1, 1], [1, 1, 1, 1]]
    assert TABLE.counts.tolist() == [2, 1, 1, 1] and TABLE.pictures == 5
    assert NOTHING.rows.shape == (1, 0) and NOTHING.pictures == 5 and NOTHING.sizes == ()


@pytest.mark.parametrize('table', [TABLE, NOTHING])
def test_json_and_back(table):
    other = LabelTable.from_json(table.to_json())
    assert other.attributes == table.attributes
    assert np.array_equal(other.rows, table.rows) and other.rows.shape == table.rows.shape
    assert np.array_equal(other.counts, table.counts)


def test_rows_are_drawn_as_often_as_they_occur():
    drawn = TABLE.draw(range(4000))
    fraction = [np.mean((drawn == row).all(1)) for row in TABLE.rows]
    assert np.allclose(fraction, [0.4, 0.2, 0.2, 0.2], atol=0.03)


def test_a_seed_draws_the_same_row_whatever_the_other_seeds():
    assert np.array_equal(TABLE.draw([7, 3])[1], TABLE.draw([1, 2, 3])[2])
    assert NOTHING.draw([1, 2]).shape == (2, 0)


def test_other_values_are_those_of_pictures_of_the_kind():
    drawn = TABLE.draw(range(50), {'label': 'shoe'})
    assert (drawn[:, [0, 1, 3]] == 1).all() and set(drawn[:, 2]) == {-1, 1}


def test_a_kind_without_pictures_is_drawn_with_a_warning(caplog):
    drawn = TABLE.draw(range(20), {'label': 'shoe', 'body': 'red'})
    assert (drawn[:, :2] == [1, 0]).all()
    assert 'No training picture is shoe, body=red' in caplog.text


@pytest.mark.parametrize(
    'text, kinds',
    [
        ('', []),
        ('mug', [{'label': 'mug'}]),
        (' label = mug , blue ; shoe;', [{'label': 'mug', 'body': 'blue'}, {'label': 'shoe'}]),
        ('lid=red', [{'lid': 'red'}]),
        ('mug,"m, l"', [{'label': 'mug', 'size': 'm, l'}]),
        ('size="m, l";s', [{'size': 'm, l'}, {'size': 's'}]),
        ('m, l', [{'size': 'm, l'}]),
        ('mug; m, l ;s', [{'label': 'mug'}, {'size': 'm, l'}, {'size': 's'}]),
        (' "mug" , "body" = "blue" ', [{'label': 'mug', 'body': 'blue'}]),
    ],
)
def test_kinds_by_name(text, kinds):
    assert TABLE.kinds(text, 'sample.labels') == kinds


@pytest.mark.parametrize(
    'text, message',
    [
        ('shoo', r"sample\.labels: there is no 'shoo'; did you mean 'shoe'\?"),
        ('lable=mug', r"there is no attribute 'lable'; did you mean 'label'\?"),
        ('label=mugg', r"label has no value 'mugg'; did you mean 'mug'\?"),
        ('red', r"'red' is a value of several attributes; write body=red or lid=red"),
        ('mug,shoe', r"gives 'label' two values, 'mug' and 'shoe'; separate kinds by ';'"),
        ('mug,', r"there is no ''"),
        ('m', r"there is no 'm'; did you mean 'm, l'\? Write sample\.labels='\"m, l\"' \(known: "),
        (
            'size=m',
            r"size has no value 'm'; did you mean 'm, l'\? Write sample\.labels='\"m, l\"' \(known: \"m, l\", s\)",
        ),
        ('mug,"m, l', r"'\"m, l' begins with a quote, which does not end with the name; put \"\.\.\.\" around"),
        ('"mug"s', r"'\"mug\"s' begins with a quote"),
        ('"mug"";shoe', r'begins with a quote'),
    ],
)
def test_names_that_cannot_be_resolved(text, message):
    with pytest.raises(UserError, match=message):
        TABLE.kinds(text, 'sample.labels')


def test_no_labels_to_choose_from():
    with pytest.raises(UserError, match='trained without labels'):
        NOTHING.kinds('mug', 'sample.labels')


def plates(*values, colours=('red',)):
    """A table of these values of `label`."""
    attributes = {'label': values, 'colour': colours}
    return LabelTable(attributes, np.zeros((1, 2), np.int32), np.asarray([1]))


@pytest.mark.parametrize(
    'text, values',
    [
        ('12" plate;10" plate', ['12" plate', '10" plate']),
        ('"12"" plate";"10"" plate"', ['12" plate', '10" plate']),
        ('12" plate', ['12" plate']),
        ('"shoes, women";12" plate', ['shoes, women', '12" plate']),
        ('shoes, women;10" plate', ['shoes, women', '10" plate']),
        ('"best" mug', ['"best" mug']),
        ('a;b', ['a;b']),
        ('a=b;label=a=b', ['a=b', 'a=b']),
        ('"a;b";"a=b"', ['a;b', 'a=b']),
    ],
)
def test_names_with_quotes_and_separators(text, values):
    table = plates('12" plate', '10" plate', 'shoes, women', '"best" mug', 'a;b', 'a=b')
    assert table.kinds(text, 'x') == [{'label': value} for value in values]


def test_the_spelling_of_a_message_is_that_of_a_shell():
    with pytest.raises(UserError, match='there is no') as error:
        plates('12" plate, flat').kinds('12" plate', 'sample.labels')
    spelling = str(error.value).partition('Write sample.labels=')[2].partition(' (known')[0]
    assert plates('12" plate, flat').kinds(shlex.split(spelling)[0], 'x') == [{'label': '12" plate, flat'}]


def test_long_lists_of_values_are_cut():
    with pytest.raises(UserError, match=r'\(known: .*, \.\.\.\)$') as error:
        plates(*map(str, range(5000))).kinds('zzz', 'x')
    assert len(str(error.value)) < 500


def test_words_of_any_values_are_parsed_back():
    """Values of one to six characters, most of them separators, the same ones in several attributes."""
    draw, letters = random.Random(0), list('",;= ab') + ['\n', 'é', '漢', '🛋', '\udcff']
    name = lambda: ''.join(draw.choices(letters, k=draw.randint(1, 6)))
    for _ in range(1000):
        attributes = {name(): tuple({name() for _ in range(6)}) for _ in range(3)}
        table = LabelTable(attributes, np.zeros((1, len(attributes)), np.int32), np.asarray([1]))
        kind = {name: draw.choice(values) for name, values in attributes.items() if draw.random() < 0.7}
        assert table.kinds(','.join(table.words(kind)), 'x') == [kind] * bool(kind), kind


def test_words_are_parsed_back():
    for text in ('mug,blue', 'shoe,lid=red'):
        (kind,) = TABLE.kinds(text, 'x')
        assert ','.join(TABLE.words(kind)) == text
