"""The command line: wrong settings are one line that names the flag and what to do, before anything is done."""

import dataclasses
import errno
import json
import logging
import os
import re
import sys

import jax
import pytest
from absl.testing import flagsaver
from tiny import ROOT, run_launch, sample, train
from toy import toy_config

import launch
from productgen.config import UserError
from productgen.methods import METHODS
from productgen.model.workdir import read_json
from productgen.tasks import TASKS
from productgen.tasks.base import Task

WRONG = {
    '--config=configs/stylegan.py:qick': "did you mean 'quick'",
    '--config=configs/stylegan.py:res=big': 'res is a size such as 128',
    '--config=configs/stylegan.py:quick,paper256': 'choose one of quick',
    '--config=configs/none.py': 'there is no file configs/none.py',
    '--config.train.batchsize=3': "--config.train.batchsize: no such field; did you mean 'batch_size'",
    '--config.trian.batch_size=3': "--config.trian: no such field; did you mean 'train'",
    '--config.train.batch_size.x=3': '--config.train.batch_size.x: no such field; it is a value, not a section',
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
    '--config.model.name=dcgann': "model.name: there is no 'dcgann'; did you mean 'dcgan'",
    '--config.method.loss=hing': "method.loss: there is no 'hing'",
    '--config.method.penalty_weight=large': 'method.penalty_weight: expected a number',
    '--config.method.augment.name=adda': "method.augment.name: there is no 'adda'; did you mean 'ada'",
    '--config.optim.generator.name=adm': "there is no 'adm'; did you mean 'adam'",
    '--config.optim.generator.schedule=step': "there is no 'step'",
    '--config.seed=-1': 'seed: expected a whole number from 0',
    '--config.model.channel_base=16': 'model.channel_base: 16 leaves the finest of 4 levels without channels',
    '--config.model.z_dim=0': 'model.z_dim: 0 is too small; it must be at least 1',
    '--coordinator=127.0.0.1:1': '--coordinator=HOST:PORT, --num_processes and --process_id go together',
    '--mode=sampel': "--mode: there is no 'sampel'; did you mean 'sample'? (known: cutout, enhance, eval, restore,",
    '--wrokdir=x': 'workdir',
    'quick': "Unknown argument 'quick'",
}
# Of a config's argument, of the method, and of a flag: these are run in a process of their own too.
PROCESSES = '--config=configs/stylegan.py:qick', '--config.model.z_dim=0', '--wrokdir=x'


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line in this process; flags, JAX's settings and the log are as before afterwards."""
    saved = flagsaver.save_flag_values()
    logger = logging.getLogger('productgen')
    log = logger.handlers[:], logger.level, logger.propagate
    names = 'jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs'
    settings = {name: getattr(jax.config, name) for name in names}
    monkeypatch.chdir(ROOT)

    def parse(*words):
        argv = ['launch.py', *map(str, words)]
        monkeypatch.setattr(sys, 'argv', argv)
        return launch.parse_flags(argv)

    yield parse
    flagsaver.restore_flag_values(saved)
    logger.handlers[:], logger.propagate = log[0], log[2]
    logger.setLevel(log[1])
    for name, value in settings.items():
        jax.config.update(name, value)


@pytest.fixture
def request_of(parse):
    """The request of a command line."""

    def call(*words):
        assert len(parse(*words)) == 1
        return launch.request()

    return call


def with_config(word):
    return [word] if word.startswith('--config=') else ['--config=configs/stylegan.py', word]


@pytest.mark.parametrize('word', WRONG)
def test_a_wrong_setting_is_one_clear_line(word, parse, tmp_path):
    with pytest.raises(SystemExit) as error:
        launch.main(parse(*with_config(word), f'--workdir={tmp_path / "run"}'))
    assert isinstance(error.value.code, str) and WRONG[word] in error.value.code
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('word', PROCESSES)
def test_the_line_is_all_that_a_process_prints(word, tmp_path):
    command = [sys.executable, 'launch.py', *with_config(word), f'--workdir={tmp_path / "run"}']
    done = run_launch(command)
    assert done.returncode == 1 and WRONG[word] in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr and not done.stdout
    assert not (tmp_path / 'run').exists()


def refusal(parse, *words):
    with pytest.raises(SystemExit) as error:
        launch.main(parse(*words))
    return error.value.code


def test_no_config_says_what_is_missing(parse):
    assert '--config=configs/NAME.py is missing' in refusal(parse)


