"""Finds the pictures and tables of a folder, and what looks like a picture but is not read."""

from __future__ import annotations

import dataclasses
import mimetypes
import os
import stat
from pathlib import Path

from productgen.data import images
from productgen.data.tables import NAMES

# What file servers and systems keep among the files of their users.
_SYSTEM = frozenset(
    ['__macosx', '@eadir', '@recycle', '#recycle', '@recently-snapshot', '#snapshot', '$recycle.bin', 'recycler']
    + ['system volume information', 'lost+found', 'found.000']
)
_RAW = '.3fr .arw .cr2 .cr3 .dng .erf .nef .nrw .orf .pef .raf .rw2 .srw .x3f'
_OTHER = '.ai .bpg .cdr .dds .emf .eps .exr .hdr .icns .ico .j2k .jls .jp2 .jpx .jxl .jxr .pbm .pcx .pgm .ppm'
_OTHER += ' .psb .psd .qoi .svg .svgz .tga .wdp .wmf .xcf'
_REASONS = {
    **dict.fromkeys(['.heic', '.heif', '.hif'], 'HEIC is read where pillow-heif is installed: pip install pillow-heif'),
    **dict.fromkeys(_RAW.split(), 'camera raw is not read; export it as TIFF, PNG or JPEG'),
    **dict.fromkeys(_OTHER.split(), 'this kind is not read; convert it to PNG or JPEG'),
}
_BEGINNINGS = {b'\xff\xd8\xff': '.jpg', b'\x89PNG\r\n': '.png', b'GIF8': '.gif', b'II*\0': '.tif', b'MM\0*': '.tif'}


@dataclasses.dataclass(frozen=True)
class Found:
    """The files below a folder; all names are relative posix paths.

    Attributes:
      pictures: files with the ending of a format that is read.
      tables: metadata tables, by `tables.NAMES`.
      odd: (name, reason) of pictures of kinds that are not read, and of folders that cannot be.
      others: all other files.
      runs: folders of runs of this program, whose pictures are not data.
    """

    pictures: set[str]
    tables: list[str]
    odd: list[tuple[str, str]]
    others: list[str]
    runs: list[str]


def scan(top: Path) -> Found:
    """Walks a folder.

    Hidden files, folders of file servers and of runs are passed over. Linked folders are followed, except links back to
    a folder that is being walked, which would never end.
    """
    found = Found(set(), [], [], [], [])

    def unreadable(error: OSError):
        found.odd.append((_posix(error.filename, top), f'unreadable folder: {error.strerror}'))

    for root, folders, files in os.walk(top, onerror=unreadable, followlinks=True):
        kept = [name for name in sorted(folders) if _visible(name) and not _is_loop(root, name, top)]
        runs = {name for name in kept if _is_run(Path(root, name))}
        found.runs.extend(_posix(os.path.join(root, name), top) for name in sorted(runs))
        folders[:] = [name for name in kept if name not in runs]
        for name in filter(_visible, sorted(files)):
            path = _posix(os.path.join(root, name), top)
            if os.path.splitext(name)[1].lower() in images.EXTENSIONS:
                found.pictures.add(path)
            elif name.lower() in NAMES:
                found.tables.append(path)
            elif reason := _why_not(os.path.join(root, name)):
                found.odd.append((path, reason))
            else:
                found.others.append(path)
    return found


def _why_not(path: str) -> str:
    """Why a file that seems to be a picture is not read; '' where it is none."""
    ending = os.path.splitext(path)[1].lower()
    if ending in _REASONS:
        return _REASONS[ending]
    kind = mimetypes.guess_type(path)[0]
    if kind and not kind.startswith('image/'):
        return ''
    looks_like = _ending_of(path)
    return f'without the ending of a picture; rename it to end in {looks_like}' if looks_like else ''


def _ending_of(path: str) -> str:
    """The ending that the content of a file asks for; '' where it is no picture that is read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ''
        with open(path, 'rb') as file:
            start = file.read(16)
    except OSError:
        return ''
    if start[:4] == b'RIFF' and start[8:12] == b'WEBP':
        return '.webp'
    if start[4:8] == b'ftyp' and start[8:12] in (b'avif', b'heic', b'mif1'):
        return '.avif' if start[8:12] == b'avif' else '.heic'
    return next((ending for begin, ending in _BEGINNINGS.items() if start.startswith(begin)), '')


def _visible(name: str) -> bool:
    return not name.startswith('.') and name.lower() not in _SYSTEM


def _is_run(path: Path) -> bool:
    """Whether a folder is the workdir of a run: its pictures are made, and must not be learned from."""
    return (path / 'config.json').is_file() and ((path / '.lock').exists() or (path / 'checkpoints').is_dir())


def _is_loop(root: str, name: str, top: Path) -> bool:
    link = Path(root, name)
    if not link.is_symlink():
        return False
    walked = [parent for parent in link.parents if parent.is_relative_to(top)]
    return any(parent.resolve().is_relative_to(link.resolve()) for parent in walked)


def _posix(path: str, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
