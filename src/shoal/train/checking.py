"""What is wrong with a call of `fit` or `resume`, said before anything is started or recorded."""

import inspect
from collections.abc import Sequence

from shoal.base import ConfigError, InputError
from shoal.data import Dataset
from shoal.train.adapters.module import ModuleTask
from shoal.train.early_stopping import EarlyStopping
from shoal.train.task import Task


def check_task_given(task: object) -> Task:
    """The task itself.

    Raises:
        InputError: it is none.
    """
    if isinstance(task, Task):
        return task
    if inspect.isclass(task) and issubclass(task, Task):
        raise InputError(
            f"cannot train {task.__qualname__}: it is a class, expected a task made of it",
            next_step=f"write {task.__qualname__}()",
        )
    raise InputError(
        f"cannot train {task!r:.200}: it is a {type(task).__name__}, expected a Task",
        next_step="subclass shoal.Task, or wrap a module by shoal.Task.of(module, ...)",
    )


def check_stopping(early_stopping: object, *, is_validated: bool) -> None:
    """Return when a run can be stopped early as asked for.

    Raises:
        InputError: what was given is no `EarlyStopping`.
        ConfigError: nothing would be measured to stop by.
    """
    if early_stopping is None:
        return
    if not isinstance(early_stopping, EarlyStopping):
        patience = f"patience={early_stopping}" if type(early_stopping) is int else "patience=3"
        raise InputError(
            f"early_stopping={early_stopping!r:.200} is a {type(early_stopping).__name__}, expected an EarlyStopping",
            next_step=f"write early_stopping=shoal.train.EarlyStopping({patience})",
        )
    if not is_validated:
        raise ConfigError(
            f"cannot stop early by {early_stopping.monitor!r}: validation= is missing, so nothing is measured",
            next_step="give validation=..., a dataset to measure on, or leave early_stopping out",
        )


def check_columns(task: Task, *sources: object) -> None:
    """Return when the datasets have the columns that a task made by `Task.of` names.

    Raises:
        ConfigError: one of them lacks one.
    """
    if not isinstance(task, ModuleTask):
        return
    for dataset in sources:
        # What a DataLoader yields is known once it has been asked for it.
        if not isinstance(dataset, Dataset):
            continue
        known = [name for column in dataset.schema.columns for name in (column.name, *column.companions)]
        for name in (*task.columns, task.target):
            if name not in known:
                raise ConfigError(
                    f"cannot train on {dataset.address}: the task names the column {name!r}, the dataset has "
                    f"{', '.join(known)}",
                    next_step="correct inputs= or target= of Task.of(...)",
                )


def board_names(report_to: str | Sequence[str]) -> tuple[str, ...]:
    """The names of who else is told the metrics; one may stand alone."""
    return (report_to,) if isinstance(report_to, str) else tuple(report_to)
