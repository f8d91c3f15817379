"""Small files are written completely or not at all; errors of the system are named with their file and disk."""

import errno
import os

import pytest

from productgen.core.files import PlainPath, describe_disk, naming, system_error, write_durably


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'a.json'
    write_durably(path, 'old')
    monkeypatch.setattr(os, 'fsync', lambda number: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'full')))
    with pytest.raises(OSError, match='full') as caught:
        write_durably(path, 'new')
    assert caught.value.filename == str(path) and path.read_text() == 'old'
    assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_file_and_folder_are_synchronised(tmp_path, monkeypatch):
    synchronised, fsync = [], os.fsync
    monkeypatch.setattr(os, 'fsync', lambda n: (synchronised.append(os.readlink(f'/proc/self/fd/{n}')), fsync(n)))
    write_durably(tmp_path / 'a.json', 'x')
    assert synchronised == [str(tmp_path / 'a.json.tmp'), str(tmp_path)]


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    write_durably(tmp_path / 'a.txt', 'caf\udce9 \xe9\n')
    assert (tmp_path / 'a.txt').read_bytes() == b'caf\\udce9 \xc3\xa9\n'


def test_an_error_without_a_file_gets_one(tmp_path):
    with pytest.raises(OSError, match='full') as caught, naming(tmp_path):
        raise OSError(errno.ENOSPC, 'full')
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(OSError, match='gone') as caught, naming(tmp_path):
        raise OSError(errno.ENOENT, 'gone', 'other')
    assert caught.value.filename == 'other'


def test_the_system_s_error_is_found_behind_others():
    assert system_error(OSError(errno.EROFS, 'x')) == os.strerror(errno.EROFS)
    assert system_error(ValueError("INTERNAL: [os_error_code='28']")) == os.strerror(errno.ENOSPC)
    assert system_error(ValueError('bad')) is None
    wrapped = RuntimeError('failed')
    wrapped.__cause__ = OSError(errno.EDQUOT, 'x')
    assert system_error(wrapped) == os.strerror(errno.EDQUOT)


def test_the_disk_of_a_path_that_does_not_exist_is_described(tmp_path):
    assert describe_disk(tmp_path / 'no' / 'such').startswith('the disk mounted at /')
    assert describe_disk(tmp_path / 'no').endswith(' free')


def test_a_plain_path_is_the_folder_s_own_where_that_will_do(tmp_path):
    assert PlainPath(tmp_path / 'a b').path == tmp_path / 'a b'
    (tmp_path / '[a]').mkdir()
    plain = PlainPath(tmp_path / '[a]' / 'b')
    plain.path.mkdir()
    assert (tmp_path / '[a]' / 'b').is_dir() and '[' not in str(plain.path)
    plain.close()
    plain.close()
    assert not plain.path.exists()
