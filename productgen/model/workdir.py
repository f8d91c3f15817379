"""The folder of a run: its config, the facts of its data, the versions it ran with, its checkpoints, and its lock."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from productgen.config import UserError, difference
from productgen.config.paths import user_path
from productgen.core.checkpoint import CheckpointError, Checkpoints, has_checkpoint
from productgen.core.files import naming, write_durably
from productgen.data.facts import Facts
from productgen.data.labels import LabelTable
from productgen.model.config import Config, resolve
from productgen.model.environment import environment

_log = logging.getLogger('productgen')


_KINDS = {'source': str, 'digest': str, 'columns': dict, 'frozen': dict}  # of data.json
_AGAIN = 'the training command with the whole --config and --accept_config_change writes it again'


def _load(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a run.

    Raises:
      FileNotFoundError: there is none.
      UserError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(str(path), f'not readable ({error.strerror})') from None
    except (ValueError, RecursionError) as error:
        what = f'not JSON: {error}' if path.stat().st_size else 'it is empty'
        raise UserError(str(path), f'not readable ({what})', _AGAIN) from None
    if not isinstance(value, dict):
        raise UserError(str(path), 'not readable (it holds no JSON object)', _AGAIN)
    return value


def read_json(workdir: Path) -> dict[str, Any]:
    """The values of a run's config.json as they are.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = workdir / 'config.json'
    try:
        values = _load(path)
    except FileNotFoundError:
        if has_checkpoint(workdir):
            raise UserError(str(path), 'missing, and there are checkpoints of a run in the folder', _AGAIN) from None
        raise UserError(f'--workdir={workdir}', 'there is no run in it (no config.json)') from None
    if 'method' not in values:
        raise UserError(str(path), 'not readable (it is no config of a run: it has no method)', _AGAIN)
    return values


def read_config(workdir: Path) -> Config:
    """The config of a run; fields that did not exist when it was made have their defaults.

    Raises:
      UserError: there is none, or it cannot be used.
    """
    return resolve(read_json(workdir))


def read_facts(workdir: Path) -> Facts:
    """The facts of a run's training set, as `write_workdir` left them.

    Raises:
      UserError: there are none, or they cannot be read.
    """
    about = _about_data(workdir)
    try:
        columns = {name: (int(h), int(w), int(c)) for name, (h, w, c) in about.get('columns', {}).items()}
    except (TypeError, ValueError):
        raise UserError(str(workdir / 'data.json'), 'not readable (its columns are no shapes)', _AGAIN) from None
    return Facts(_read_labels(workdir), columns, _digest(about))


def _read_labels(workdir: Path) -> LabelTable:
    path = workdir / 'labels.json'
    try:
        table = LabelTable.from_json(_load(path))
        if not len(table.counts):
            raise ValueError('it has no rows')
    except FileNotFoundError:
        raise UserError(
            f'--workdir={workdir}', 'there is no run in it that has begun to train (no labels.json)', _AGAIN
        ) from None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(str(path), f'not readable (no table of labels: {error})', _AGAIN) from None
    return table


def _about_data(workdir: Path) -> dict[str, Any]:
    """What data.json says; nothing in a run of an early version, which has none."""
    path = workdir / 'data.json'
    try:
        about = _load(path)
    except FileNotFoundError:
        return {}
    wrong = [name for name, kind in _KINDS.items() if not isinstance(about.get(name, kind()), kind)]
    if wrong:
        raise UserError(str(path), f'not readable ({wrong[0]} is {about[wrong[0]]!r})', _AGAIN)
    return about


def _digest(about: dict[str, Any]) -> str:
    """The digest of a run's data; empty where it is unknown, as in early runs on the catalog, which hashed its code."""
    digest = about.get('digest', '')
    return '' if about.get('source') == 'catalog' and len(digest) == 64 else digest


def _write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    write_durably(path, json.dumps(value, indent=indent) + '\n')


def config_changes(workdir: Path, config: Config, same_pictures: bool = False) -> list[str]:
    """Lines for what differs from the config of the run in a workdir, of what training depends on.

    Args:
      workdir: of the run.
      config: another config.
      same_pictures: the pictures of both are known to be the same, so that their place does not matter.
    """
    old, new = read_config(workdir), config
    alike = {'cache_gb': old.data.cache_gb, 'workers': old.data.workers}  # memory and threads
    if same_pictures and old.data.source.partition(':')[0] == new.data.source.partition(':')[0]:
        alike['source'] = old.data.source
    new = dataclasses.replace(new, data=dataclasses.replace(new.data, **alike))
    return difference(old.training(), new.training())


def label_changes(workdir: Path, table: LabelTable) -> list[str]:
    """Lines for what differs from the labels of the run in a workdir."""
    old = _read_labels(workdir).to_json()['attributes']
    return difference(old, table.to_json()['attributes'], 'labels: ')


