"""A complete run: the data it reads, the files it writes, the outcome it returns."""

import json
import time

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config, train
from toy import toy_config


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """A flat folder of 24 photos of several shapes, a copy of one of them, and a file that is no photo."""
    folder = tmp_path_factory.mktemp('photos')
    draw = np.random.default_rng(0)
    for i in range(24):
        size = [(20, 30), (30, 20), (25, 25)][i % 3]
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(folder / f'{i:02d}.png')
    (folder / 'again.png').write_bytes((folder / '03.png').read_bytes())
    (folder / 'broken.jpg').write_bytes(b'')
    return folder


@pytest.fixture(scope='module')
def portrait(photos, tmp_path_factory):
    """Workdir of a run on them: 6 pixels wide, 8 high, unconditional, bfloat16 at the finest level, DiffAugment."""
    workdir = tmp_path_factory.mktemp('portrait') / 'run'
    config = tiny_config(
        data__source=f'folder:{photos}',
        data__resolution='6x8',
        model__bf16_levels=1,
        method__augment__name='diffaugment',
        train__duration='2epochs',
    )
    train(config, workdir)
    return workdir


def test_a_flat_folder_is_trained_on_without_preparation(portrait, photos):
    log = (portrait / 'log.txt').read_text()
    assert 'no labels' in log and 'Done' in log
    assert (portrait / 'skipped_files.txt').read_text().startswith('broken.jpg\t')
    assert set((portrait / 'duplicate_files.txt').read_text().split()) == {'03.png', 'again.png'}


def test_pictures_are_higher_than_wide(portrait):
    with Image.open(portrait / 'samples' / 'reals.png') as sheet:
        zoom, rows, columns, margin = 8, 4, 2, 2
        assert sheet.size == (
            columns * (6 * zoom + margin) + margin,
            rows * (8 * zoom + margin) + margin,
        )


def test_a_run_writes_all_its_records(portrait):
    names = {path.name for path in portrait.iterdir()}
    assert names >= {
        'config.json',
        'environment.jsonl',
        'metrics.jsonl',
        'log.txt',
        'samples',
        'checkpoints',
        'tensorboard',
    }
    rows = [json.loads(line) for line in (portrait / 'metrics.jsonl').read_text().splitlines()]
    assert rows[-1]['step'] == 6  # two epochs of 25 pictures minus those held out, in batches of 8
    assert {'loss/generator', 'loss/discriminator', 'memory/host_gib'} <= rows[-1].keys()
    assert ['loss/penalty' in row for row in rows] == [True, *[False] * (len(rows) - 1)]  # due every 16 steps
    assert all(np.isfinite(value) for row in rows for value in row.values())
    assert any('images_per_second' in row for row in rows) and any('diversity' in row for row in rows)
    about = json.loads((portrait / 'environment.jsonl').read_text().splitlines()[0])
    assert about['packages'].keys() >= {'jax', 'flax', 'optax'} and about['git']
    assert (portrait / 'samples' / 'comparison.png').stat().st_size > 1000


@pytest.mark.usefixtures('toy')
def test_a_time_budget_ends_the_run(tmp_path):
    config = toy_config(train__duration='1s', train__checkpoint_every='100000steps', train__log_every='100steps')
    began = time.monotonic()
    outcome = train(config, tmp_path / 'run')
    assert time.monotonic() - began > 1 and outcome.step > 0
    assert 'Done' in (tmp_path / 'run' / 'log.txt').read_text()
    assert [path.name for path in (tmp_path / 'run' / 'checkpoints').iterdir()] == [str(outcome.step)]


@pytest.mark.usefixtures('toy')
def test_training_returns_step_figures_best_and_picture(tmp_path):
    config = toy_config(train__validate_every='2steps', train__stop_on='loss')
    outcome = train(config, tmp_path)
    logged = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    assert outcome.step == 6 and outcome.picture == tmp_path / 'samples' / 'comparison.png'
    assert set(outcome.figures) == {'loss', 'seed', 'swd', 'swd_16'}
    assert outcome.figures['loss'] == logged[-1]['validation/loss']
    assert (outcome.best.figure, outcome.best.step) == ('loss', 6) and outcome.best.value == outcome.figures['loss']
    assert outcome.picture.stat().st_size > 1000
    # A run that is complete validates no more.
    again = train(config, tmp_path)
    assert (again.step, again.figures, again.best, again.picture) == (6, {}, outcome.best, outcome.picture)
    plain = train(toy_config(train__duration='1steps'), tmp_path / 'plain')
    assert (plain.step, plain.figures, plain.best) == (1, {}, None)
