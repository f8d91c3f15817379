"""A run that is interrupted in any way and resumed ends with the same weights as one that is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from tiny import ROOT, TINY_GAN, launch_command, run_launch, timeless, train
from toy import Toy, toy_config

from productgen.config import UserError
from productgen.core.checkpoint import Checkpoints
from productgen.methods.base import Stage
from productgen.model.workdir import locked

STEPS = 120
FIELDS = {'train__duration': f'{STEPS}steps', 'train__log_every': '5steps', 'train__checkpoint_every': '20steps',
          'train__sample_every': '100steps', 'method__augment__name': 'ada', 'method__augment__adjust_kimg': 1.0,
          'method__augment__transforms': 'xflip,contrast', 'data__resolution': '8'}  # fmt: skip
GAN = {'config': 'configs/gan.py', 'tiny': TINY_GAN, 'method__penalty': 'r1', 'method__penalty_weight': 1.0,
       'method__penalty_interval': 3, 'train__accumulate': 2}  # fmt: skip
STYLEGAN = {'method__path_weight': 2.0, 'method__mixing': 0.9}


@pytest.fixture(scope='module', params=[pytest.param(GAN, id='gan'),
                                        pytest.param(STYLEGAN, id='stylegan', marks=pytest.mark.slow)])  # fmt: skip
def command(request):
    """`workdir -> the command that trains the run of these tests`, and resumes it."""
    return lambda workdir: launch_command(workdir, **FIELDS, **request.param)


def checksums(workdir, step=STEPS):
    """CRC of every array of the checkpoint of a step: weights, averages, optimisers, ADA's p, path-length mean."""
    return json.loads((workdir / 'checkpoints' / str(step) / 'notes' / 'metadata').read_text())['checksums']


