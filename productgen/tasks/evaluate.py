"""`--mode=eval`: measures what a run generates, predicts or translates, or a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from productgen.config.paths import user_path
from productgen.config.sections import EvalConfig
from productgen.core.files import naming
from productgen.evaluation import evaluate
from productgen.tasks.base import Request, Task


def run(request: Request) -> None:
    """Writes `report.json` and `report.html`.

    Raises:
      UserError: a path with the `~USER` of no user, or see `evaluate`.
      OSError: a file cannot be written; it names the file, or the folder of the report.
    """
    settings: EvalConfig = request.settings
    for field in ('images', 'originals'):
        user_path(getattr(settings, field), f'eval.{field}')
    with naming(user_path(settings.out, 'eval.out') if settings.out else Path(request.workdir or '.', 'eval')):
        evaluate(request.config, request.workdir, request.accept_change)


TASK = Task('measure a run, or the pictures in --config.eval.images', EvalConfig, run, 'data')
