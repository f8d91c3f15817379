"""Small files that must survive a crash, and what is said of a disk that fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from productgen.config import UserError

# What a disk fails with, whatever is written to it; a quota and a network file system included.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO})
_CODE = re.compile(r"os_error_code='(\d+)'|\[Errno (\d+)\]")  # as TensorStore and Python write it


def write_durably(path: Path, text: str) -> None:
    """Writes a text file completely or not at all, and returns when it is on disk.

    Characters that are not UTF-8, as in file names of another system, are escaped.

    Raises:
      OSError: it cannot be written; the error names the file.
    """
    temporary = path.with_name(path.name + '.tmp')
    with naming(path):
        try:
            with open(temporary, 'wb') as file:
                file.write(text.encode('utf-8', 'backslashreplace'))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable; some file systems do not need it and refuse."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError that names no file, as one from writing to an open file, names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder that replaces `path` once it is written; an OSError names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}')
    with naming(path):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):  # of a disk that fails, which has been raised
                temporary.unlink(missing_ok=True)


def system_error(error: BaseException | None) -> str | None:
    """What the system failed with, such as `No space left on device`; None where the error is of another kind.

    Libraries wrap the error of the system: it may be a cause of `error`, or a number in its text.
    """
    while error is not None:
        found = _CODE.search(str(error))
        number = getattr(error, 'errno', None) or (int(found[1] or found[2]) if found else None)
        if number:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def describe_disk(path: Path) -> str:
    """The disk that a path is on: `the disk mounted at /data has 12 MB free`; empty where that is unknown."""
    path = Path(os.path.abspath(path))
    try:
        while not path.exists():
            path = path.parent
        free = shutil.disk_usage(path).free
        while not os.path.ismount(path):
            path = path.parent
    except OSError:
        return ''
    amount = f'{free / 1e6:.0f} MB' if free >= 1e6 else f'{free} bytes'
    return f'the disk mounted at {path} has {amount} free'


class PlainPath:
    """A path of a folder for libraries that cannot use the folder's own.

    Orbax and TensorStore take `[v2]` and other names for patterns, and fail where a name is not UTF-8. Such a folder is
    reached through a descriptor of its parent, whose path has neither.

    Args:
      folder: need not exist; where its parent does not, `path` is its own.

    Raises:
      UserError: this system has no paths of descriptors.
    """

    def __init__(self, folder: Path):
        self.path, self._descriptor = folder, None
        if re.search(r'[*?\[\]\\\ud800-\udfff]|:/', str(folder)) and folder.parent.is_dir():
            if not os.path.isdir('/proc/self/fd'):
                raise UserError(
                    str(folder), 'checkpoints cannot be read from a path with any of * ? [ ] \\', 'rename the folder'
                )
            self._descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
            self.path = Path(f'/proc/self/fd/{self._descriptor}', folder.name)

    def close(self) -> None:
        """The path cannot be used afterwards."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
