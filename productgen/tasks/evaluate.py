"""`--mode=eval`: measures what a run generates, predicts or translates, or a folder of pictures."""

from __future__ import annotations

from productgen.config.sections import EvalConfig
from productgen.evaluation import evaluate
from productgen.tasks.base import Request, Task


def run(request: Request) -> None:
    """Writes `report.json` and `report.html`."""
    evaluate(request.config, request.workdir, request.accept_change)


TASK = Task('measure a run, or the pictures in --config.eval.images', EvalConfig, run, 'data')
