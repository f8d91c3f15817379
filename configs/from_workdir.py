"""The config of an existing run, as its `config.json` states it; missing sections and fields take their defaults.

  python launch.py --config=configs/from_workdir.py:RUNS/DIR --workdir=NEW    train again with the same settings

`--mode=sample` and `--mode=eval` read it for their --workdir without --config.
"""

import json
import pathlib

from ml_collections import ConfigDict

from productgen.config import UserError


def get_config(workdir: str = '') -> ConfigDict:
    """Reads `config.json` of a run; argument: its workdir.

    Raises:
      UserError: there is no such file, or it is not JSON.
    """
    if not workdir:
        raise UserError('--config=configs/from_workdir.py', 'name the run: configs/from_workdir.py:RUNS/DIR')
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise UserError(f'--workdir={workdir}', 'there is no run in it (no config.json)')
    try:
        return ConfigDict(json.loads(path.read_text()))
    except ValueError as error:
        raise UserError(str(path), f'not readable as JSON ({error})') from None
