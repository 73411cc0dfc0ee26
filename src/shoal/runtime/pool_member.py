"""What a pool's worker runs: one function after another, until it is told to stop."""

from shoal.runtime.answers import run_task
from shoal.runtime.context import Context


def run_tasks(context: Context) -> None:
    """Run each pickled (function, args, kwargs) that comes, and report its pickled end."""
    while (task := context.receive()) is not None:
        context.report(run_task(task))
