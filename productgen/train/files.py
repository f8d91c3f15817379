"""Files of a run's log: one that cannot be written is told of once, and never ends or delays the run."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from productgen.core.files import describe_disk

_log = logging.getLogger('productgen')


class Lenient:
    """Turns errors of writing into one warning a file."""

    def __init__(self):
        self._told: set[Path] = set()

    @contextlib.contextmanager
    def __call__(self, path: Path) -> Iterator[None]:
        """Warns where what is done in this context cannot write `path`, the first time."""
        try:
            yield
        except OSError as error:
            if path not in self._told:
                self._told.add(path)  # before the warning, which may go to the same file
                _log.warning(
                    '%s cannot be written: %s; %s. Training continues; later points are tried again.',
                    path,
                    error.strerror or error,
                    describe_disk(path),
                )


class Appended:
    """A file that records are appended to, each completely or not at all.

    It is opened for every record: one that is deleted, or on a file system that comes back, is written again.

    Args:
      path: the file.
      lenient: takes its errors.
      text: records are lines: a half line that an earlier process left does not spoil the next one.
    """

    def __init__(self, path: Path, lenient: Lenient, text: bool = True):
        self.path, self._lenient, self._text = path, lenient, text

    def append(self, record: bytes) -> bool:
        """Writes a record at the end and returns whether it is there."""
        with self._lenient(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, 'a+b', buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                if self._text and size:
                    file.seek(-1, os.SEEK_END)
                    record = record if file.read(1) == b'\n' else b'\n' + record
                try:
                    rest = memoryview(record)
                    while rest:
                        rest = rest[file.write(rest) :]
                except OSError:
                    os.ftruncate(file.fileno(), size)
                    raise
            return True
        return False


class LineHandler(logging.Handler):
    """Writes log lines to a file; characters that are not UTF-8 are escaped."""

    def __init__(self, path: Path):
        super().__init__()
        self._file = Appended(path, Lenient())

    def emit(self, record: logging.LogRecord) -> None:
        self._file.append((self.format(record) + '\n').encode('utf-8', 'backslashreplace'))


class Board:
    """An event file of TensorBoard.

    It is written at once: a thread that writes it, as in `SummaryWriter`, dies on a full disk, and then blocks the run.

    Args:
      folder: of the event files of a run.
      lenient: takes its errors.
      purge_step: points of earlier event files from this step on are hidden.
    """

    def __init__(self, folder: Path, lenient: Lenient, purge_step: int):
        name = f'events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}'
        self._file = Appended(folder / name, lenient, text=False)
        start = {'step': purge_step, 'wall_time': time.time()}
        self._head = _framed(
            Event(wall_time=time.time(), file_version='brain.Event:2'),
            Event(**start, file_version='brain.Event:2'),
            Event(**start, session_log=SessionLog(status=SessionLog.START)),
        )
        self._write(b'')

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes a point of every value."""
        parts = (summary.scalar(name, value) for name, value in values.items())
        self._write(_framed(*(Event(step=step, wall_time=time.time(), summary=part) for part in parts)))

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes uint8 [H, W, 3]."""
        part = summary.image(name, image, dataformats='HWC')
        self._write(_framed(Event(step=step, wall_time=time.time(), summary=part)))

    def _write(self, records: bytes) -> None:
        if self._file.append(self._head + records):
            self._head = b''


def _framed(*events: Event) -> bytes:
    """Events as records of a TFRecord file: length and data, each followed by its checksum."""
    records = []
    for event in events:
        data = event.SerializeToString()
        length = struct.pack('<Q', len(data))
        sums = (struct.pack('<I', masked_crc32c(part)) for part in (length, data))
        records += [length, next(sums), data, next(sums)]
    return b''.join(records)
