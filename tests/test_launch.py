"""Wrong settings end in one line that names the flag and the way out, before anything is done."""

import sys

import pytest
from tiny import run_launch

WRONG = {
    '--config=configs/stylegan.py:qick': "did you mean 'quick'",
    '--config=configs/stylegan.py:res=big': 'res is a size such as 128',
    '--config=configs/stylegan.py:quick,paper256': 'choose one of quick',
    '--config=configs/none.py': 'there is no file configs/none.py',
    '--config.train.batchsize=3': "--config.train.batchsize: no such field; did you mean 'batch_size'",
    '--config.trian.batch_size=3': "--config.trian: no such field; did you mean 'train'",
    '--config.train.batch_size=many': '--config.train.batch_size=many',
    '--config.train.batch_size=6': 'model.stddev_group: 4 does not divide the 6 images',
    '--config.train.accumulate=3': 'train.batch_size: 16 images cannot be divided',
    '--config.train.duration=10parsec': "train.duration: '10parsec' is not a duration",
    '--config.train.log_every=10min': 'train.log_every: give it in images, steps or epochs',
    '--config.data.resolution=100': 'data.resolution: 100x100 is not base x 2^n',
    '--config.data.resolution=big': "data.resolution: 'big' is neither",
    '--config.data.source=folder:/no/such/place': 'no folder /no/such/place',
    '--config.data.source=catalogue': "data.source: 'catalogue' is none of",
    '--config.data.labels=size': "data.labels: there is no attribute 'size'",
    '--config.data.validation=1.5': '1.5',
    '--config.data.fit=fill': 'data.fit',
    '--config.data.background=whiite': 'data.background',
    '--config.method.name=stylegan3': "method.name: there is no 'stylegan3'; did you mean 'stylegan2'",
    '--config.method.loss=hing': "method.loss: there is no 'hing'",
    '--config.method.penalty_weight=large': 'method.penalty_weight: expected a number',
    '--config.method.augment.name=adda': "method.augment.name: there is no 'adda'; did you mean 'ada'",
    '--config.optim.generator.name=adm': "there is no 'adm'; did you mean 'adam'",
    '--config.optim.generator.schedule=step': "there is no 'step'",
    '--config.seed=-1': 'seed: expected a whole number from 0',
    '--config.model.channel_base=16': 'model.channel_base: 16 leaves the finest of 4 levels without channels',
    '--config.model.z_dim=0': 'model.z_dim: 0 is too small; it must be at least 1',
    '--coordinator=127.0.0.1:1': '--coordinator=HOST:PORT, --num_processes and --process_id go together',
    '--mode=sampel': 'train|sample',
    '--wrokdir=x': 'workdir',
    'quick': "Unknown argument 'quick'",
}


@pytest.mark.parametrize('word', WRONG)
def test_a_wrong_setting_is_one_clear_line(word, tmp_path):
    words = [word] if word.startswith('--config=') else ['--config=configs/stylegan.py', word]
    done = run_launch([sys.executable, 'launch.py', *words, f'--workdir={tmp_path / "run"}'])
    assert done.returncode != 0
    assert WRONG[word] in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'run').exists()


def test_no_config_says_what_is_missing():
    done = run_launch([sys.executable, 'launch.py'])
    assert done.returncode == 1 and '--config=configs/NAME.py is missing' in done.stderr


def test_sampling_without_a_run_says_so(tmp_path):
    done = run_launch([sys.executable, 'launch.py', '--mode=sample', f'--workdir={tmp_path}'])
    assert done.returncode == 1 and 'there is no run in it' in done.stderr


def test_help_names_the_commands():
    done = run_launch([sys.executable, 'launch.py', '--help'])
    assert 'python launch.py --config=configs/stylegan.py' in done.stdout
    assert '--workdir' in done.stdout
