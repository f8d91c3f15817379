"""Trains, samples and measures generators of product images.

  python launch.py --config=configs/stylegan.py                         train on the embedded data set
  python launch.py --config=configs/stylegan.py:quick                   the same in a few minutes
  python launch.py --config=configs/stylegan.py --workdir=runs/mine --config.data.source=folder:PATH
  python launch.py --mode=sample --workdir=runs/mine --config.sample.seeds=0-15
  python launch.py --mode=eval --workdir=runs/mine --config.eval.features=runs/classifier

Any field of the config can be set as --config.section.field=value. Running a command again goes on where it stopped.
"""

import importlib.util
import logging
import os
import re
import sys
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parent
MODES = ('train', 'sample', 'eval')
_CONFIG = config_flags.DEFINE_config_file('config', None, 'Config file and its arguments, FILE.py:ARGS; see configs/.')
_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder of the run; by default runs/ and the name of the config.')
_MODE = flags.DEFINE_enum('mode', 'train', MODES, 'What to do.')
_DRY_RUN = flags.DEFINE_bool('dry_run', False, 'Check everything, print sizes and costs, and do nothing.')
_ACCEPT = flags.DEFINE_bool('accept_config_change', False, 'Go on from a workdir that was made with another config.')
_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, 'Several processes: HOST:PORT of the first; `auto` on a TPU pod.'
)
_PROCESSES = flags.DEFINE_integer('num_processes', None, 'Several processes: how many.')
_PROCESS = flags.DEFINE_integer('process_id', None, 'Several processes: which one this is.')


def default_workdir(config_path: str) -> Path:
    """runs/NAME for configs/NAME.py, runs/NAME-ARGS for configs/NAME.py:ARGS."""
    path, _, arg = config_path.partition(':')
    name = Path(path).stem + (f'-{arg}' if arg else '')
    return Path('runs') / re.sub(r'[^\w.=-]+', '-', name)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; what is wrong with them is said in a line, not in a traceback.

    Without --config, the config is the workdir's own.
    """
    argv = join_values(argv)
    words = [re.sub('^--?', '', word) for word in argv[1:] if word.startswith('-')]
    if {'help', 'helpfull', 'helpshort'} & set(words):
        return flags.FLAGS(argv)
    chosen = next((w for w in words if w.startswith('config=')), '')
    if not chosen:
        workdir = next((w.partition('=')[2] for w in words if w.startswith('workdir=')), '')
        if not workdir:
            sys.exit('--config=configs/NAME.py is missing (or give the --workdir=DIR of a run, as for --mode=sample)')
        chosen = f'config={ROOT}/configs/from_workdir.py:{workdir}'
        argv = [argv[0], f'--{chosen}', *argv[1:]]
    try:
        config = load_config(chosen.removeprefix('config='))
        for word in words:
            if word.startswith('config.'):
                check_field(config, word.partition('=')[0].removeprefix('config.'))
        return flags.FLAGS(argv)
    except (flags.Error, ValueError, TypeError, ArithmeticError, LookupError, OSError, SyntaxError) as error:
        sys.exit(f'{str(error).strip()}\n(python launch.py --help tells what there is)')


def join_values(argv: list[str]) -> list[str]:
    """`--config X` and `--workdir X` as `--config=X` and `--workdir=X`."""
    joined = []
    for word in argv:
        if joined and re.fullmatch('--?(config|workdir)', joined[-1]):
            joined[-1] += f'={word}'
        else:
            joined.append(word)
    return joined


def load_config(name: str) -> ConfigDict:
    """The config of FILE.py:ARGS before overrides."""
    path, _, arg = name.partition(':')
    if not Path(path).is_file():
        raise ValueError(f'--config={name}: there is no file {path}')
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(arg) if arg else module.get_config()


def check_field(config, path: str) -> None:
    """Raises a ValueError with the nearest name if a config has no field `path`."""
    seen = ''
    for name in path.split('.'):
        if not hasattr(config, 'keys') or name not in config:
            from productgen.config import nearest

            hint = nearest(name, config.keys()) if hasattr(config, 'keys') else '; it is a value, not a section'
            raise ValueError(f'--config.{seen}{name}: no such field{hint}')
        config, seen = config[name], f'{seen}{name}.'


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        sys.exit(f'Unknown argument {argv[1]!r}: every setting is a flag, --name=value')
    import jax
    from absl import logging as absl_logging

    from productgen.config import UserError, to_dict
    from productgen.core.checkpoint import CheckpointError
    from productgen.data import DataError
    from productgen.data.cache import cache_dir
    from productgen.train.log import start_logging
    from productgen.train.watch import NotFiniteError

    absl_logging.set_verbosity(absl_logging.WARNING)
    jax.config.update('jax_compilation_cache_dir', str(cache_dir() / 'compiled'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 1.0)
    if bool(_COORDINATOR.value and _COORDINATOR.value != 'auto') != (None not in (_PROCESSES.value, _PROCESS.value)):
        sys.exit('--coordinator=HOST:PORT, --num_processes and --process_id go together')
    if _COORDINATOR.value == 'auto':
        jax.distributed.initialize()
    elif _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    start_logging(None, jax.process_index() == 0)
    config = to_dict(_CONFIG.value)
    workdir = Path(_WORKDIR.value) if _WORKDIR.value else default_workdir(flags.FLAGS['config'].config_filename)
    if _DRY_RUN.value and _MODE.value != 'train':
        sys.exit(f'--dry_run describes a training; --mode={_MODE.value} checks everything before it begins anyway')
    try:
        if _DRY_RUN.value:
            from productgen.train.describe import describe

            print(describe(config))
        elif _MODE.value == 'train':
            from productgen.train.loop import train

            train(config, workdir, _ACCEPT.value)
        elif _MODE.value == 'sample':
            from productgen.tasks.sample import sample

            sample(config, workdir)
        else:
            from productgen.evaluation import evaluate

            evaluate(config, workdir, _ACCEPT.value)
    except (UserError, DataError, CheckpointError, NotFiniteError) as error:
        logging.getLogger('productgen').debug('', exc_info=True)
        sys.exit(f'Error: {error}')
    except OSError as error:
        logging.getLogger('productgen').debug('', exc_info=True)
        sys.exit(f'Error: {error.filename or "a file"} cannot be used: {error.strerror or error}')
    except KeyboardInterrupt:
        sys.exit('Interrupted')


if __name__ == '__main__':
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    sys.path.insert(0, str(ROOT))
    app.run(main, flags_parser=parse_flags)