def check_workdir(workdir: Path, config: Config, facts: Facts, frozen: Mapping[str, str], accept: bool) -> None:
    """Checks that a workdir is new, or holds a run of this config and data.

    Args:
      workdir: the folder.
      config: of the run.
      facts: of its training set; photos that came, went or changed make another run.
      frozen: digests of the weights that are only read, by name.
      accept: let config and data differ.

    Raises:
      UserError: it holds a run with another config or other data, or other files.
    """
    field, path = f'--workdir={workdir}', workdir / 'config.json'
    if not path.exists() and not has_checkpoint(workdir):
        if workdir.exists() and any(c.name != '.lock' and c.suffix != '.tmp' for c in workdir.iterdir()):
            raise UserError(field, 'there are files in it but no run', 'choose an empty or a new folder')
        return

    def settings_changes() -> list[str]:
        return config_changes(workdir, config, _has_pictures(workdir, facts))

    def data_changes() -> list[str]:
        about = _about_data(workdir)
        moved = _digest(about) not in ('', facts.digest)
        lines = [f'data.source: the pictures of {config.data.source} have changed'] if moved else []
        return lines + difference(about.get('frozen', frozen), frozen, 'weights: ')

    def table_changes() -> list[str]:
        return label_changes(workdir, facts.labels) if (workdir / 'labels.json').exists() else []

    lines = []
    for compare, then in (
        (settings_changes, 'the checkpoints are resumed with --config'),
        (data_changes, 'it is written again'),
        (table_changes, 'it is written again'),
    ):
        try:
            lines += compare()
        except UserError as error:  # what cannot be read cannot be compared
            lines.append(f'{error.field}: {error.reason}')
            if accept:
                _log.warning('%s: %s; %s.', error.field, error.reason, then)
    if lines and not accept:
        raise UserError(
            field,
            'it holds a run with another config or other data:\n  ' + '\n  '.join(lines) + '\n',
            'Choose another --workdir, or add --accept_config_change to resume it with the new config.',
        )


def _has_pictures(workdir: Path, facts: Facts) -> bool:
    """Whether the run in a workdir is known to have been trained on the pictures of these facts."""
    try:
        return _digest(_about_data(workdir)) == facts.digest != ''
    except UserError:
        return False


def write_workdir(workdir: Path, config: Config, facts: Facts, frozen: Mapping[str, str]) -> None:
    """Writes what a run is made of. An earlier config that differs is kept as config.N.json.

    Args:
      workdir: the folder, which is made.
      config: goes into config.json.
      facts: go into labels.json and data.json.
      frozen: digests of the weights that are only read; they go into data.json.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path, values = workdir / 'config.json', config.to_json()
    if path.exists() and path.stat().st_size and not _holds(path, values):
        shutil.copy(path, workdir / f'config.{len(list(workdir.glob("config.*.json")))}.json')
    _write_json(path, values)
    about = {'source': config.data.source, 'digest': facts.digest, 'columns': facts.columns, 'frozen': dict(frozen)}
    _write_json(workdir / 'data.json', about)
    _write_json(workdir / 'labels.json', facts.labels.to_json(), indent=None)


def _holds(path: Path, values: dict[str, Any]) -> bool:
    """Whether a JSON file can be read and has these values."""
    try:
        return _load(path) == values
    except UserError:
        return False


def write_environment(workdir: Path) -> None:
    """Adds a line with versions, git revision and devices to environment.jsonl."""
    path = workdir / 'environment.jsonl'
    with naming(path), open(path, 'a', encoding='utf-8') as file:
        file.write(json.dumps(environment()) + '\n')


def parse_run(text: str, field: str) -> tuple[Path | None, int]:
    """`WORKDIR`, `WORKDIR:STEP` or `:STEP` as a folder, None for the run itself, and a step: 0 newest, -1 best.

    A folder that exists is meant as a whole, such as `2026-11-26_18:05`.

    Raises:
      UserError: another negative step, or `~USER` without such a user.
    """
    text = text.strip()
    if text and user_path(text, field).is_dir():
        return user_path(text, field), 0
    folder, _, step = re.fullmatch(r'(.*?)(:(-?\d+))?', text, re.DOTALL).groups()
    if int(step or 0) < -1:
        raise UserError(f'{field}={text}', f'{step} is no step', '0 is the newest checkpoint, -1 the best')
    return (user_path(folder, field) if folder else None), int(step or 0)


def checkpoints_of(workdir: Path, step: int) -> tuple[Checkpoints, int | None]:
    """The checkpoints of a run, read-only, that have a step of `parse_run`, and the step for its methods.

    Raises:
      CheckpointError: there is none.
    """
    name = 'best' if step == -1 else 'checkpoints'
    if not (workdir / name).is_dir():
        what, hint = ('best ', 'train.stop_on keeps one') if step == -1 else ('', '')
        raise CheckpointError(str(workdir), f'there is no {what}checkpoint in it yet', hint)
    return Checkpoints(workdir, writing=False, folder=name), step if step > 0 else None


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the workdir for this process; the lock ends with the process, however it ends.

    Raises:
      UserError: another process holds it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / '.lock', 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f'--workdir={workdir}', 'another process is using it') from None
        except OSError as error:
            _log.warning('%s cannot be locked (%s): make sure that no other process trains there', workdir, error)
        yield
