"""Sampling a run: a seed is a picture, and only the workdir is needed."""

import json
import re
import shutil
import sys

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from tiny import EIGHT, run_launch, sample, tiny_config, train
from toy import Toy, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError
from productgen.data.pictures import MARGIN
from productgen.methods.base import Knob
from productgen.model.workdir import locked, read_facts

SIDE = 64  # of a 16 x 16 picture once it is enlarged


@pytest.fixture(scope='module')
def tiny_run(tmp_path_factory):
    """Workdir of a finished run of the tiny config."""
    workdir = tmp_path_factory.mktemp('tiny') / 'run'
    train(tiny_config(), workdir)
    return workdir


@pytest.fixture(scope='module')
def make(tiny_run, tmp_path_factory):
    """Samples the tiny run (or a copy) into a folder of its own."""

    def call(workdir=tiny_run, config=(), **settings):
        config = tiny_config(**dict(config))
        out = tmp_path_factory.mktemp('out')
        config['sample'] |= {'batch_size': 8, 'out': str(out)} | settings
        paths = sample(config, workdir)
        assert sorted(paths) == sorted(out.iterdir())
        return paths

    return call


def cell(sheet, row, column, left=0):
    y, x = MARGIN + row * (SIDE + MARGIN), left + MARGIN + column * (SIDE + MARGIN)
    return sheet[y : y + SIDE, x : x + SIDE]


def pictures(paths):
    """Single files as one array."""
    return np.stack([iio.imread(path) for path in paths])


@pytest.fixture(scope='module')
def mugs(make):
    return pictures(make(output='png', seeds='0-9', labels='mug'))


def test_a_seed_is_the_same_picture_whatever_else_is_made(make, mugs):
    assert mugs.shape == (10, 16, 16, 3) and len(np.unique(mugs, axis=0)) == 10
    assert np.array_equal(pictures(make(output='png', seeds='7,3,40-49,0', labels='mug'))[[0, 1, -1]], mugs[[7, 3, 0]])
    both = pictures(make(output='png', seeds='2-3', labels='shoe;mug'))
    assert np.array_equal(both[2:], mugs[2:4]) and not np.array_equal(both[:2], mugs[2:4])


def test_batch_size_and_devices_change_at_most_the_rounding(make, mugs, tiny_run, tmp_path):
    close = lambda a: np.abs(a.astype(int) - mugs).max() <= 1
    assert close(pictures(make(output='png', seeds='0-9', labels='mug', batch_size=3)))
    # Three devices do not divide the batch of the training; the second generator has the same weights.
    words = ['output=png', 'seeds=0-9', 'labels=mug', f'out={tmp_path}', 'batch_size=3', f'also={tiny_run}']
    flags = [f'--config.sample.{word}' for word in words]
    three = EIGHT | {'XLA_FLAGS': EIGHT['XLA_FLAGS'].replace('count=8', 'count=3')}
    done = run_launch([sys.executable, 'launch.py', '--mode=sample', f'--workdir={tiny_run}', *flags], env=three)
    assert done.returncode == 0, done.stderr
    assert f'truncation 0.7: 10 pictures in {tmp_path}' in done.stderr
    assert close(pictures(sorted(tmp_path.iterdir())))


def test_names_say_the_settings(make):
    (path,) = make(output='png', seeds='3', labels='mug', truncation=0.5)
    assert re.fullmatch(r'seed0003_mug(\+\w+)*_psi0\.5_step000006\.png', path.name)
    (path,) = make(seeds='0-1, 5', labels='mug;shoe', columns=2)
    assert path.name == 'grid_seeds0-1,5_mug,shoe_2columns_psi0.7_step000006.png'
    (path,) = make(seeds=','.join(map(str, range(200))))
    assert len(path.name) < 120


@pytest.fixture(scope='module')
def toy_run(toy, tmp_path_factory):
    """Workdir of a run of the toy, which has no styles."""
    workdir = tmp_path_factory.mktemp('toy') / 'run'
    train(toy_config(train__duration='3steps'), workdir)
    return workdir


def test_names_say_how_a_denoiser_samples(toy_run, tmp_path, monkeypatch):
    config = toy_config(sample__seeds='0-1', sample__out=str(tmp_path))
    assert sample(config, toy_run)[0].name == 'grid_seeds0-1_2columns_psi0.7_step000003.png'
    more = Knob('guidance', 1.0, 0.0, 100.0), Knob('denoising_steps', 50, 1, 1000, static=True)
    monkeypatch.setattr(Toy, 'knobs', (*Toy.knobs, *more))
    names = set()
    for guidance, steps in ((1.0, 25), (4.0, 25), (4.0, 50)):
        config['sample'] |= {'guidance': guidance, 'denoising_steps': steps}
        names.add(sample(config, toy_run)[0].name)
    assert len(names) == 3 and 'grid_seeds0-1_2columns_psi0.7_w4.0_50steps_step000003.png' in names


ODD = (
    '12" plate',
    'shoes, women',
    'a+b',
    '../x/..',
    'line\nbreak\x00',
    '漢字 🛋',
    'bad \udcff',
    'long ' * 80 + 'end',
    'a;b=c',
    '"',
)


