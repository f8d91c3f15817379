"""The folder of a run: its config, the versions it ran with, and the lock that keeps a second run out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from productgen.config import UserError, difference
from productgen.core.checkpoint import CheckpointError, Checkpoints
from productgen.data.labels import LabelTable
from productgen.model.environment import environment

_log = logging.getLogger('productgen')


def read_config(workdir: Path) -> dict[str, Any]:
    """The config a workdir was made with.

    Raises:
      UserError: there is none.
    """
    path = workdir / 'config.json'
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f'--workdir={workdir}', 'there is no run in it (no config.json)') from None
    except ValueError as error:
        raise UserError(f'{path}', f'not readable as JSON ({error})') from None


def _write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    temporary = path.with_name(path.name + '.tmp')
    temporary.write_text(json.dumps(value, indent=indent) + '\n')
    os.replace(temporary, path)


def config_changes(workdir: Path, config: Mapping[str, Any]) -> list[str]:
    """Lines for what differs from the config of the run in a workdir.

    The sections `sample` and `eval` may differ: no weight depends on them, only what is shown and measured. A switch
    that is off is no difference to a run from before there was one.
    """
    trained = lambda c: {name: section for name, section in c.items() if name not in ('sample', 'eval')}
    old = trained(read_config(workdir))
    return difference(old, _without_new_switches(old, trained(config)))


def _without_new_switches(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in new.items() if name in old or value is not False}
    deeper = lambda name, value: isinstance(value, Mapping) and isinstance(old.get(name), Mapping)
    return {n: _without_new_switches(old[n], value) if deeper(n, value) else value for n, value in kept.items()}


def label_changes(workdir: Path, table: LabelTable) -> list[str]:
    """Lines for what differs from the labels of the run in a workdir."""
    return difference(read_labels(workdir).to_json()['attributes'], table.to_json()['attributes'], 'labels: ')


def check_workdir(workdir: Path, config: Mapping[str, Any], digest: str, table: LabelTable, accept: bool) -> None:
    """Checks that a workdir is new, or holds a run of this config and data.

    Args:
      workdir: the folder.
      config: of the run.
      digest: of the data source; photos that came, went or changed are another run.
      table: the labels of the training set.
      accept: let config and data differ.

    Raises:
      UserError: it holds a run with another config or other data, or other files.
    """
    if not (workdir / 'config.json').exists():
        if workdir.exists() and any(c.name != '.lock' and c.suffix != '.tmp' for c in workdir.iterdir()):
            raise UserError(f'--workdir={workdir} has files in it but no run; choose an empty or a new folder')
        return
    lines = config_changes(workdir, config)
    if read_digest(workdir) not in ('', digest):
        lines.append(f'data.source: the pictures of {config["data"]["source"]} are not what they were')
    if (workdir / 'labels.json').exists():
        lines += label_changes(workdir, table)
    if lines and not accept:
        raise UserError(
            f'--workdir={workdir} holds a run with another config or other data:\n  '
            + '\n  '.join(lines)
            + '\nChoose another --workdir, or add --accept_config_change to go on from it with the new config.'
        )


def write_workdir(workdir: Path, config: Mapping[str, Any], digest: str, table: LabelTable) -> None:
    """Writes down what a run is: config, data digest, labels. An earlier, other config is kept as config.N.json."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / 'config.json'
    if path.exists() and read_config(workdir) != config:
        shutil.copy(path, workdir / f'config.{len(list(workdir.glob("config.*.json")))}.json')
    _write_json(path, config)
    _write_json(workdir / 'data.json', {'source': config['data']['source'], 'digest': digest})
    _write_json(workdir / 'labels.json', table.to_json(), indent=None)


def write_environment(workdir: Path) -> None:
    """Adds a line with versions, git revision and devices to environment.jsonl."""
    with open(workdir / 'environment.jsonl', 'a') as file:
        file.write(json.dumps(environment()) + '\n')


def read_digest(workdir: Path) -> str:
    """The digest of a run's data source; empty where none was written down."""
    path = workdir / 'data.json'
    return json.loads(path.read_text())['digest'] if path.exists() else ''


def read_labels(workdir: Path) -> LabelTable:
    """The labels of the training set of a run, as `write_workdir` left them.

    Raises:
      UserError: there are none.
    """
    path = workdir / 'labels.json'
    try:
        return LabelTable.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        raise UserError(
            f'--workdir={workdir}', 'there is no run in it that has begun to train (no labels.json)'
        ) from None
    except (ValueError, KeyError) as error:
        raise UserError(f'{path}', f'not readable ({error})', 'the training command writes it again') from None


def parse_run(text: str, field: str) -> tuple[Path | None, int]:
    """`WORKDIR`, `WORKDIR:STEP` or `:STEP` as a folder, None for this very run, and a step: 0 newest, -1 best.

    Raises:
      UserError: another negative step.
    """
    folder, _, step = re.fullmatch(r'(.*?)(:(-?\d+))?', text.strip()).groups()
    if int(step or 0) < -1:
        raise UserError(f'{field}={text}', f'{step} is no step', '0 is the newest checkpoint, -1 the best')
    return (Path(folder).expanduser() if folder else None), int(step or 0)


def checkpoints_of(workdir: Path, step: int) -> tuple[Checkpoints, int | None]:
    """The checkpoints of a run, to be read only, that have a step of `parse_run`, and the step for its methods.

    Raises:
      CheckpointError: there is none.
    """
    name = 'best' if step == -1 else 'checkpoints'
    if not (workdir / name).is_dir():
        hint = '; train.stop_on is what keeps a best one' if step == -1 else ''
        raise CheckpointError(f'There is no {"best " if step == -1 else ""}checkpoint in {workdir} yet{hint}')
    return Checkpoints(workdir, writing=False, folder=name), step if step > 0 else None


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the workdir for this process; the lock goes with the process, however it ends.

    Raises:
      UserError: another process is at work there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'{workdir}', 'another process is at work there') from None
        except OSError as error:
            _log.warning('%s cannot be locked (%s): take care that no other process trains there', workdir, error)
        yield
