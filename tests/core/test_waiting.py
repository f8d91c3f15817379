"""What takes long is said once, what is quick is not."""

import logging
import time
import types

import pytest

from productgen.core import waiting


@pytest.fixture
def lines(monkeypatch, caplog):
    monkeypatch.setattr(waiting, 'SILENCE', 0.05)
    caplog.set_level(logging.INFO)
    return lambda: caplog.messages


def test_only_what_takes_long_is_logged(lines):
    with waiting.announced('Doing it'):
        pass
    time.sleep(0.1)
    assert lines() == []
    with waiting.announced('Doing it'):
        time.sleep(0.2)
    assert lines() == ['Doing it...', '... done in 0s']


def test_a_failure_is_not_done(lines):
    with pytest.raises(KeyError), waiting.announced('Doing it'):
        time.sleep(0.15)
        raise KeyError
    assert lines() == ['Doing it...']


@pytest.mark.parametrize('folder, ending', [(None, 'x...'), ('/somewhere', 'x (kept for the next start)...')])
def test_a_program_is_kept_where_there_is_a_folder_for_it(lines, monkeypatch, folder, ending):
    settings = types.SimpleNamespace(config=types.SimpleNamespace(jax_compilation_cache_dir=folder))
    monkeypatch.setattr(waiting, 'jax', settings)
    with waiting.compiling('x'):
        time.sleep(0.15)
    assert lines()[0] == f'Compiling {ending}'
