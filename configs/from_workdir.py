"""The config of an existing run: `--config=configs/from_workdir.py:RUNS/DIR`; --mode=sample takes it by itself."""

import json
import pathlib

from ml_collections import ConfigDict


def get_config(workdir: str) -> ConfigDict:
    path = pathlib.Path(workdir) / 'config.json'
    if not path.is_file():
        raise ValueError(f'--workdir={workdir}: there is no run in it (no config.json)')
    return ConfigDict(json.loads(path.read_text()))
