"""Runs of an earlier version (tests/fixtures) are resumed and sampled with the same results."""

import hashlib
import json
import os
import shutil
import sys
import zlib

import imageio.v3 as iio
import jax
import numpy as np
import pytest
from tiny import ROOT, run_launch, sample, timeless, train

from productgen.core.checkpoint import Checkpoints
from productgen.core.paths import from_keystr
from productgen.model.workdir import read_json

FIXTURES = ROOT / 'tests' / 'fixtures'
RUNS = {'stylegan_v1': {}, 'vae_v1': {'duration': '10steps'}}  # with what `train` needs so that there is more to do
GONE = {'stylegan_v1': {'extra/penalty'}, 'vae_v1': set()}  # arrays that are metrics now


def expected(name):
    return json.loads((FIXTURES / f'{name}.json').read_text())


def notes(folder):
    """Notes of the newest checkpoint in a folder, and its step."""
    step = max(int(path.name) for path in folder.iterdir())
    return json.loads((folder / str(step) / 'notes' / 'metadata').read_text()), step


@pytest.fixture(scope='module', params=RUNS)
def resumed(request, tmp_path_factory):
    """Name of an old run, its untouched copy, and a copy that has been resumed in this process."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    before, after = (shutil.copytree(FIXTURES / name, folder / part) for part in ('before', 'after'))
    config = read_json(after)
    config['train'] |= RUNS[name]
    train(config, after, accept_change=bool(RUNS[name]))
    return name, before, after


def test_its_weights_are_read_by_the_checksums_of_the_first_format(resumed):
    name, before, _ = resumed
    written, step = notes(before / 'checkpoints')
    assert 'format' not in written and all(place.startswith('.') for place in written['checksums'])
    found, weights = Checkpoints(before, writing=False).read_weights()
    checksums = {from_keystr(place): value for place, value in written['checksums'].items()}
    assert found == step == 6
    for net, parts in weights.items():
        for part, arrays in parts.items():
            for path, array in arrays.items():
                assert zlib.crc32(np.ascontiguousarray(array).tobytes()) == checksums[f'nets/{net}/{part}/{path}']
    assert set(weights) == ({'vae'} if name == 'vae_v1' else {'generator', 'discriminator'})


def test_it_is_resumed_with_the_same_metrics(resumed):
    """They depend on weights, averages, optimisers, ADA's p and the order of the pictures."""
    name, _, after = resumed
    log = (after / 'log.txt').read_text()
    assert 'Resuming at step 6' in log
    before, now = expected(name)['metrics'], timeless(after)
    assert [point['step'] for point in now] == [point['step'] for point in before]
    compared = 0
    for old, new in zip(before, now, strict=True):
        if old['step'] > 6:
            # Lazy terms are logged only where they are due; the earlier version repeated their last value.
            assert set(old) - set(new) <= {'loss/penalty'} and set(new) <= set(old)
            for metric in set(new) & set(old):
                assert new[metric] == pytest.approx(old[metric], rel=1e-4, abs=1e-5), (old['step'], metric)
                compared += metric not in ('step', 'kimg')
    assert compared > 15


def test_it_is_saved_in_the_new_format_with_the_same_arrays(resumed):
    name, _, after = resumed
    written, step = notes(after / 'checkpoints')
    arrays = {place for place in expected(name)['arrays'] if not place.startswith('best:')}
    assert written['format'] == 2 and step == expected(name)['steps']['checkpoints']
    assert set(written['checksums']) == arrays - GONE[name]
    config = read_json(after)
    assert json.loads((FIXTURES / name / 'config.json').read_text())['model'].items() <= config['model'].items()


def test_it_can_be_sampled_before_and_after(resumed, tmp_path):
    name, before, after = resumed
    config = read_json(before)
    config['sample'] |= {'seeds': '0-7', 'out': str(tmp_path)}
    sheets = []
    for workdir, key in ((before, 'sampled_before'), (after, 'sampled_after')):
        (path,) = sample(config, workdir)
        assert path.name == expected(name)[key][0].removeprefix('generated/')
        sheets.append(iio.imread(path))
    assert not np.array_equal(*sheets)
    if name == 'vae_v1':
        config['sample'] |= {'step': -1}
        (path,) = sample(config, before)
        assert path.name.endswith('step000006.png') and np.array_equal(iio.imread(path), sheets[0])


# Without the quick compilation of the tests, and with the programs that the launcher compiles.
ENVIRONMENT = {'XLA_FLAGS': os.environ.get('XLA_FLAGS', '').partition(' --xla_backend_optimization_level')[0]}


def pixels(path):
    """SHA-256 of an image."""
    image = iio.imread(path)
    head = f'{image.dtype}{image.shape}'.encode()
    return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_no_bit_differs(name, tmp_path):
    about = json.loads((FIXTURES / name / 'environment.jsonl').read_text().splitlines()[0])
    if about['packages']['jax'] != jax.__version__ or about['devices'] != ['cpu: cpu']:
        pytest.skip(f'the numbers are of JAX {about["packages"]["jax"]} on a CPU')
    workdir, record = shutil.copytree(FIXTURES / name, tmp_path / 'run'), expected(name)

    def launch(*words):
        done = run_launch([sys.executable, 'launch.py', f'--workdir={workdir}', *words], env=ENVIRONMENT)
        assert done.returncode == 0, done.stderr

    draw = '--mode=sample', '--config.sample.seeds=0-7', '--config.sample.output=grid'
    launch(*draw)
    launch(*record['resumed'])
    launch(*draw)
    found = {}
    for folder, prefix in (('checkpoints', ''), ('best', 'best:')):
        if folder in record['steps']:
            written, step = notes(workdir / folder)
            assert step == record['steps'][folder]
            found |= {prefix + place: value for place, value in written['checksums'].items()}
    assert found == {place: value for place, value in record['arrays'].items() if place not in GONE[name]}
    for key in ('sampled_before', 'sampled_after'):
        assert pixels(workdir / record[key][0]) == record[key][1]
