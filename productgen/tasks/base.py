"""What a task of the launcher is, and what it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from productgen.model.config import Config


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
      settings: the typed section of the task.
      config: the config of a run; None for tasks that need none.
      workdir: of a run; None where none was given or is implied by the config.
      accept_change: `--accept_config_change`.
      dry_run: `--dry_run`: check and describe only.
      input: `--input`, a file or folder; None without.
      output: `--output`, a folder; None without.
      compare: `--compare`: also write sheets of before and after.
    """

    settings: Any
    config: Config | None = None
    workdir: Path | None = None
    accept_change: bool = False
    dry_run: bool = False
    input: Path | None = None
    output: Path | None = None
    compare: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A mode of the launcher.

    Attributes:
      summary: a line for `--help`.
      section: dataclass of its config section, which has the task's name in `productgen.tasks.TASKS`.
      run: does it.
      needs: `data`, a config (`--config`, or that of the run in `--workdir`); `run`, a trained run in `--workdir`;
        `nothing`, the section's own defaults.
    """

    summary: str
    section: type
    run: Callable[[Request], Any]
    needs: Literal['data', 'run', 'nothing']
