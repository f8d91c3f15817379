"""The folder of a run: its config, the versions it ran with, and the lock that keeps a second run out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from productgen.config import ConfigError, difference
from productgen.labels import LabelTable
from productgen.log import environment


def read_config(workdir: Path) -> dict[str, Any]:
    """The config a workdir was made with.

    Raises:
      ConfigError: there is none.
    """
    path = workdir / 'config.json'
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f'--workdir={workdir}: there is no run in it (no config.json)') from None
    except ValueError as error:
        raise ConfigError(f'{path}: not readable as JSON ({error})') from None


def _write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_text(json.dumps(value, indent=indent) + '\n')
    os.replace(temporary, path)


def open_workdir(workdir: Path, config: Mapping[str, Any], data_digest: str, accept_change: bool) -> None:
    """Makes the workdir, or checks that it is this config's, and writes down where and with what it runs.

    The `sample` section may differ: it does not take part in training.

    Args:
      workdir: the folder.
      config: of the run.
      data_digest: of the data source; photos that came, went or changed are another run.
      accept_change: go on from a run with another config; the old one is kept as config.N.json.

    Raises:
      ConfigError: the folder holds a run with another config, or other files.
    """
    path = workdir / 'config.json'
    if path.exists():
        trained = lambda c: {name: section for name, section in c.items() if name != 'sample'}
        lines = difference(trained(read_config(workdir)), trained(config))
        digest = workdir / 'data.json'
        if digest.exists() and json.loads(digest.read_text())['digest'] != data_digest:
            lines.append(f'data.source: the pictures of {config["data"]["source"]} are not what they were')
        if lines and not accept_change:
            raise ConfigError(
                f'--workdir={workdir} holds a run with another config or other data:\n  '
                + '\n  '.join(lines)
                + '\nChoose another --workdir, or add --accept_config_change to go on from it with the new config.'
            )
        if lines:
            shutil.copy(path, workdir / f'config.{len(list(workdir.glob("config.*.json")))}.json')
            _write_json(path, config)
    elif workdir.exists() and any(c.name != '.lock' and c.suffix != '.tmp' for c in workdir.iterdir()):
        raise ConfigError(f'--workdir={workdir} has files in it but no run; choose an empty or a new folder')
    workdir.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_json(path, config)
    _write_json(workdir / 'data.json', {'source': config['data']['source'], 'digest': data_digest})
    with open(workdir / 'environment.jsonl', 'a') as file:
        file.write(json.dumps(environment()) + '\n')


def read_labels(workdir: Path) -> LabelTable:
    """The labels of the training set of a run, as `keep_labels` left them.

    Raises:
      ConfigError: there are none.
    """
    path = workdir / 'labels.json'
    try:
        return LabelTable.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        raise ConfigError(
            f'--workdir={workdir}: there is no run in it that has begun to train (no labels.json)'
        ) from None
    except (ValueError, KeyError) as error:
        raise ConfigError(f'{path}: not readable ({error}); the training command writes it again') from None


def keep_labels(workdir: Path, table: LabelTable, accept_change: bool) -> None:
    """Writes the labels of the training set into the workdir, so that sampling needs no data set.

    Args:
      workdir: of the run.
      table: the labels.
      accept_change: let them differ from those the run began with.

    Raises:
      ConfigError: the values are not those the run began with; their codes would now mean other things.
    """
    path = workdir / 'labels.json'
    if path.exists() and not accept_change:
        lines = difference(read_labels(workdir).to_json()['attributes'], table.to_json()['attributes'])
        if lines:
            raise ConfigError(
                f'--workdir={workdir}: the labels of the data set are no longer those the run began with:\n  '
                + '\n  '.join(lines)
                + '\nBring the data set back, or choose another --workdir.'
            )
    _write_json(path, table.to_json(), indent=None)


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the workdir for this process; the lock goes with the process, however it ends.

    Raises:
      ConfigError: another process trains there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f'--workdir={workdir}: another process is training there') from None
        yield
