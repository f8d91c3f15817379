"""The config of an existing run: `--config=configs/from_workdir.py:RUNS/DIR`; --mode=sample and --mode=eval take it by
themselves."""

import json
import pathlib

from ml_collections import ConfigDict

from configs import common


def get_config(workdir: str) -> ConfigDict:
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise ValueError(f'--workdir={workdir}: there is no run in it (no config.json)')
    config = json.loads(path.read_text())
    # Runs older than the section, or than some of its fields, are without.
    return ConfigDict({**config, 'eval': {**common.eval_section(), **config.get('eval', {})}})