@pytest.fixture(scope='module')
def odd_run(toy, tmp_path_factory):
    """Workdir of a run of the toy on pictures whose labels are ODD, and whose colours make `+` ambiguous."""
    folder = tmp_path_factory.mktemp('odd') / 'photos'
    folder.mkdir()
    rows = [{'label': label, 'colour': colour} for label in ('a', *ODD) for colour in ('b+c', 'c')]
    for i, row in enumerate(rows):
        Image.fromarray(np.full((16, 16, 3), 8 * i, np.uint8)).save(folder / f'{i}.png')
        row['file_name'] = f'{i}.png'
    (folder / 'metadata.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    fields = {'data__source': f'folder:{folder}', 'data__labels': 'label,colour', 'data__validation': 0.0}
    train(toy_config(train__duration='1steps', **fields), folder.parent / 'run')
    return folder.parent / 'run'


def test_files_of_any_labels_have_legal_names_of_their_own(odd_run, tmp_path):
    table = read_facts(odd_run).labels
    request = ';'.join(','.join(table.words({'label': x, 'colour': y})) for x in ('a', *ODD) for y in ('b+c', 'c'))
    for output, count in (('png', 2 * len(ODD) + 2), ('grid', 1)):
        fields = {'sample__seeds': '0', 'sample__labels': request, 'sample__output': output}
        paths = sample(toy_config(sample__out=str(tmp_path / output), **fields), odd_run)
        assert len(set(paths)) == len(list((tmp_path / output).iterdir())) == count
        assert all(re.fullmatch(r'[\w.,=+%-]{1,200}', path.name) and path.exists() for path in paths)
    names = {
        sample(toy_config(sample__out=str(tmp_path), sample__seeds='0', sample__labels=x), odd_run)[0] for x in ODD
    }
    assert len(names) == len(ODD)


def test_truncation_moves_pictures_to_the_mean(make, mugs):
    spread = lambda images: images.astype(float).std(0).mean()
    none = pictures(make(output='png', seeds='0-9', labels='mug', truncation=0.0))
    more = pictures(make(output='png', seeds='0-9', labels='mug', truncation=1.0))
    assert 4 * spread(none) < spread(mugs) < spread(more)  # at 0 only the noise differs


def test_a_grid_has_a_row_for_each_kind_and_a_column_for_each_seed(make, mugs):
    sheet = iio.imread(make(seeds='0-3', labels='shoe;mug', columns=8)[0])
    left = sheet.shape[1] - 4 * (SIDE + MARGIN) - MARGIN
    assert left > 20 and sheet.shape[0] == 2 * (SIDE + MARGIN) + MARGIN
    for seed in range(4):
        assert np.array_equal(cell(sheet, 1, seed, left)[::4, ::4], mugs[seed])
    wrapped = iio.imread(make(seeds='0-4', labels='shoe;mug', columns=3)[0])
    assert wrapped.shape[0] == 4 * (SIDE + MARGIN) + MARGIN
    assert np.array_equal(cell(wrapped, 3, 1, left)[::4, ::4], mugs[4])
    assert (cell(wrapped, 3, 2, left) == 255).all()


def test_without_labels_they_are_drawn_from_the_training_set(make, tiny_run):
    paths = make(output='png', seeds='0-19')
    table = read_facts(tiny_run).labels
    names = ['+'.join(table.values(row).values()) for row in table.draw(range(20))]
    assert [path.name.split('_')[1] for path in paths] == names and len(set(names)) > 5


def test_mix_shows_its_sources_and_mixes_them(make, mugs):
    sheet = iio.imread(make(output='mix', seeds='0-4', labels='mug', mix_layers='2-')[0])
    assert sheet.shape == (3 * (SIDE + MARGIN) + MARGIN, 4 * (SIDE + MARGIN) + MARGIN, 3)
    small = lambda row, column: cell(sheet, row, column)[::4, ::4].astype(int)
    assert (small(0, 0) == 255).all()
    sources = [small(1, 0), small(2, 0), small(0, 1), small(0, 2), small(0, 3)]
    assert np.abs(np.stack(sources) - mugs[:5]).max() <= 1
    for r, c in ((1, 1), (1, 3), (2, 2)):
        assert (small(r, c) != small(r, 0)).any() and (small(r, c) != small(0, c)).any()
    # All layers from the column: its picture, with the noise of the row.
    sheet = iio.imread(make(output='mix', seeds='0-4', labels='mug', mix_layers='0-')[0])
    assert 4 * np.abs(small(1, 2) - small(0, 2)).mean() < np.abs(small(1, 2) - small(1, 0)).mean()


@pytest.mark.parametrize('ending', ['gif', 'mp4'])
def test_a_walk_passes_its_seeds_and_returns_to_the_first(make, mugs, ending):
    (path,) = make(output='walk', seeds='0-2', labels='mug', frames=6, fps=25, format=ending)
    assert path.name == f'walk_seeds0-2_mug_6frames_25fps_psi0.7_step000006.{ending}'
    frames = iio.imread(path)[..., :3].astype(int)
    if ending == 'gif':  # equal frames are joined
        with Image.open(path) as gif:
            seconds = sum((gif.seek(i), gif.info['duration'])[1] for i in range(gif.n_frames)) / 1000
        assert seconds == 18 / 25
    else:
        assert len(frames) == 18
    assert np.abs(frames[0][::4, ::4] - mugs[0]).mean() < 12
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2, 3))
    assert np.abs(frames[-1] - frames[0]).mean() < 2 * steps.max() + 2


