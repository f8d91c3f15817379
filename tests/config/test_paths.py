"""`~` is home wherever a user gives a path."""

import os

import pytest

from productgen.config import UserError
from productgen.config.paths import user_path


def test_a_tilde_is_home(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    assert str(user_path('~', 'x')) == '/home/me' and str(user_path('~/a b', 'x')) == '/home/me/a b'
    assert str(user_path('~root/a', 'x')) == os.path.expanduser('~root/a')
    assert str(user_path('a/~', 'x')) == 'a/~' and str(user_path('./~x', 'x')) == '~x'


def test_nobody_has_no_home():
    with pytest.raises(UserError, match=r'^sample\.out=~no_such_user: ~no_such_user is no home folder; .*\./~no_such'):
        user_path('~no_such_user', 'sample.out')
