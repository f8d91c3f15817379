"""`--mode=translate`: names, sizes, files that cannot be read, and what is never overwritten."""

import numpy as np
import pytest
from PIL import Image
from tiny import train
from toy_pairs import FAMILY, lines_config

from productgen.config import UserError
from productgen.methods import METHODS
from productgen.model.trained import Trained
from productgen.tasks import TASKS, Request
from productgen.tasks.translate import TranslateConfig


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A trained run from masks to pictures of 24 x 24."""
    folder = tmp_path_factory.mktemp('lines') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, 'lines', FAMILY)
        train(lines_config(), folder)
        yield folder


@pytest.fixture
def pictures(tmp_path):
    """Five pictures, two of them of one name, in a folder and a sub-folder, and a file that is none."""
    draw, folder = np.random.default_rng(0), tmp_path / 'in'
    for name, size in (
        ('a.png', (24, 24)),
        ('b.png', (40, 30)),
        ('sub/a.png', (24, 24)),
        ('c.png', (9, 9)),
        ('c.bmp', (9, 9)),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (*size[::-1], 3), np.uint8)).save(folder / name)
    (folder / 'bad.jpg').write_bytes(b'no picture')
    return folder


def run(workdir, source, out, **fields):
    TASKS['translate'].run(Request(TranslateConfig(**fields), None, workdir, input=source, output=out))


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_is_translated_under_its_names(workdir, pictures, tmp_path):
    out = tmp_path / 'out'
    run(workdir, pictures, out, batch_size=2)
    files = ['a.png', 'b.png', 'c.bmp.png', 'c.png.png', 'skipped_files.txt', 'sub/a.png', 'translations.png']
    assert names(out) == files
    assert (out / 'skipped_files.txt').read_text().startswith('bad.jpg\tnot an image')
    for name in ('a.png', 'sub/a.png'):
        gray = np.rint(read(pictures / name) @ np.float32([0.299, 0.587, 0.114])).astype(np.uint8)
        made = Trained.open(workdir).translate(gray[None, ..., None])[0]
        assert np.abs(read(out / name).astype(int) - made).max() <= 1
    assert {read(out / name).shape for name in files if name.endswith('.png') and 'tr' not in name} == {(24, 24, 3)}


def test_files_are_not_overwritten_unless_asked(workdir, pictures, tmp_path):
    out = tmp_path / 'out'
    run(workdir, pictures / 'a.png', out)
    assert names(out) == ['a.png', 'translations.png']
    (out / 'a.png').write_bytes(b'mine')
    with pytest.raises(UserError, match=r'--output=.*: 2 files would be replaced: a\.png, translations\.png; choose'):
        run(workdir, pictures, out)
    assert (out / 'a.png').read_bytes() == b'mine' and not (out / 'b.png').exists()
    run(workdir, pictures, out, overwrite=True)
    assert read(out / 'a.png').shape == (24, 24, 3)


def test_what_cannot_be_done_is_said_at_once(workdir, pictures, tmp_path):
    out = tmp_path / 'out'
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'damaged').mkdir()
    (tmp_path / 'damaged/x.png').write_bytes(b'')
    for source, target, message, fields in (
        (None, out, '--input: is missing', {}),
        (pictures, None, '--output: is missing', {}),
        (tmp_path / 'no', out, '--input=.*no: there is no such file', {}),
        (tmp_path / 'empty', out, '--input=.*empty: there is no picture', {}),
        (tmp_path / 'damaged', out, r'none of its 1 file can be read; see .*skipped_files\.txt', {}),
        (pictures, pictures, 'mixes with --input', {}),
        (pictures, pictures / 'out', 'mixes with --input', {}),
        (pictures, pictures / 'a.png', 'is not a folder', {}),
        (pictures, tmp_path / 'o', r"translate\.reverse: 'lines' translates in one direction only", {'reverse': True}),
    ):
        with pytest.raises(UserError, match=message):
            run(workdir, source, target, **fields)
    for field, value in (('noise', 1.5), ('batch_size', 0), ('step', -2)):
        with pytest.raises(UserError, match=rf'translate\.{field}'):
            TranslateConfig(**{field: value})


def test_runs_of_native_crops_keep_the_size_of_each_picture(pictures, tmp_path, monkeypatch, workdir):
    monkeypatch.setitem(METHODS, 'lines', FAMILY)
    train(lines_config(data={'fit': 'native'}, train={'duration': '1steps'}), tmp_path / 'run')
    run(tmp_path / 'run', pictures, tmp_path / 'out')
    assert read(tmp_path / 'out/b.png').shape == (30, 40, 3) and read(tmp_path / 'out/c.bmp.png').shape == (9, 9, 3)