def test_the_data_set_is_not_needed(make, mugs, monkeypatch):
    monkeypatch.setattr('productgen.data.open_source', None)
    paths = make(output='png', seeds='0-9', labels='mug', config={'data__source': 'folder:/is/no/more'})
    assert np.array_equal(pictures(paths), mugs)


@pytest.fixture
def copy(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / 'run')


def test_sampling_changes_nothing_in_a_training_run(copy, make):
    unfinished = copy / 'checkpoints' / '9.orbax-checkpoint-tmp' / 'state'
    unfinished.mkdir(parents=True)
    with locked(copy):
        before = {path: path.stat().st_mtime_ns for path in copy.rglob('*')}
        make(copy, seeds='0')
        assert {path: path.stat().st_mtime_ns for path in copy.rglob('*')} == before


def test_a_damaged_checkpoint_is_skipped(copy, make):
    for path in (copy / 'checkpoints' / '6' / 'state').rglob('d/*'):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert make(copy, seeds='0')[0].name.endswith('step000003.png')
    with pytest.raises(CheckpointError, match='step 6'):
        make(copy, seeds='0', step=6)


def test_a_step_can_be_chosen(make):
    assert make(seeds='0', step=3)[0].name.endswith('step000003.png')
    with pytest.raises(CheckpointError, match=r'there is no checkpoint of step 4 in it; choose one of \[3, 6\]'):
        make(seeds='0', step=4)


def test_a_run_without_a_checkpoint(copy, make):
    shutil.rmtree(copy / 'checkpoints')
    with pytest.raises(CheckpointError, match='there is no checkpoint in it yet'):
        make(copy, seeds='0')
    (copy / 'labels.json').unlink()
    with pytest.raises(UserError, match='no run in it'):
        make(copy, seeds='0')


def test_output_goes_into_the_workdir_by_default(copy):
    config = tiny_config()
    config['sample'] |= {'seeds': '0-1', 'batch_size': 8}
    first, again = sample(config, copy), sample(config, copy)
    assert first == again == [copy / 'generated' / 'grid_seeds0-1_2columns_psi0.7_step000006.png']


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'seeds': 'one'}, r"sample\.seeds: 'one'"),
        ({'seeds': '5-2'}, r'sample\.seeds: .* did you mean 2-5'),
        ({'seeds': '0-3000000000'}, r'sample\.seeds: .* is beyond 2147483647'),
        ({'labels': 'mugg'}, r"sample\.labels: there is no 'mugg'; did you mean 'mug'"),
        ({'labels': 'lable=mug'}, r"sample\.labels: there is no attribute 'lable'; did you mean 'label'"),
        ({'truncation': -0.1}, r'sample\.truncation: -0\.1 is not from 0 to 2'),
        ({'truncation': float('nan')}, r'sample\.truncation: nan'),
        ({'output': 'gird'}, r"sample\.output: there is no 'gird'; did you mean 'grid'"),
        ({'format': 'avi'}, r"sample\.format: there is no 'avi'"),
        ({'batch_size': 0}, r'sample\.batch_size: must be at least 1'),
        ({'step': -2}, r'sample\.step: -2'),
        ({'output': 'walk', 'fps': 60}, r'sample\.fps: a GIF has at most 50'),
        ({'output': 'walk', 'seeds': '4'}, r"sample\.seeds: 'walk' needs at least two"),
        ({'output': 'mix', 'mix_layers': '4-9'}, r"sample\.mix_layers: '4-9' is beyond 5"),
    ],
)
def test_wrong_settings_are_refused(make, settings, message):
    with pytest.raises(UserError, match=message):
        make(**settings)


def test_labels_of_an_unconditional_run(toy, tmp_path):
    train(toy_config(data__labels='none', train__duration='1steps'), tmp_path / 'run')
    with pytest.raises(UserError, match=r'sample\.labels: .* trained without labels'):
        sample(toy_config(sample__labels='mug'), tmp_path / 'run')


def test_a_method_without_styles_neither_mixes_nor_walks(toy_run):
    for output in ('mix', 'walk'):
        config = toy_config(sample__output=output, sample__seeds='0-3')
        with pytest.raises(UserError, match=rf"sample\.output: 'toy' has no styles to {output}; use grid or png"):
            sample(config, toy_run)


def test_the_workdir_s_own_config_is_used(make):
    same, other = (make(seeds='0', config=config)[0] for config in ((), {'model__channel_max': 4}))
    assert np.array_equal(iio.imread(same), iio.imread(other))
