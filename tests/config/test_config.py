"""Typed settings from sections, their errors, and the argument strings of config files."""

import dataclasses

import pytest
from ml_collections import ConfigDict

from configs.common import parse_arg
from productgen.config import UserError, build, choose, complete, difference, to_dict
from productgen.config.sections import EvalConfig, SampleConfig, TrainConfig


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float
    name: str = 'x'


@dataclasses.dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    ratio: float = 0.5
    gamma: float | str = 'auto'
    limit: int | None = None
    on: bool = False

    def __post_init__(self):
        if self.count < 0:
            raise ValueError('count: must not be negative')


@dataclasses.dataclass(frozen=True)
class Middle:
    weights: dict = dataclasses.field(default_factory=lambda: {'l1': 4.0, 'l2': 0.0})
    inner: Inner = Inner(0.5, 'usual')


@dataclasses.dataclass(frozen=True)
class Nested:
    middle: Middle = dataclasses.field(default_factory=lambda: Middle(inner=Inner(0.25)))
    ratio: float = 1.0


def section(**changes):
    return {'count': 3, 'inner': {'rate': 0.1}} | changes


def test_a_section_becomes_a_dataclass_with_its_defaults():
    assert build(Outer, section(), 'outer') == Outer(3, Inner(0.1))
    assert build(Outer, section(gamma=0.25, limit=4, on=True), 'outer').gamma == 0.25


def test_whole_numbers_become_floats_where_floats_are_due():
    built = build(Outer, section(ratio=2, gamma=3, inner={'rate': 1}), 'outer')
    assert [(type(v), v) for v in (built.ratio, built.gamma, built.inner.rate)] == [(float, 2), (float, 3), (float, 1)]
    assert type(built.count) is int


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'cuont': 1}, r"outer\.cuont: no such field; did you mean 'count'\? \(known: count, gamma, inner,"),
        ({'inner': {'rate': 0.1, 'nam': 'y'}}, r"outer\.inner\.nam: no such field; did you mean 'name'\?"),
        ({'inner': {}}, r'outer\.inner\.rate: missing'),
        ({'inner': 3}, r'outer\.inner: expected a section, got 3'),
        ({'count': 1.5}, r'outer\.count: expected int, got 1\.5'),
        ({'count': '3'}, r"outer\.count: expected int, got '3'"),
        ({'count': True}, r'outer\.count: expected int, got True'),
        ({'count': None}, r'outer\.count: expected int, got None'),
        ({'ratio': 'half'}, r"outer\.ratio: expected float, got 'half'"),
        ({'ratio': False}, r'outer\.ratio: expected float, got False'),
        ({'on': 1}, r'outer\.on: expected bool, got 1'),
        ({'gamma': None}, r'outer\.gamma: expected float or str, got None'),
        ({'limit': 'all'}, r"outer\.limit: expected int or NoneType, got 'all'"),
        ({'count': -1}, r'outer: count: must not be negative'),
    ],
)
def test_errors_name_the_field_and_the_way_out(changes, message):
    with pytest.raises(UserError, match=f'^{message}'):
        build(Outer, section(**changes), 'outer')


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match=r'^outer\.count: missing$'):
        build(Outer, {'inner': {'rate': 0.1}}, 'outer')


def test_complete_adds_the_defaults_and_leaves_what_is_stated():
    full = {'inner': {'rate': 0.1, 'name': 'x'}, 'ratio': 2.0, 'gamma': 3, 'limit': None, 'on': False}
    given = {'ratio': 2, 'gamma': 3, 'inner': {'rate': 0.1}}
    assert complete(Outer, given, 'outer') == full  # without `count`, which has no default
    assert given == {'ratio': 2, 'gamma': 3, 'inner': {'rate': 0.1}}
    assert type(complete(Outer, given, 'outer')['ratio']) is float
    assert complete(Outer, {'on': 'unchecked'}, 'outer')['on'] == 'unchecked'


def test_a_nested_section_takes_the_defaults_of_the_field_around_it():
    usual = {'weights': {'l1': 4.0, 'l2': 0.0}, 'inner': {'rate': 0.25, 'name': 'x'}}
    assert complete(Nested, {}, 'n') == {'middle': usual, 'ratio': 1.0}
    assert build(Nested, {}, 'n') == Nested()
    assert complete(Middle, {'inner': {'rate': 1}}, 'm')['inner'] == {'rate': 1.0, 'name': 'usual'}
    stated = {'middle': {'inner': {'name': 'y'}, 'weights': {'l2': 1.0}}}
    expected = Middle({'l1': 4.0, 'l2': 1.0}, Inner(0.25, 'y'))
    assert build(Nested, stated, 'n').middle == build(Middle, complete(Nested, stated, 'n')['middle'], 'n') == expected


@pytest.mark.parametrize(
    'stated, message',
    [
        ({'inner': 3}, r'outer\.inner: expected a section, got 3$'),
        ({'inner': {'rat': 3}}, r"outer\.inner\.rat: no such field; did you mean 'rate'\?"),
        ({'ratoi': 3}, r"outer\.ratoi: no such field; did you mean 'ratio'\?"),
        ('quick', r"outer: expected a section, got 'quick'$"),
    ],
)
def test_complete_refuses_what_build_would_refuse_by_name(stated, message):
    for function in (complete, build):
        with pytest.raises(UserError, match=f'^{message}'):
            function(Outer, stated, 'outer')


