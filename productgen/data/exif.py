"""EXIF of a photo that is written again: what still holds is kept, what does not is left out or corrected."""

from __future__ import annotations

from PIL import Image

_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
_ORIENTATION, _WIDTH, _HEIGHT, _MAKER = 0x0112, 0xA002, 0xA003, 0x927C
# Tags of the main folder that do not describe how the file stores its pixels: title, camera, software, time, author,
# rating, rights, and what Windows adds.
_KEPT = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)}
_DROPPED = {_INTEROP, 0xEA1C, 0xA500}  # pointers, padding, and the gamma of pixels


def block(image: Image.Image) -> bytes | None:
    """The EXIF of an opened image with orientation 1; None where there is none, or it is damaged."""
    try:
        found = image.getexif()
        kept = {tag: found[tag] for tag in _KEPT & set(found)}
        folders = {number: dict(found.get_ifd(number)) for number in (_EXIF, _GPS)}
    except Exception:  # as Pillow's parser fails on damage; the picture is fine
        return None
    return _written(kept, folders) if kept or any(folders.values()) else None


def updated(data: bytes, size: tuple[int, int], strip_gps: bool) -> bytes | None:
    """EXIF of a photo that has another size (H, W) now, or is not to say where it was taken."""
    found = Image.Exif()
    found.load(data)
    folders = {number: dict(found.get_ifd(number)) for number in (_EXIF, _GPS)}
    for tag, side in ((_WIDTH, size[1]), (_HEIGHT, size[0])):
        if tag in folders[_EXIF]:
            folders[_EXIF][tag] = side
    if strip_gps:
        folders[_GPS] = {}
        folders[_EXIF].pop(_MAKER, None)
    return _written(dict(found), folders)


def _written(tags: dict, folders: dict[int, dict]) -> bytes | None:
    """A block of tags; those that cannot be written again are left out one by one."""
    made = Image.Exif()
    for tag, value in tags.items():
        if tag in _KEPT and _can_be_written(tag, value):
            made[tag] = value
    made[_ORIENTATION] = 1
    for number, values in folders.items():
        kept = {t: v for t, v in values.items() if t not in _DROPPED and _can_be_written(t, v, number)}
        if kept:
            made.get_ifd(number).update(kept)
    return made.tobytes()


def _can_be_written(tag: int, value, folder: int | None = None) -> bool:
    trial = Image.Exif()
    try:
        if folder is None:
            trial[tag] = value
        else:
            trial.get_ifd(folder)[tag] = value
        trial.tobytes()
    except Exception:  # a value of a type that the tag does not have
        return False
    return True
