"""A log that cannot be written is told of once, and neither ends nor blocks a run; one that can again is written."""

import errno
import json
import logging
import os
import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from productgen.train.files import Appended, Board, Lenient, LineHandler
from productgen.train.log import RunLog, log_file

IMAGE = np.zeros((4, 4, 3), np.uint8)


class FullDisk:
    """While `full`, files take `room` more bytes."""

    def __init__(self, monkeypatch):
        import io

        self.full, self.room, disk, real = False, 0, self, open

        class File(io.FileIO):
            def write(self, data):
                if disk.full and not disk.room:
                    raise OSError(errno.ENOSPC, 'No space left on device')
                part = data[: disk.room] if disk.full else data
                disk.room -= len(part) if disk.full else 0
                return super().write(part)

        def open_(path, mode='r', *args, **kwargs):
            return File(path, 'ab+') if mode == 'a+b' else real(path, mode, *args, **kwargs)

        monkeypatch.setattr('builtins.open', open_)


@pytest.fixture
def disk(monkeypatch):
    return FullDisk(monkeypatch)


@pytest.fixture
def warnings(caplog, monkeypatch):
    """The warnings of the log."""
    monkeypatch.setattr(logging.getLogger('productgen'), 'propagate', True)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def events(folder):
    """The events of the files in a folder, their checksums verified."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack('<Q', data[:8])
            parts = data[:8], data[12 : 12 + length]
            sums = struct.unpack('<I', data[8:12])[0], struct.unpack('<I', data[12 + length : 16 + length])[0]
            assert sums == tuple(map(masked_crc32c, parts))
            found.append(Event.FromString(parts[1]))
            data = data[16 + length :]
    return found


def test_events_are_those_of_tensorboard(tmp_path):
    board = Board(tmp_path / 'tensorboard', Lenient(), purge_step=4)
    board.scalars(5, {'loss/a': 0.5, 'rate': 2.0})
    board.picture(6, 'fakes', IMAGE)
    head, purge, start, first, second, image = events(tmp_path / 'tensorboard')
    assert head.file_version == purge.file_version == 'brain.Event:2' and purge.step == start.step == 4
    assert start.session_log.status == start.session_log.START
    assert [(e.step, e.summary.value[0].tag, e.summary.value[0].simple_value) for e in (first, second)] == [
        (5, 'loss/a', 0.5),
        (5, 'rate', 2.0),
    ]
    assert image.step == 6 and image.summary.value[0].tag == 'fakes' and image.summary.value[0].image.height == 4


def test_a_record_is_written_completely_or_not_at_all(tmp_path, disk, warnings):
    file = Appended(tmp_path / 'a.jsonl', Lenient())
    assert file.append(b'1234\n')
    disk.full, disk.room = True, 3
    assert not file.append(b'5678\n') and not file.append(b'90\n')
    assert (tmp_path / 'a.jsonl').read_bytes() == b'1234\n'
    (warning,) = warnings()
    assert 'a.jsonl cannot be written: No space left on device; the disk mounted at ' in warning
    disk.full = False
    assert file.append(b'abc\n') and (tmp_path / 'a.jsonl').read_bytes() == b'1234\nabc\n'


def test_a_half_line_does_not_spoil_the_next(tmp_path):
    (tmp_path / 'a.jsonl').write_bytes(b'{"step": 1}\n{"st')
    Appended(tmp_path / 'a.jsonl', Lenient()).append(b'{"step": 2}\n')
    assert (tmp_path / 'a.jsonl').read_bytes() == b'{"step": 1}\n{"st\n{"step": 2}\n'


def test_events_begin_again_where_the_first_could_not_be_written(tmp_path, disk):
    disk.full = True
    board = Board(tmp_path, Lenient(), purge_step=1)
    board.scalars(1, {'a': 1.0})
    disk.full = False
    board.scalars(2, {'a': 2.0})
    board.scalars(3, {'a': 3.0})
    assert [e.step for e in events(tmp_path)] == [0, 1, 1, 2, 3]


def test_a_log_on_a_full_disk_goes_on_when_there_is_room(tmp_path, disk, warnings, monkeypatch):
    save = []
    monkeypatch.setattr('productgen.train.log.save_png', lambda path, image: save.append(path) or full(path))

    def full(path):
        if disk.full:
            raise OSError(errno.ENOSPC, 'No space left on device', str(path))

    log = RunLog(tmp_path, 0, batch_size=4, total=None)
    log.scalars(1, {'loss': 1.0}, None)
    disk.full = True
    for step in (2, 3):
        log.scalars(step, {'loss': 1.0}, None)
        log.picture(step, f'fakes_{step}', IMAGE)
    assert len(save) == 2
    files = sorted(text.split(' cannot')[0].rsplit('/', 1)[1].split('.')[0] for text in warnings())
    assert files == ['events', 'metrics', 'samples']
    disk.full = False
    log.scalars(4, {'loss': 1.0}, None)
    log.close()
    assert [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [1, 4]


def test_points_to_be_repeated_are_dropped_as_soon_as_there_is_room(tmp_path, monkeypatch, warnings):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"step": 5}\n')
    fsync = os.fsync

    def read_only(number):
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(os, 'fsync', read_only)
    log = RunLog(tmp_path, 1, batch_size=4, total=None)
    log.scalars(2, {}, None)
    assert [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [1, 5]
    assert len(warnings()) == 1 and 'metrics.jsonl cannot be written: Read-only file system' in warnings()[0]
    monkeypatch.setattr(os, 'fsync', fsync)
    log.scalars(3, {}, None)
    assert [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [1, 3]


FOREIGN = (
    b'{"step": 1, "diversity": 0.5}\n[1]\n3\n"x"\nnull\n{}\n{"step": "2"}\nnot JSON\n\xff\xfe\n'
    b'{"step": 2, "diversity": "x"}\n{"st'
)


def test_lines_that_are_no_points_are_left_out(tmp_path):
    (tmp_path / 'metrics.jsonl').write_bytes(FOREIGN)
    log = RunLog(tmp_path, 2, batch_size=4, total=None)
    assert log.best('diversity') == 0.5 and log.best('other') == 0.0
    assert [json.loads(line)['step'] for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()] == [1, 2]


def test_a_folder_in_place_of_a_log_is_told_of(tmp_path, warnings):
    for name in ('metrics.jsonl', 'log.txt'):
        (tmp_path / name).mkdir()
    (tmp_path / 'tensorboard').write_text('')
    with log_file(tmp_path):
        log = RunLog(tmp_path, 0, batch_size=4, total=None)
        log.scalars(1, {}, None)
        log.close()
    assert len(warnings()) == 3


def test_a_log_file_that_cannot_be_written_prints_no_traceback(tmp_path, disk, warnings, capsys):
    handler, logger = LineHandler(tmp_path / 'log.txt'), logging.getLogger('productgen')
    logger.addHandler(handler)
    try:
        disk.full = True
        for _ in range(3):
            logger.warning('one')
        disk.full = False
        logger.warning('two')
    finally:
        logger.removeHandler(handler)
    handler.emit(logging.makeLogRecord({'msg': 'caf\udce9 \xe9'}))  # a file name that is not UTF-8
    assert (tmp_path / 'log.txt').read_text('utf-8') == 'two\ncaf\\udce9 \xe9\n'
    assert sum('log.txt cannot be written' in text for text in warnings()) == 1
    assert 'Traceback' not in capsys.readouterr().err
