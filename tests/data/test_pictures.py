"""Grids are laid out as documented; pictures and animations read back as they were written."""

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from productgen.data.pictures import MARGIN, grid, save_animation, save_png, side_by_side


def plain(count, height, width):
    """Pictures of one colour each, all different."""
    colours = np.stack([np.linspace(20, 230, count), np.linspace(230, 20, count), np.full(count, 90)], 1)
    return np.broadcast_to(colours[:, None, None].round(), (count, height, width, 3)).astype(np.uint8)


def test_grid_places_and_enlarges():
    images = plain(5, 16, 32)
    sheet = grid(images, 3)
    assert sheet.shape == (2 * (32 + MARGIN) + MARGIN, 3 * (64 + MARGIN) + MARGIN, 3)
    for i, image in enumerate(images):
        y, x = MARGIN + i // 3 * (32 + MARGIN), MARGIN + i % 3 * (64 + MARGIN)
        assert np.array_equal(sheet[y : y + 32, x : x + 64], image.repeat(2, 0).repeat(2, 1))
    assert (sheet[-20, -20] == 255).all()  # the place of the missing sixth


def test_grid_prints_names_to_the_left():
    images = plain(4, 64, 64)
    bare, named = grid(images, 2), grid(images, 2, ['mug', 'a long name'])
    left = named.shape[1] - bare.shape[1]
    assert left > 20 and np.array_equal(named[:, left:], bare)
    assert (named[:66, :left] < 128).any() and (named[66:, :left] < 128).any()


SENTENCE = 'a lovely product in soft light ' * 10
LONG = [SENTENCE, 'x' * 300, 'line\nbreak\x00\x1b', 'bad \udcff', '漢字 🛋', 'مرحبا', '', ' ', 'Größe éàü']


@pytest.mark.parametrize('size', [(64, 64), (40, 40), (12, 60), (200, 160)])
def test_names_of_any_length_and_characters_stay_beside_their_row(size):
    images = plain(2 * len(LONG), *size)
    bare, named = grid(images, 2), grid(images, 2, LONG)
    left = named.shape[1] - bare.shape[1]
    assert left <= max(160, size[1]) + 10 and np.array_equal(named[:, left:], bare)
    inked = np.flatnonzero((named[:, :left] < 200).any((1, 2)))
    rows = (inked - MARGIN) // (named.shape[0] // len(LONG))
    assert set(range(len(LONG))) - set(rows) == {6, 7}  # nothing but spaces


def test_sentences_take_several_lines_and_end_in_an_ellipsis():
    images = plain(2, 64, 64)
    ink = lambda name: np.flatnonzero((grid(images, 1, [name, 'b'])[:64, :-70] < 128).any((1, 2)))
    assert np.ptp(ink('a lovely product')) < 15 < 45 < np.ptp(ink(SENTENCE)) < 64
    assert np.array_equal(grid(images, 1, [SENTENCE]), grid(images, 1, [SENTENCE + 'and more']))
    assert not np.array_equal(grid(images, 1, [SENTENCE[:60]]), grid(images, 1, [SENTENCE]))


def test_letters_that_the_usual_font_lacks_are_drawn():
    images = plain(1, 64, 64)
    assert not np.array_equal(grid(images, 1, ['éàü']), grid(images, 1, ['\uffff' * 3]))


def test_sheets_side_by_side_are_unchanged():
    a, b = plain(1, 20, 30)[0], plain(2, 20, 40)[1]
    sheet = side_by_side([a, b], ['real', 'generated'])
    assert np.array_equal(sheet[-20:, :30], a) and np.array_equal(sheet[-20:, -40:], b)
    three = side_by_side([a, b, a], ['input', 'target', 'output'])
    assert np.array_equal(three[-20:, :30], a) and np.array_equal(three[-20:, -30:], a)
    assert np.array_equal(three[-20:, 42:82], b) and (three[:-20] < 128).any()


def test_png_is_exact_and_leaves_no_temporary_file(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    save_png(tmp_path / 'new' / 'a.png', image)
    assert np.array_equal(iio.imread(tmp_path / 'new' / 'a.png'), image)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['a.png']


@pytest.mark.parametrize('ending', ['gif', 'mp4'])
@pytest.mark.parametrize('size', [(64, 64), (65, 97), (12, 16)])
def test_animations_play_back(tmp_path, ending, size):
    frames = plain(10, *size)
    path = tmp_path / f'a.{ending}'
    save_animation(path, iter(frames), 25)
    back = iio.imread(path)
    zoom = max(1, 64 // max(size))
    assert len(back) == 10
    even = lambda side: side + side % 2 if ending == 'mp4' else side
    assert back.shape[1:3] == (even(size[0] * zoom), even(size[1] * zoom))
    for frame, image in zip(back, frames, strict=True):
        assert np.abs(frame[..., :3].astype(int) - image[0, 0]).mean() < 6
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_gif_keeps_time_and_repeats(tmp_path):
    frames = plain(3, 64, 64)[[0, 1, 1, 2]]
    save_animation(tmp_path / 'a.gif', frames, 24)
    with Image.open(tmp_path / 'a.gif') as gif:
        durations = []
        for i in range(gif.n_frames):
            gif.seek(i)
            durations.append(gif.info['duration'])
        assert sum(durations) == 4 * 40 and gif.info['loop'] == 0


def test_mp4_keeps_the_rate(tmp_path):
    save_animation(tmp_path / 'a.mp4', plain(10, 64, 64), 30)
    assert iio.immeta(tmp_path / 'a.mp4')['fps'] == 30


def test_a_failed_animation_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((64, 64, 3), np.uint8)
        raise RuntimeError('no more')

    for name in ('a.gif', 'a.mp4'):
        with pytest.raises(RuntimeError, match='no more'):
            save_animation(tmp_path / name, frames(), 10)
    assert not list(tmp_path.iterdir())
