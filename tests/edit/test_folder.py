"""The tool for folders: names, interruption, bad files, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT, run_launch

from productgen.config import UserError
from productgen.edit import compare, folder
from productgen.edit.folder import ToolConfig, process
from productgen.metrics import pairwise

DRAW = np.random.default_rng(0)


def invert(photo, name=''):
    return photo.replace(pixels=1 - photo.pixels)


def picture(height=20, width=30):
    return Image.fromarray(DRAW.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def shop(tmp_path):
    """Photos in sub-folders, with two names that would collide, and files that are none."""
    top = tmp_path / 'in'
    for name in ('a.png', 'a.jpg', 'Größe 2/b.tif', 'Größe 2/deep/c.webp', 'd.PNG'):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(top / name)
    picture().convert('P').save(top / 'a.gif')
    (top / 'bad.jpg').write_bytes(b'no picture')
    (top / 'cut.png').write_bytes((top / 'a.png').read_bytes()[:300])
    (top / 'list.txt').write_text('x')
    return top


def contents(top):
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob('*')) if p.is_file()}


def test_a_folder(shop, tmp_path):
    before, out = contents(shop), tmp_path / 'out'
    result = process(shop, out, invert, ToolConfig(workers=3), {})
    assert contents(shop) == before
    made = {'a.png', 'a.jpg', 'a.gif.png', 'Größe 2/b.tif', 'Größe 2/deep/c.webp', 'd.PNG'}
    assert set(contents(out)) == made | {'done.jsonl', 'skipped_files.txt'}
    assert len(result.made) == 6 and [name for name, _ in sorted(result.skipped)] == ['bad.jpg', 'cut.png']
    assert 'bad.jpg\t' in (out / 'skipped_files.txt').read_text()
    for name in ('a.png', 'd.PNG', 'Größe 2/b.tif'):
        with Image.open(shop / name) as one, Image.open(out / name) as other:
            assert one.format == other.format
            np.testing.assert_array_equal(255 - np.asarray(one), np.asarray(other))


def test_what_is_done_is_not_made_again(shop, tmp_path):
    out, calls = tmp_path / 'out', []
    work = lambda photo, name: calls.append(1) or invert(photo)
    process(shop, out, work, ToolConfig(), {})
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob('*.png')}
    picture().save(shop / 'd.PNG')
    os.utime(shop / 'd.PNG', ns=(1, 1))
    (out / 'a.jpg').unlink()
    result = process(shop, out, work, ToolConfig(workers=1), {})
    assert sorted(result.made) == ['a.jpg', 'd.PNG'] and len(result.kept) == 4 and len(calls) == 8
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items() if p.name != 'd.PNG')


def test_a_single_file(shop, tmp_path):
    process(shop / 'a.png', tmp_path / 'out', invert, ToolConfig(), {})
    assert (tmp_path / 'out' / 'a.png').is_file()


def test_what_fails_is_listed(shop, tmp_path):
    def work(photo, name):
        if photo.format == 'TIFF':
            raise RuntimeError('out of\nmemory')
        return photo

    result = process(shop, tmp_path / 'out', work, ToolConfig(), {})
    assert ('Größe 2/b.tif', 'RuntimeError: out of memory') in result.skipped and len(result.made) == 5


def test_refusals(shop, tmp_path):
    out, calls = tmp_path / 'out', []
    work = lambda photo, name: calls.append(1) or photo

    def refused(words, source=shop, output=out, tool=None, settings=None):
        with pytest.raises(UserError, match=words):
            process(source, output, work, tool or ToolConfig(), settings or {})

    refused('--input: is missing', source=None)
    refused('--output: is missing', output=None)
    refused('no such file', source=tmp_path / 'none')
    for place in (shop, shop / 'out', tmp_path):
        refused('mixes with', output=place)
    refused('mixes with', source=shop / 'a.png', output=shop)
    refused('add --compare', tool=ToolConfig(reference=str(shop)))
    (tmp_path / 'empty').mkdir()
    refused('there are no photos', source=tmp_path / 'empty')
    (out / 'Größe 2').mkdir(parents=True)
    (out / 'd.PNG').write_bytes(b'of the user')
    refused('not of this tool.*d.PNG')
    assert (out / 'd.PNG').read_bytes() == b'of the user' and not calls
    (out / 'd.PNG').unlink()
    process(shop, out, work, ToolConfig(), {'a': 1})
    calls.clear()
    refused('other settings', settings={'a': 2})
    refused('other settings', tool=ToolConfig(strip_gps=True), settings={'a': 1})
    assert not calls
    with pytest.raises(UserError, match='at least 1'):
        ToolConfig(workers=0)
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'x.png').write_bytes(b'')
    refused('none of the photos can be used', source=tmp_path / 'bad', output=tmp_path / 'out2')


def test_a_link_into_the_input_is_refused(shop, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'Größe 2').symlink_to(shop / 'Größe 2')
    with pytest.raises(UserError, match='leads into the input'):
        process(shop, tmp_path / 'out', invert, ToolConfig(), {})


def test_pixels_in_work_are_bounded(tmp_path):
    import threading

    (tmp_path / 'in').mkdir()
    for i in range(6):
        Image.new('RGB', (1000, 600)).save(tmp_path / 'in' / f'{i}.png')
    active, most, lock = [0], [0], threading.Lock()

    def work(photo, name):
        with lock:
            active[0] += 1
            most[0] = max(most[0], active[0])
        time.sleep(0.05)
        with lock:
            active[0] -= 1
        return photo

    process(tmp_path / 'in', tmp_path / 'one', work, ToolConfig(workers=4, megapixels=1), {})
    assert most[0] == 1
    pair = threading.Barrier(2, timeout=60)
    meet = lambda photo, name: pair.wait() + 1 and photo
    process(tmp_path / 'in', tmp_path / 'two', meet, ToolConfig(workers=4, megapixels=48), {})
    assert not pair.broken


KILLED = """
import sys, time
from pathlib import Path
from productgen.edit.folder import ToolConfig, process
process(Path(sys.argv[1]), Path(sys.argv[2]), lambda p, name: time.sleep(0.1) or p, ToolConfig(), {})
"""


def test_kill_leaves_no_half_file(tmp_path):
    (tmp_path / 'in').mkdir()
    for i in range(40):
        picture(300, 400).save(tmp_path / 'in' / f'{i}.png')
    out = tmp_path / 'out'
    program = subprocess.Popen([sys.executable, '-c', KILLED, tmp_path / 'in', out], cwd=ROOT)
    while program.poll() is None and len(list(out.glob('[!.]*.png'))) < 5:
        time.sleep(0.02)
    program.send_signal(signal.SIGKILL)
    program.wait()
    made = list(out.glob('[!.]*.png'))
    assert 5 <= len(made) < 40
    for path in made:
        with Image.open(path) as image:
            image.load()
    entries = map(json.loads, (out / 'done.jsonl').read_text().splitlines())
    done = {entry['output'] for entry in entries if entry['bytes']}
    (out / '39.png').write_bytes(b'half')  # as killed after the file was there, and before that was recorded
    with open(out / 'done.jsonl', 'a') as file:
        file.write(json.dumps({'output': '39.png', 'bytes': None, 'settings': json.dumps({'strip_gps': False})}) + '\n')
        file.write('{"output": "3')
    result = process(tmp_path / 'in', out, lambda p, name: p, ToolConfig(), {})
    assert set(result.kept) == done and len(result.made) == 40 - len(done)
    assert not list(out.glob('.*')) and len(list(out.glob('*.png'))) == 40


def test_what_nothing_was_done_to_keeps_its_file(shop, tmp_path):
    for strip, name in ((False, 'same'), (True, 'stripped')):
        process(shop, tmp_path / name, lambda photo, name: photo, ToolConfig(strip_gps=strip), {})
    made = 'a.jpg', 'Größe 2/b.tif', 'Größe 2/deep/c.webp'
    same = [(tmp_path / 'same' / name).read_bytes() == (shop / name).read_bytes() for name in made]
    stripped = [(tmp_path / 'stripped' / name).read_bytes() == (shop / name).read_bytes() for name in made]
    assert all(same) and not any(stripped)


def test_compare(shop, tmp_path):
    out, perfect = tmp_path / 'out', tmp_path / 'perfect'
    perfect.mkdir()
    Image.open(shop / 'a.png').save(perfect / 'a.tif')
    process(shop, out, invert, ToolConfig(), {})
    result = process(shop, out, invert, ToolConfig(reference=str(perfect)), {}, compare=True)
    assert not result.made and len(result.kept) == 6
    sheets = sorted(p.relative_to(out / 'compare').as_posix() for p in (out / 'compare').rglob('*.png'))
    made = ['a.gif.png', 'a.jpg', 'a.png', 'd.PNG', 'Größe 2/b.tif', 'Größe 2/deep/c.webp']
    assert sheets == sorted(f'{name}.png' for name in made)
    assert np.asarray(Image.open(out / 'compare' / 'a.png.png')).shape[2] == 3


def test_lpips_is_the_mean_over_squares_that_cover_the_photo():
    one, other = (DRAW.random((300, 70, 3)).astype(np.float32) for _ in range(2))
    seen = []

    def distance(a, b):
        seen.append(a.shape)
        return abs(a.astype(float) - b).mean((1, 2, 3))

    found = compare.lpips_in_squares(distance, one, other)
    assert seen == [(1, 70, 70, 3)] * 5
    starts = 0, 58, 115, 172, 230
    eight = lambda x: np.rint(x * 255)
    parts = [abs(eight(one[y : y + 70]) - eight(other[y : y + 70])).mean() for y in starts]
    assert found == pytest.approx(np.mean(parts), abs=1e-9)


def test_figures_are_those_of_the_metrics(monkeypatch):
    one = DRAW.random((70, 45, 3)).astype(np.float32)
    other = np.clip(one + 0.1 * DRAW.standard_normal(one.shape), 0, 1).astype(np.float32)
    monkeypatch.setattr(compare, 'STRIP', 45 * 16)  # several strips
    batch = lambda x: (2 * x - 1)[None]
    assert compare.psnr(one, other) == pytest.approx(float(pairwise.psnr(batch(one), batch(other))[0]), abs=1e-3)
    assert compare.ssim(one, other) == pytest.approx(float(pairwise.ssim(batch(one), batch(other))[0]), abs=1e-4)
    assert compare.psnr(one, one) == np.inf


def test_a_sheet_may_have_lpips(shop, tmp_path, monkeypatch):
    asked = []
    ones = lambda a, b: np.ones(len(a))
    blank = np.zeros((2, 2, 3), np.uint8)
    monkeypatch.setattr(compare, 'open_lpips', lambda trunk, size: asked.append(trunk) or ones)
    monkeypatch.setattr(compare, 'side_by_side', lambda rows, names: asked.append(names) or blank)
    out, tool = tmp_path / 'out', ToolConfig(reference=str(shop), lpips='alex')
    process(shop / 'a.png', out, invert, tool, {}, compare=True)
    assert asked[0] == 'alex' and [name.endswith('LPIPS 1.0000') for name in asked[1]] == [True, True, False]
    with pytest.raises(UserError, match='tool.lpips: compares with perfect versions'):
        ToolConfig(lpips='alex')


def test_launch(shop, tmp_path):
    words = ['--mode=enhance', f'--input={shop}', f'--output={tmp_path / "out"}', '--compare']
    done = run_launch([sys.executable, 'launch.py', *words, '--config.enhance.steps=exposure:stops=1'])
    assert done.returncode == 0, done.stderr
    assert '6 photos in' in done.stderr and '2 files skipped' in done.stderr
    assert (tmp_path / 'out' / 'compare' / 'd.PNG.png').is_file() and folder.RECORD in os.listdir(tmp_path / 'out')