def metrics(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def uninterrupted(command, tmp_path_factory):
    """Checksums and metrics of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp('uninterrupted') / 'run'
    done = run_launch(command(workdir))
    assert done.returncode == 0, done.stderr
    return checksums(workdir), timeless(workdir)


def start(words):
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def wait_for(process, workdir, steps):
    """Waits until the run has logged `steps` updates, or ended."""
    while process.poll() is None:
        try:
            if metrics(workdir)[-1]['step'] >= steps:
                return
        except (OSError, IndexError, ValueError):
            pass
        time.sleep(0.02)


def test_sigterm_saves_first_and_kill_9_at_random_moments_changes_no_bit(command, uninterrupted, tmp_path):
    workdir, chance = tmp_path / 'run', random.Random(3)
    process = start(command(workdir))
    wait_for(process, workdir, 15)
    process.send_signal(signal.SIGTERM)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, text
    saved = max(int(p.name) for p in (workdir / 'checkpoints').iterdir())
    assert f'Saved at step {saved}' in text
    kills, texts = 0, []
    for target in (35, 75):
        process = start(command(workdir))
        wait_for(process, workdir, target)
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        with process.stderr:
            texts.append(process.stderr.read())
    assert kills == 2
    done = run_launch(command(workdir))
    assert done.returncode == 0, done.stderr
    assert f'Resuming at step {saved}' in texts[0] and 'Resuming at step' in done.stderr
    assert checksums(workdir) == uninterrupted[0]
    # The log has every point once, with the same values, but where SIGTERM divided the steps of a point in two.
    found, expected = timeless(workdir), uninterrupted[1]
    assert [x['step'] for x in found] == sorted({saved, *(x['step'] for x in expected)})
    whole = lambda points: [x for x in points if x['step'] not in (saved, -(-saved // 5) * 5)]
    assert whole(found) == whole(expected) and len(whole(expected)) >= len(expected) - 1


@pytest.fixture(scope='module')
def toy_run(toy, tmp_path_factory):
    """Workdir of a finished run of the toy: 6 steps, checkpoints at 3 and 6."""
    workdir = tmp_path_factory.mktemp('toy') / 'run'
    train(toy_config(), workdir)
    return workdir


@pytest.mark.parametrize('damage', ['truncate', 'flip', 'delete'])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(toy_run, tmp_path, damage):
    workdir = shutil.copytree(toy_run, tmp_path / 'run')
    expected = checksums(workdir, 6)
    for path in [p for p in (workdir / 'checkpoints' / '6' / 'state').rglob('d/*') if p.is_file()]:  # the arrays
        content = bytearray(path.read_bytes())
        if damage == 'truncate':
            path.write_bytes(content[: len(content) // 2])
        elif damage == 'flip':
            for place in range(0, len(content), 500):
                content[place] ^= 0x10
            path.write_bytes(content)
        else:
            path.unlink()
    train(toy_config(), workdir)
    log = (workdir / 'log.txt').read_text()
    assert 'The checkpoint of step 6 is damaged' in log
    assert 'Resuming at step 3' in log
    assert checksums(workdir, 6) == expected
    assert (workdir / 'damaged' / '6').is_dir()  # nothing is deleted


def test_without_a_readable_checkpoint_training_is_refused_and_does_not_start_again(toy_run, tmp_path):
    workdir = shutil.copytree(toy_run, tmp_path / 'run')
    for path in (workdir / 'checkpoints').rglob('d/*'):
        path.write_bytes(b'')
    with pytest.raises(Exception, match='no checkpoint in .* can be read'):
        train(toy_config(), workdir)


def test_another_config_is_refused_with_the_difference(toy_run):
    message = r'(?s)optim\.painter\.learning_rate: 0\.1 -> 0\.2.*accept_config_change'
    with pytest.raises(UserError, match=message):
        train(toy_config(optim__painter__learning_rate=0.2), toy_run)


def test_another_config_is_resumed_with_accept_change(toy_run, tmp_path):
    workdir = shutil.copytree(toy_run, tmp_path / 'run')
    train(toy_config(train__duration='8steps'), workdir, accept_change=True)
    assert max(Checkpoints(workdir).steps()) == 8
    assert json.loads((workdir / 'config.json').read_text())['train']['duration'] == '8steps'
    assert json.loads((workdir / 'config.0.json').read_text())['train']['duration'] == '6steps'


def test_a_longer_run_does_not_return_to_its_first_stage(toy, tmp_path, monkeypatch):
    halves = property(lambda self: Stage(self.problem.steps // 2, 'method.half'))
    monkeypatch.setattr(Toy, 'first_stage', halves, raising=False)
    train(toy_config(), tmp_path)  # of 6 steps
    before = (tmp_path / 'config.json').read_text()
    message = r'^train\.duration: .* end at step 3, .* at step 6 .* 12; set method\.half to 0\.125, which keeps'
    with pytest.raises(UserError, match=message):
        train(toy_config(train__duration='24steps'), tmp_path, accept_change=True)
    assert (tmp_path / 'config.json').read_text() == before
    for steps, duration in ((3, '9steps'), (0, '12steps')):  # the same end of the first stage; no stages
        monkeypatch.setattr(Toy, 'first_stage', Stage(steps, 'method.half'))
        train(toy_config(train__duration=duration), tmp_path, accept_change=True)
    assert max(Checkpoints(tmp_path).steps()) == 12


def test_a_complete_run_is_not_changed(toy_run):
    before = checksums(toy_run, 6)
    train(toy_config(), toy_run)
    assert checksums(toy_run, 6) == before
    assert 'This run is complete' in (toy_run / 'log.txt').read_text()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / 'thesis.tex').write_text('precious')
    with pytest.raises(UserError, match='there are files in it but no run'):
        train(toy_config(), tmp_path)
    assert (tmp_path / 'thesis.tex').read_text() == 'precious'


def test_two_runs_in_one_workdir_are_refused(tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match='another process'), locked(tmp_path):
        pass
