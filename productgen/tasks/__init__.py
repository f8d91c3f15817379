"""What the launcher can do, by mode: one file a task."""

from productgen.tasks import cutout, enhance, evaluate, restore, sample, train, translate
from productgen.tasks.base import Request, Task

TASKS: dict[str, Task] = {
    'train': train.TASK,
    'sample': sample.TASK,
    'eval': evaluate.TASK,
    'translate': translate.TASK,
    'cutout': cutout.TASK,
    'enhance': enhance.TASK,
    'restore': restore.TASK,
}

__all__ = ['TASKS', 'Request', 'Task']