def test_sampling_without_a_run_says_so(parse, tmp_path):
    assert 'there is no run in it' in refusal(parse, '--mode=sample', f'--workdir={tmp_path}')
    assert '--workdir=DIR of a run is missing; --mode=sample needs one' in refusal(parse, '--mode=sample')


def test_an_unknown_mode_is_found_before_the_run_is(parse, tmp_path):
    text = refusal(parse, '--mode=sampel', f'--workdir={tmp_path / "none"}')
    assert "there is no 'sampel'; did you mean 'sample'? (known: cutout, enhance, eval, " in text
    assert 'there is no run' not in text and '--config' not in text


@pytest.mark.parametrize(
    'words',
    [
        ['--mode=dance'],
        ['--mode', 'dance'],
        ['-mode=dance'],
        ['--dry_run', '--accept_config_change', '--mode', 'dance'],
        ['--config=configs/none.py', '--mode=dance'],
        ['--config', 'configs/stylegan.py:qick', '--config.no.such=3', '--mode', 'dance', '--workdir', '/none'],
        ['--mode=dance', '--workdir=/none', '--no_such_flag'],
        ['--mode=train', '--mode=dance'],
    ],
)
def test_an_unknown_mode_is_named_whatever_else_is_given(parse, words):
    assert refusal(parse, *words).startswith("--mode: there is no 'dance'; did you mean 'enhance'? (known: ")


@pytest.mark.parametrize('words', [['--mode'], ['--workdir', '--mode=sample'], ['--config', '--workdir=a']])
def test_a_flag_without_its_value_is_named(parse, words):
    assert refusal(parse, *words).startswith(f'{words[0]}: its value is missing')


def test_home_is_meant_by_a_tilde(request_of, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'own.py').write_text("def get_config(arg=None):\n    return {'method': {'name': 'vae'}}\n")
    made = request_of('--config=~/own.py', '--workdir', '~/runs/a', '--input=~', '--output=a/~/b')
    assert (made.workdir, made.input, str(made.output)) == (tmp_path / 'runs' / 'a', tmp_path, 'a/~/b')


@pytest.mark.parametrize('flag', ['workdir', 'input', 'output', 'config'])
def test_the_home_of_nobody_is_refused(parse, flag):
    words = [f'--{flag}=~no_such_user/a'] + ['--config=configs/stylegan.py'] * (flag != 'config')
    text = refusal(parse, *words)
    assert f'--{flag}=~no_such_user/a: ~no_such_user is no home folder; for a folder' in text


def test_a_run_is_found_by_its_workdir_in_home(toy_run, request_of, monkeypatch):
    monkeypatch.setenv('HOME', str(toy_run.parent))
    assert request_of('--mode=sample', f'--workdir=~/{toy_run.name}').workdir == toy_run


def test_a_config_file_may_lie_in_a_folder_with_a_colon(request_of, tmp_path):
    path = tmp_path / '18:05' / 'own.py'
    path.parent.mkdir()
    path.write_text("def get_config(arg='ddpm'):\n    return {'method': {'name': arg}}\n")
    made = request_of(f'--config={path}:vae')
    assert made.config.method.name == 'vae' and str(made.workdir) == 'runs/own-vae'


def test_only_training_is_described(parse, toy_run):
    assert '--dry_run describes a training' in refusal(parse, '--mode=sample', f'--workdir={toy_run}', '--dry_run')


def test_help_names_the_commands():
    done = run_launch([sys.executable, 'launch.py', '--help'])
    assert 'python launch.py --config=configs/stylegan.py' in done.stdout
    assert '--workdir' in done.stdout


STRICT = {'PYTHONIOENCODING': 'ascii:strict', 'LC_ALL': 'C', 'PYTHONUTF8': '0', 'PYTHONCOERCECLOCALE': '0'}


def test_a_terminal_that_cannot_show_a_name_shows_it_escaped(tmp_path):
    command = [b'launch.py', b'--mode=sample', os.fsencode(tmp_path / 'caf') + b'\xe9\xc3\xa9']
    command[2] = b'--workdir=' + command[2]
    done = run_launch([os.fsencode(sys.executable), *command], STRICT)
    assert done.returncode == 1 and 'Traceback' not in done.stderr and 'there is no run in it' in done.stderr


