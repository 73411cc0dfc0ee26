"""Child processes that run functions, each started when it is first needed."""

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from shoal.base import InputError, WorkerError
from shoal.runtime.answers import Task, settle
from shoal.runtime.base import Exited, Member
from shoal.runtime.by_value import dumps
from shoal.runtime.code import Code
from shoal.runtime.pool_member import run_tasks
from shoal.runtime.process import Child
from shoal.runtime.raised import advice
from shoal.runtime.running import Launch, stop_all

P = ParamSpec("P")
R = TypeVar("R")


class LocalPool:
    """At most `size` workers; keeps the promises of `Pool`."""

    def __init__(self, size: int, *, environment: Mapping[str, str], log_folder: Path | None) -> None:
        self._size = size
        self._environment = environment
        self._log_folder = log_folder
        self._code = Code.of(run_tasks)
        self._changed = threading.Condition()
        self._waiting: deque[Task] = deque()
        # Each worker, with the task that it has or None.
        self._workers: dict[Child, Task | None] = {}
        self._is_closed = False

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Run a function in some worker, as `Pool.submit` promises."""
        task = Task(dumps((function, args, kwargs)), Future())
        with self._changed:
            if self._is_closed:
                raise InputError(
                    "cannot submit to a closed pool", next_step="submit before close(), or make a new pool"
                )
            self._waiting.append(task)
        self._hand_out()
        return task.future

    def close(self, *, cancel: bool = False) -> None:
        """Return when all is done and every worker gone, as `Pool.close` promises."""
        with self._changed:
            self._is_closed = True
            dropped = list(self._waiting) if cancel else []
            if cancel:
                self._waiting.clear()
            else:
                self._changed.wait_for(lambda: not self._waiting and not any(self._workers.values()))
            workers = list(self._workers)
        for task in dropped:
            task.future.cancel()
        stop_all(workers, grace_s=0.0 if cancel else 5.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(cancel=any(exception))

    def started(self, child: Child, host: str) -> None:
        """Nothing to do: a worker is given tasks before it is up."""

    def wait_for_room(self, child: Child) -> None:
        """Never holds an answer back: there is at most one for each worker."""

    def died(self, child: Child) -> None:
        """Nothing to do before its last answer is in."""

    def reported(self, child: Child, message: bytes) -> None:
        """Settle the future that waits for this answer, after the worker has its next task."""
        with self._changed:
            task = self._workers.get(child)
            self._workers[child] = None
            self._changed.notify_all()
        self._hand_out()
        if task is not None:
            settle(task.future, message, lambda summary, text: _task_error(child, summary, text))

    def exited(self, child: Child, event: Exited) -> None:
        """Fail the future that the worker leaves behind; its place is free for another."""
        with self._changed:
            task = self._workers.pop(child, None)
            self._changed.notify_all()
        self._hand_out()
        if task is not None:
            task.future.set_exception(event.failure or _gone_error(child))

    def _hand_out(self) -> None:
        """Give waiting tasks to free workers, and start workers while there is room for more."""
        while True:
            with self._changed:
                if not self._waiting:
                    return
                try:
                    worker = next(
                        (w for w, busy_with in self._workers.items() if busy_with is None and not w.is_dead), None
                    )
                    if worker is None and len(self._workers) < self._size:
                        worker = self._start_worker()
                except WorkerError as error:
                    if self._workers:
                        return  # One of them will take it.
                    self._waiting.popleft().future.set_exception(error)
                    continue
                if worker is None:
                    return
                task = self._waiting.popleft()
                if not task.future.set_running_or_notify_cancel():
                    continue
                self._workers[worker] = task
            # Outside the lock: a large payload takes its time.
            worker.send(task.payload)

    def _start_worker(self) -> Child:
        taken = {worker.member.rank for worker in self._workers}
        rank = next(rank for rank in range(self._size) if rank not in taken)
        worker = Child(
            Launch(
                member=Member("pool", rank),
                code=self._code,
                world_size=self._size,
                environment=self._environment,
                log_folder=self._log_folder,
            )
        )
        self._workers[worker] = None
        worker.boot()
        worker.attend(self)
        return worker


def _task_error(child: Child, summary: str, text: str) -> WorkerError:
    return WorkerError(
        f"a task failed in pool worker {child.member.rank}: {summary}",
        next_step=advice(text),
        role=child.member.role,
        rank=child.member.rank,
        host=socket.gethostname(),
        pid=child.pid,
        traceback_text=text,
    )


def _gone_error(child: Child) -> WorkerError:
    return WorkerError(
        f"pool worker {child.member.rank} ended before its task did",
        next_step="let the function return instead of ending its process, and close the pool after its futures",
        role=child.member.role,
        rank=child.member.rank,
        host=socket.gethostname(),
        pid=child.pid,
    )
