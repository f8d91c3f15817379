"""Several generators: which of them makes which picture, their mean, and runs that cannot be combined."""

import dataclasses
import re
import shutil
import types

import imageio.v3 as iio
import jax
import numpy as np
import pytest
from tiny import open_run, sample, train
from toy import FAMILY, make, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import CheckpointError, Checkpoints
from productgen.methods import METHODS
from productgen.model.workdir import write_workdir

pytestmark = pytest.mark.usefixtures('toy', 'once')


def zeros(run):
    """A state."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), run.abstract()[0])


def untrained(workdir, **fields):
    """A run of `toy_config` with these fields, whose weights are zeros."""
    run = open_run(toy_config(**fields))
    write_workdir(workdir, run.config, run.facts, {})
    Checkpoints(workdir).save(zeros(run), {})
    return workdir


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Workdirs `a`, of steps 3 and 6, and `b`, of the same config and another seed."""
    folder = tmp_path_factory.mktemp('runs')
    train(toy_config(), folder / 'a')
    train(toy_config(seed=1), folder / 'b')
    return folder


@pytest.fixture(scope='module')
def pictures(runs, tmp_path_factory):
    """The single files of some settings as one array, and their names."""

    def call(workdir='a', **settings):
        config, out = toy_config(), tmp_path_factory.mktemp('out')
        config['sample'] |= {'output': 'png', 'seeds': '0-9', 'batch_size': 4, 'out': str(out), 'labels': 'mug'}
        config['sample'] |= settings
        paths = sample(config, runs / workdir)
        return np.stack([iio.imread(path) for path in paths]), [path.name for path in paths]

    return call


@pytest.fixture(scope='module')
def single(pictures):
    """Pictures of each generator by itself: a at step 6, b at step 6, a at step 3."""
    return [pictures()[0], pictures('b')[0], pictures(step=3)[0]]


def test_each_picture_of_a_mixture_is_that_of_its_generator(runs, pictures, single):
    images, names = pictures(also=f'{runs}/b, :3', seeds='3,0-2,4-9')
    seeds = [3, 0, 1, 2, *range(4, 10)]
    assert [int(name[4:8]) for name in names] == seeds
    for image, seed in zip(images, seeds, strict=True):
        assert np.array_equal(image, single[seed % 3][seed])
        assert not np.array_equal(image, single[(seed + 1) % 3][seed])
    name = r'.*_mixture-step000006\+b-[0-9a-f]{8}-step000006\+step000003\.png'
    assert all(re.fullmatch(name, found) for found in names)


def test_an_average_has_the_mean_of_the_weights(runs, pictures, tmp_path):
    """Compared with a run whose checkpoint is the mean, which NumPy computes here."""
    copy = shutil.copytree(runs / 'a', tmp_path / 'mean')
    shutil.rmtree(copy / 'checkpoints')
    weights = [Checkpoints(runs / name, writing=False).read_weights(6)[1]['painter']['ema'] for name in ('a', 'b')]
    state = zeros(open_run(toy_config()))
    mean = {name: (weights[0][name] + weights[1][name]) / 2 for name in ('canvas', 'embed')}
    painter = state.nets['painter'].replace(ema={**mean, 'spare': {'bias': np.zeros(5, np.float32)}})
    Checkpoints(copy).save(state.replace(nets=state.nets | {'painter': painter}, step=np.int32(6)), {})
    images, names = pictures(also=f'{runs}/b', combine='average')
    expected, _ = pictures(copy)
    assert np.abs(images.astype(int) - expected).max() <= 1 and not np.array_equal(images, pictures()[0])
    assert re.search(r'_average-step000006\+b-[0-9a-f]{8}-step000006\.png$', names[0])


def test_a_grid_of_a_mixture_shows_the_same(runs, pictures, single):
    (sheet,), (name,) = pictures(also=f'{runs}/b:3', output='grid', seeds='0-1', columns=2)
    assert re.search(r'mixture-step000006\+b-[0-9a-f]{8}-step000003', name)
    assert np.array_equal(sheet[-66:-2:4, -132:-68:4], single[0][0])
    assert np.array_equal(sheet[-66:-2:4, -66:-2:4], pictures('b', step=3, seeds='1')[0][0])


def test_runs_of_one_name_have_distinct_file_names(runs, pictures, tmp_path):
    shutil.copytree(runs / 'b', tmp_path / 'b')
    (one,), (two,), (again,) = (pictures(also=str(f), seeds='0')[1] for f in (runs / 'b', tmp_path / 'b', runs / 'b'))
    assert one == again != two


@pytest.mark.parametrize(
    'fields, combine, message',
    [
        ({'data__resolution': '8x16'}, 'mixture', r'sample\.also=.*other: its pictures are of another size \(8x16 and'),
        ({'data__labels': 'colour'}, 'mixture', r'sample\.also=.*other: it was trained with other labels'),
        ({'model__width': 4}, 'average', r'sample\.combine: average needs generators of one architecture'),
    ],
)
def test_runs_that_cannot_be_combined_are_refused(pictures, tmp_path, fields, combine, message):
    workdir = untrained(tmp_path / 'other', **fields)
    with pytest.raises(UserError, match=message):
        pictures(also=str(workdir), combine=combine)


def test_runs_with_attributes_in_another_order_cannot_be_combined(tmp_path):
    for name, labels in (('a', 'label,colour'), ('b', 'colour,label')):
        untrained(tmp_path / name, data__labels=labels)
    config = toy_config()
    config['sample'] |= {'also': str(tmp_path / 'b'), 'seeds': '0'}
    with pytest.raises(UserError, match=r'sample\.also=.*other labels'):
        sample(config, tmp_path / 'a')


def test_a_missing_run_step_or_combination_is_refused(pictures, runs):
    with pytest.raises(UserError, match=r'sample\.also=nowhere: there is no run in it'):
        pictures(also='nowhere')
    with pytest.raises(CheckpointError, match='there is no checkpoint of step 5'):
        pictures(also=':5')
    with pytest.raises(UserError, match=r'sample\.also=.*:-5: -5 is no step; 0 is the newest'):
        pictures(also=f'{runs}/b:-5')
    with pytest.raises(UserError, match=r"sample\.combine: there is no 'mean'"):
        pictures(combine='mean')


def test_a_mixture_has_no_styles_to_mix(pictures, monkeypatch):
    def make_styled(sections, problem):
        toy = make(sections, problem)
        names = 'init', 'inputs', 'frozen', 'generate', 'knobs'
        styles = dict.fromkeys(('latents', 'draw', 'synthesize'), print)
        return types.SimpleNamespace(**{name: getattr(toy, name) for name in names}, **styles, num_latents=3)

    monkeypatch.setitem(METHODS, 'toy', dataclasses.replace(FAMILY, make=make_styled))
    with pytest.raises(UserError, match=r'sample\.combine: .* one generator; use sample\.combine=average'):
        pictures(also=':3', output='walk')