def test_a_full_disk_is_named_with_the_file(parse, stamped, monkeypatch, tmp_path):
    def full(request):
        raise OSError(errno.ENOSPC, 'No space left on device', str(tmp_path / 'a.png'))

    monkeypatch.setitem(TASKS, 'stamp', dataclasses.replace(TASKS['stamp'], run=full))
    text = refusal(parse, '--mode=stamp')
    assert text.startswith(f'Error: {tmp_path / "a.png"} cannot be used: No space left on device; the disk mounted at ')


# What a user's own config file does wrong.


@pytest.mark.parametrize(
    'line, message',
    [
        ("    batch = 8 + '8'", r"TypeError: unsupported operand type.*\n  .*own\.py, line 5: batch = 8 \+ '8'"),
        ("    batch = int('many')", r"ValueError: invalid literal.*\n  .*own\.py, line 5: batch = int\('many'\)"),
        ("    batch = dict()['size']", r"KeyError: 'size'\n  .*own\.py, line 5"),
        ('    import no_such_module', r'ModuleNotFoundError: .*no_such_module.*\n  .*own\.py, line 5'),
    ],
)
def test_an_error_in_a_config_file_names_file_and_line(parse, tmp_path, line, message):
    path = tmp_path / 'own.py'
    start = 'from configs import stylegan\n\n\ndef get_config(arg=None):\n'
    path.write_text(f'{start}{line}\n    return stylegan.get_config()\n')
    with pytest.raises(SystemExit) as error:
        parse(f'--config={path}')
    assert isinstance(error.value.code, str)
    (first, *places) = error.value.code.splitlines()
    assert first.startswith(f'--config={path}: ')
    assert re.search(message, error.value.code)
    assert not [place for place in places if 'launch.py' in place and 'line' in place]


def test_a_syntax_error_in_a_config_file_names_file_and_line(parse, tmp_path):
    (tmp_path / 'own.py').write_text('def get_config(arg=None):\n    return (\n')
    with pytest.raises(SystemExit, match=r'own\.py, line 2'):
        parse(f'--config={tmp_path / "own.py"}')


def test_a_config_file_s_own_message_is_shown_as_it_is(parse):
    with pytest.raises(SystemExit) as error:
        parse('--config=configs/stylegan.py:qick')
    assert 'UserError' not in error.value.code and 'line' not in error.value.code.splitlines()[0]


# Fields that depend on the method and the networks.