def test_choose_takes_an_entry_or_names_the_nearest():
    table = {'linear': 1, 'cosine': 2}
    assert choose(table, 'cosine', 'optim.schedule') == 2
    with pytest.raises(UserError, match=r"optim\.schedule: there is no 'cosin'; did you mean 'cosine'\?.*linear"):
        choose(table, 'cosin', 'optim.schedule')
    with pytest.raises(UserError) as error:
        choose(table, 'zzz', 'optim.schedule')
    assert 'did you mean' not in str(error.value)


def test_to_dict_gives_what_json_gives_back():
    config = ConfigDict({'a': {'b': (1, 2)}, 'c': 0.5})
    plain = to_dict(config)
    assert plain == {'a': {'b': [1, 2]}, 'c': 0.5}
    assert type(plain['a']) is dict and to_dict(plain) == plain


def test_difference_lists_every_changed_value_by_its_full_name():
    old = {'seed': 0, 'train': {'batch_size': 16, 'keep': 2}, 'gone': 'x', 'same': {'a': [1]}}
    new = {'seed': 1, 'train': {'batch_size': 32, 'keep': 2}, 'fresh': {'y': 1}, 'same': {'a': [1]}}
    assert difference(old, new) == [
        "fresh: None -> {'y': 1}",
        "gone: 'x' -> None",
        'seed: 0 -> 1',
        'train.batch_size: 16 -> 32',
    ]
    assert difference(new, new) == []


@pytest.mark.parametrize(
    'section, fields, message',
    [
        (TrainConfig, {'duration': '0steps'}, r"train\.duration: '0steps' is nothing; give more than 0$"),
        (TrainConfig, {'duration': '0kimg'}, r'train\.duration'),
        (TrainConfig, {'duration': '-1kimg'}, r"train\.duration: '-1kimg' is not a duration"),
        (TrainConfig, {'duration': 'nan'}, r"train\.duration: 'nan' is not a duration"),
        (TrainConfig, {'log_every': '0img'}, r'train\.log_every'),
        (TrainConfig, {'sample_every': '0.0epochs'}, r'train\.sample_every'),
        (TrainConfig, {'checkpoint_every': '0steps'}, r'train\.checkpoint_every'),
        (TrainConfig, {'validate_every': '0steps'}, r'train\.validate_every: .*, or leave it empty for never'),
        (TrainConfig, {'batch_size': 0}, r'train\.batch_size: must be at least 1'),
        (TrainConfig, {'batch_size': 10**9}, r'train\.batch_size: 1,000,000,000 is more than 100,000'),
        (SampleConfig, {'batch_size': 10**9}, r'sample\.batch_size'),
        (EvalConfig, {'batch_size': 10**9}, r'eval\.batch_size'),
        (TrainConfig, {'grid_rows': 10**6}, r'train\.grid_rows: a sheet of 8 x 1000000 '),
        (TrainConfig, {'grid_columns': 10**6}, r'train\.grid_rows: a sheet of 1000000 x 16 '),
        (SampleConfig, {'frames': 10**9}, r'sample\.frames'),
    ],
)
def test_amounts_of_nothing_and_of_too_much_are_refused(section, fields, message):
    with pytest.raises(UserError, match=message):
        section(**fields)


# Argument strings of config files.

DEFAULTS = {'quick': False, 'res': 0, 'scale': 0.5, 'source': 'catalog'}


def test_an_argument_string_sets_flags_and_typed_values():
    assert parse_arg(None, **DEFAULTS).to_dict() == parse_arg('', **DEFAULTS).to_dict() == DEFAULTS
    parsed = parse_arg('quick,res=64,scale=2,source=folder:/tmp/x', **DEFAULTS)
    assert parsed.to_dict() == {'quick': True, 'res': 64, 'scale': 2.0, 'source': 'folder:/tmp/x'}
    assert type(parsed.scale) is float


def test_arguments_can_exclude_each_other():
    assert parse_arg('quick', one=True, **DEFAULTS).quick and parse_arg('res=8,res=9', one=True, **DEFAULTS).res == 9
    with pytest.raises(UserError, match="'quick,res=64': choose one of quick, res, scale, source"):
        parse_arg('quick,res=64', one=True, **DEFAULTS)


@pytest.mark.parametrize('res', ['big', '64x', '6.4', '96x128x3', '-64', '0', '0x64', '64x0', '8193', '9' * 40, '٣'])
def test_a_resolution_is_a_size(res):
    assert parse_arg('res=64', res='').res == '64' and parse_arg('res=96x128', res='').res == '96x128'
    with pytest.raises(UserError, match=rf"'res={res}': res is a size such as 128, or WIDTHxHEIGHT such as 96x128"):
        parse_arg(f'res={res}', res='')


@pytest.mark.parametrize(
    'arg, message',
    [
        ('quik', r"'quik'.*did you mean 'quick'\? \(known: quick, res, scale, source\)"),
        ('quick,zzz=3', r"'zzz=3': there is no 'zzz' \(known:"),
        ('quick=1', "'quick=1': quick takes no value"),
        ('res', "'res': expected res=int"),
        ('res=', "'res=': expected res=int"),
        ('res=big', "'res=big': expected res=int"),
        ('res=6.4', "'res=6.4': expected res=int"),
        ('scale=x', "'scale=x': expected scale=float"),
        ('source', "'source': expected source=str"),
    ],
)
def test_a_wrong_argument_string_is_refused_by_name(arg, message):
    with pytest.raises(UserError, match=f'^config argument .*{message}'):
        parse_arg(arg, **DEFAULTS)
