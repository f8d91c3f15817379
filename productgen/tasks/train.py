"""`--mode=train`: trains the method of a config, or describes the training (`--dry_run`)."""

from __future__ import annotations

from productgen.config.sections import TrainConfig
from productgen.tasks.base import Request, Task
from productgen.train.describe import describe
from productgen.train.loop import train


def run(request: Request) -> None:
    """Trains or resumes the run in the workdir; with `--dry_run` prints data, sizes and costs instead."""
    if request.dry_run:
        print(describe(request.config))
    else:
        train(request.config, request.workdir, request.accept_change)


TASK = Task('train the method of --config, or resume the run in --workdir', TrainConfig, run, 'data')