def test_another_method_has_its_own_fields(request_of, tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("def get_config(arg=None):\n    return {'method': {'name': 'vae'}, 'data': {'labels': 'none'}}\n")
    config = request_of(f'--config={path}', '--config.method.name=diffusion', '--config.model.heads=2').config
    assert config.method.name == 'diffusion' and config.model.heads == 2 and set(config.optim) == {'unet'}
    assert config.family is METHODS['diffusion']


def test_another_network_has_its_own_fields(request_of, tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("def get_config(arg=None):\n    return {'method': {'name': 'gan'}, 'model': {'name': 'mlp'}}\n")
    words = f'--config={path}', '--config.model.name=dcgan', '--config.model.max_width=32'
    config = request_of(*words).config
    assert config.model.name == 'dcgan' and config.model.max_width == 32 and not hasattr(config.model, 'maxout')


def test_a_field_of_the_former_network_is_refused(parse, tmp_path):
    path = tmp_path / 'own.py'
    path.write_text("def get_config(arg=None):\n    return {'method': {'name': 'gan'}, 'model': {'name': 'mlp'}}\n")
    with pytest.raises(SystemExit, match=r'--config\.model\.maxout: no such field'):
        parse(f'--config={path}', '--config.model.name=dcgan', '--config.model.maxout=5')


# A run that is named by its workdir.


@pytest.fixture(scope='module')
def toy_run(toy, tmp_path_factory):
    """A run whose config.json lacks some fields, as one of an earlier version."""
    workdir = tmp_path_factory.mktemp('launch') / 'run'
    train(toy_config(), workdir)
    config = read_json(workdir)
    for section, field in (('train', 'patience'), ('data', 'balance'), ('sample', 'combine'), ('eval', 'lpips')):
        del config[section][field]
    del config['optim']['painter']['freeze']
    (workdir / 'config.json').write_text(json.dumps(config))
    return workdir


def test_the_config_of_a_run_can_be_changed_in_fields_it_did_not_have(toy_run, request_of, tmp_path):
    words = ['train.patience=7', 'data.balance=0.5', 'optim.painter.freeze=canvas', 'sample.combine=average']
    out = tmp_path / 'out'
    made = request_of(
        f'--workdir={toy_run}', *(f'--config.{word}' for word in words), '--accept_config_change', f'--output={out}'
    )
    config = made.config
    assert (config.train.patience, config.data.balance, config.sample.combine) == (7, 0.5, 'average')
    assert config.optim['painter'].freeze == 'canvas' and config.optim['judge'].freeze == ''
    assert config.train.batch_size == 8 and config.method.name == 'toy' and config.eval.lpips == ''
    assert made.settings == config.train and made.workdir == toy_run and made.accept_change and made.output == out


def test_a_value_of_a_run_s_own_config_file_stays_the_type_of_its_field(toy_run, request_of):
    """Numbers for a field of type float may be written as whole ones."""
    assert request_of(f'--workdir={toy_run}', '--config.data.balance=1').config.data.balance == 1.0


def test_a_run_is_sampled_by_its_workdir(toy_run, request_of, tmp_path):
    words = '--mode', 'sample', '--workdir', toy_run, '--config.sample.seeds=0-1', f'--config.sample.out={tmp_path}'
    made = request_of(*words)
    assert made.settings.seeds == '0-1' and made.settings == made.config.sample
    TASKS['sample'].run(made)
    (path,) = tmp_path.iterdir()
    assert path.name == 'grid_seeds0-1_2columns_psi0.7_step000006.png'
    again = tmp_path / 'again'
    assert sample(toy_config(sample__seeds='0-1', sample__out=str(again)), toy_run)[0].read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    'words, folder',
    [
        (['--config=configs/vae.py'], 'runs/vae'),
        (['--config=configs/stylegan.py:quick'], 'runs/stylegan-quick'),
        (['--config=configs/stylegan.py:res=32'], 'runs/stylegan-res=32'),
        (['--config', 'configs/vae.py', '--workdir', 'a/b'], 'a/b'),
    ],
)
def test_a_run_without_a_workdir_is_called_after_its_config(request_of, words, folder):
    assert str(request_of(*words).workdir) == folder


# A task that needs no run.


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 3


@dataclasses.dataclass(frozen=True)
class StampConfig:
    """The `stamp` section."""

    text: str = 'new'
    strength: float = 0.5
    inner: Inner = dataclasses.field(default_factory=Inner)

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise UserError('stamp.strength', f'{self.strength} is not from 0 to 1')


@pytest.fixture
def stamped(monkeypatch):
    """The requests of a task `stamp`, which needs nothing."""
    requests = []
    monkeypatch.setitem(TASKS, 'stamp', Task('stamps pictures', StampConfig, requests.append, 'nothing'))
    return requests


def test_a_tool_has_its_own_section_and_needs_no_config(parse, stamped, tmp_path):
    words = '--config.stamp.text=sale', '--config.stamp.strength=1', '--config.stamp.inner.size=9'
    launch.main(parse('--mode=stamp', *words, f'--input={tmp_path}', '--output=out'))
    (made,) = stamped
    assert made.settings == StampConfig('sale', 1.0, Inner(9)) and isinstance(made.settings.strength, float)
    assert made.config is None and made.workdir is None
    assert made.input == tmp_path and str(made.output) == 'out'


def test_a_tool_has_defaults(parse, stamped):
    launch.main(parse('--mode=stamp'))
    assert stamped[0].settings == StampConfig() and stamped[0].input is None


def test_a_tool_s_wrong_settings_are_one_line_too(parse, stamped):
    assert 'stamp.strength: 2.0 is not from 0 to 1' in refusal(parse, '--mode=stamp', '--config.stamp.strength=2.0')


def test_a_tool_s_unknown_field_has_the_nearest_name(parse, stamped):
    message = "--config.stamp.txt: no such field; did you mean 'text'"
    assert message in refusal(parse, '--mode=stamp', '--config.stamp.txt=x')
    assert not stamped


def test_a_tool_s_section_may_be_in_a_config_file(stamped, request_of, tmp_path):
    """Next to those of a run, which other modes ignore."""
    path = tmp_path / 'own.py'
    path.write_text("def get_config(arg=None):\n    return {'method': {'name': 'vae'}, 'stamp': {'text': 'hot'}}\n")
    made = request_of('--mode=stamp', f'--config={path}', '--config.stamp.strength=0.25')
    assert made.settings == StampConfig('hot', 0.25) and made.config.method.name == 'vae'
