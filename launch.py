"""Trains, samples and measures generators of product images, and improves photos.

  python launch.py --config=configs/stylegan.py                         train on the embedded data set
  python launch.py --config=configs/stylegan.py:quick                   the same in a few minutes
  python launch.py --config=configs/stylegan.py --workdir=runs/mine --config.data.source=folder:PATH
  python launch.py --mode=sample --workdir=runs/mine --config.sample.seeds=0-15
  python launch.py --mode=eval --workdir=runs/mine --config.eval.features=runs/classifier
  python launch.py --mode=enhance --input=PHOTOS --output=OUT --config.enhance.steps=white_balance,levels
  python launch.py --mode=restore --input=PHOTOS --output=OUT --config.restore.task=denoise
  python launch.py --mode=cutout --input=PHOTOS --output=OUT --config.cutout.ground=white
  python launch.py --mode=translate --workdir=runs/mine --input=PICTURES --output=OUT

Any field of the config can be set as --config.section.field=value. Running a training command again resumes the run.
"""

import gc
import importlib.util
import logging
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parent
_MODE = flags.DEFINE_string('mode', 'train', 'What to do: train, sample, eval, translate, restore, enhance or cutout.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; by default runs/ and the name of the config.')
_INPUT = flags.DEFINE_string('input', None, 'File or folder that a tool reads.')
_OUTPUT = flags.DEFINE_string('output', None, 'Folder that a tool writes to.')
_COMPARE = flags.DEFINE_bool('compare', False, 'Tools for photos: also write sheets of before and after.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Check everything, print sizes and costs, and do nothing.')
_ACCEPT = flags.DEFINE_bool('accept_config_change', False, 'Resume a workdir that was made with another config.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'Several processes: HOST:PORT of the first; `auto` on a TPU pod.'
)
_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Several processes: their number.')
_PROCESS = flags.DEFINE_integer('process_id', None, 'Several processes: the number of this one, from 0.')
_HINT = '(python launch.py --help lists the flags)'


class _BadCommand(ValueError):
    """A command line that cannot be understood; the message says why."""


def split_config(text: str) -> tuple[Path, str]:
    """`FILE.py:ARGS` as the file and its arguments; a file that exists is meant as a whole.

    Raises:
      UserError: a `~USER` of no user.
    """
    from productgen.config.paths import user_path

    path = user_path(text, '--config')
    if path.is_file():
        return path, ''
    name, arg = re.fullmatch(r'(.*?\.py|[^:]*)(?::(.*))?', text, re.DOTALL).groups() if ':' in text else (text, '')
    return user_path(name, '--config'), arg or ''


def default_workdir(config_path: str) -> Path:
    """runs/NAME for configs/NAME.py, runs/NAME-ARGS for configs/NAME.py:ARGS."""
    path, arg = split_config(config_path)
    name = path.stem + (f'-{arg}' if arg else '')
    return Path('runs') / re.sub(r'[^\w.=-]+', '-', name)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; errors in them are printed as one line, without a traceback.

    `--config=FILE.py:ARGS` is read first and completed with the defaults of every section, so that any field can be set
    on the command line. Without it the config is that of the run in `--workdir`; tools need neither.
    """
    try:
        argv = join_values(argv)
    except _BadCommand as error:
        sys.exit(f'{error}\n{_HINT}')
    words = [re.sub('^--?', '', word) for word in argv[1:] if word.startswith('-')]
    if {'help', 'helpfull', 'helpshort'} & set(words):
        flags.DEFINE_string('config', None, 'Config file and its arguments, FILE.py:ARGS; see configs/.')
        return flags.FLAGS(argv)
    given = dict(word.split('=', 1) for word in words if re.match('(config|workdir|mode)=', word))
    try:
        config = full_config(given, words)
        for word in words:
            if word.startswith('config.'):
                check_field(config, word.partition('=')[0].removeprefix('config.'))
        rest = [word for word in argv if not re.match('--?config=', word)]
        config_flags.DEFINE_config_dict('config', ConfigDict(config), sys_argv=rest)
        return flags.FLAGS(rest)
    except (flags.Error, ValueError, TypeError, ArithmeticError, LookupError, OSError, SyntaxError) as error:
        sys.exit(f'{str(error).strip()}\n{_HINT}')


def join_values(argv: list[str]) -> list[str]:
    """`--config X`, `--workdir X` and `--mode X` as `--config=X`, `--workdir=X` and `--mode=X`.

    Raises:
      ValueError: one of them without a value, at the end or before another flag.
    """
    joined: list[str] = []
    for word in [*argv, '--']:
        if joined and re.fullmatch('--?(config|workdir|mode)', joined[-1]):
            if word.startswith('--'):
                raise _BadCommand(f'{joined[-1]}: its value is missing; write {joined[-1]}=VALUE')
            joined[-1] += f'={word}'
        else:
            joined.append(word)
    return joined[:-1]


def full_config(given: dict[str, str], words: list[str]) -> dict[str, Any]:
    """The config before overrides, with the defaults of every section.

    Args:
      given: the flags `config`, `workdir` and `mode`, where they are given.
      words: all flags without their dashes.

    Raises:
      ValueError: an unknown mode, no config where one is needed, or a config that cannot be read.
    """
    from productgen.config import choose, complete
    from productgen.config.paths import user_path
    from productgen.model.config import SECTIONS, check_sections, complete_config
    from productgen.model.workdir import read_json
    from productgen.tasks import TASKS

    task = choose(TASKS, given.get('mode', 'train'), '--mode')
    config: dict[str, Any] = {}
    if 'config' in given:
        config = load_config(given['config'])
    elif 'workdir' in given and task.needs != 'nothing':
        config = read_json(user_path(given['workdir'], '--workdir'))
    elif task.needs == 'data':
        raise _BadCommand('--config=configs/NAME.py is missing (or give the --workdir=DIR of a run)')
    elif task.needs == 'run':
        raise _BadCommand(f'--workdir=DIR of a run is missing; --mode={given["mode"]} needs one')
    tools = {name: task.section for name, task in TASKS.items() if name not in SECTIONS}
    check_sections(config, tuple(tools))
    full = {name: complete(section, config.get(name, {}), name) for name, section in tools.items()}
    if config:
        # The fields that there are depend on these two.
        for section in ('method', 'model'):
            name = next((w.partition('=')[2] for w in words if w.startswith(f'config.{section}.name=')), '')
            config = {**config, section: {**config.get(section, {}), 'name': name}} if name else config
        full |= complete_config({name: x for name, x in config.items() if name not in tools})
    return full


def load_config(name: str) -> dict[str, Any]:
    """What the config file of FILE.py:ARGS states, as plain dicts.

    Raises:
      ValueError: there is no such file, or it fails; the message names the line.
    """
    from productgen.config import UserError

    path, arg = split_config(name)
    if not path.is_file():
        raise _BadCommand(f'--config={name}: there is no file {path}')
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config(arg) if arg else module.get_config()
        return config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    except (UserError, SyntaxError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a user's own code raises
        frames = (f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__)
        lines = [f'\n  {f.filename}, line {f.lineno}: {f.line}' for f in frames if f.filename[0] != '<']
        raise _BadCommand(f'--config={name}: {type(error).__name__}: {error}' + ''.join(lines)) from error


def check_field(config: dict[str, Any], path: str) -> None:
    """Raises a ValueError with the nearest name if a config has no field `path`."""
    from productgen.config import nearest

    seen = ''
    for name in path.split('.'):
        if not isinstance(config, dict) or name not in config:
            hint = nearest(name, config) if isinstance(config, dict) else '; it is a value, not a section'
            raise _BadCommand(f'--config.{seen}{name}: no such field{hint}')
        config, seen = config[name], f'{seen}{name}.'


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f'Unknown argument {argv[1]!r}: every setting is a flag, --name=value')
    import jax
    from absl import logging as absl_logging

    from productgen.config import UserError
    from productgen.core.files import DISK_ERRORS, describe_disk
    from productgen.data.cache import cache_dir
    from productgen.tasks import TASKS
    from productgen.train.log import start_console

    # Tracing makes objects by the million and hardly any garbage: searching them for cycles only delays the start.
    gc.freeze()
    gc.set_threshold(100_000)
    absl_logging.set_verbosity(absl_logging.WARNING)
    try:
        jax.config.update('jax_compilation_cache_dir', str(cache_dir() / 'compiled'))
    except UserError as error:
        sys.exit(f'Error: {error}')
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
    if bool(_COORDINATOR.value and _COORDINATOR.value != 'auto') != (None not in (_PROCESSES.value, _PROCESS.value)):
        sys.exit('--coordinator=HOST:PORT, --num_processes and --process_id go together')
    if _COORDINATOR.value == 'auto':
        jax.distributed.initialize()
    elif _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    start_console(jax.process_index() == 0)
    task = TASKS[_MODE.value]
    if _DRY_RUN.value and _MODE.value != 'train':
        sys.exit(f'--dry_run describes a training; --mode={_MODE.value} checks everything before it starts anyway')
    try:
        task.run(request())
    except UserError as error:
        logging.getLogger('productgen').debug('', exc_info=True)
        sys.exit(f'Error: {error}')
    except OSError as error:
        logging.getLogger('productgen').debug('', exc_info=True)
        disk = describe_disk(Path(os.fsdecode(error.filename))) if isinstance(error.filename, (str, bytes)) else ''
        what = f'{error.filename or "a file"} cannot be used: {error.strerror or error}'
        sys.exit(f'Error: {what}' + (f'; {disk}' if disk and error.errno in DISK_ERRORS else ''))
    except KeyboardInterrupt:
        sys.exit('Interrupted')


def request():
    """The parsed command line as a `productgen.tasks.Request`.

    Raises:
      UserError: something in the config does not exist or cannot be used.
    """
    from productgen.config import build, to_dict
    from productgen.config.paths import user_path
    from productgen.model.config import SECTIONS, resolve
    from productgen.tasks import TASKS, Request

    values, name = to_dict(flags.FLAGS['config'].value), _MODE.value
    tools = [other for other in TASKS if other not in SECTIONS]
    config = resolve({key: x for key, x in values.items() if key not in tools}) if 'method' in values else None
    section = build(TASKS[name].section, values[name], name)
    path = next((w.partition('=')[2] for w in join_values(sys.argv) if re.match('--?config=', w)), '')
    paths = {
        flag.name: user_path(flag.value, f'--{flag.name}') if flag.value else None
        for flag in (_WORKDIR, _INPUT, _OUTPUT)
    }
    paths['workdir'] = paths['workdir'] or (default_workdir(path) if path else None)
    given = {'accept_change': _ACCEPT.value, 'dry_run': _DRY_RUN.value, 'compare': _COMPARE.value}
    return Request(section, config, **given, **paths)


def escape_output() -> None:
    """Lets the terminal escape what it cannot show, such as file names that are not UTF-8, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


if __name__ == '__main__':
    escape_output()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.path.insert(0, str(ROOT))
    app.run(main, flags_parser=parse_flags)
