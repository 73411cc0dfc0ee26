"""Actors that run functions, each started when it is first needed.

Functions travel by value to nodes of this one cluster, which is trusted as our own processes are.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, ParamSpec, Self, TypeVar

from shoal.base import InputError, WorkerError
from shoal.runtime.answers import Task, run_task, settle
from shoal.runtime.base import Resources
from shoal.runtime.by_value import dumps
from shoal.runtime.raised import advice
from shoal.runtime.ray.connecting import actor_options, ray

P = ParamSpec("P")
R = TypeVar("R")


class _Worker:
    # Becomes an actor: what it runs is shoal's own code on the node, and only the payload travels.
    def run(self, payload: bytes) -> bytes:
        return run_task(payload)


class RayPool:
    """At most `size` actors, each with one task at a time; keeps the promises of `Pool`."""

    def __init__(self, size: int, resources: Resources, environment: Mapping[str, str]) -> None:
        self._size = size
        self._options = actor_options(resources)
        if environment:
            self._options["runtime_env"] = {"env_vars": dict(environment)}
        self._changed = threading.Condition()
        self._waiting: deque[Task] = deque()
        self._idle: dict[int, Any] = {}
        self._busy: dict[int, Any] = {}
        self._is_closed = False
        self._is_cancelled = False

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Run a function in some worker, as `Pool.submit` promises."""
        task = Task(dumps((function, args, kwargs)), Future())
        with self._changed:
            if self._is_closed:
                raise InputError(
                    "cannot submit to a closed pool", next_step="submit before close(), or make a new pool"
                )
            self._waiting.append(task)
            if len(self._busy) < self._size:
                rank = next(rank for rank in range(self._size) if rank not in self._busy)
                first = self._next_task()
                if first is not None:
                    # Busy from here on, whatever its thread is up to: so no two threads share an actor.
                    self._busy[rank] = self._idle.pop(rank, None)
                    threading.Thread(target=self._work, args=(rank, first), name="shoal-ray", daemon=True).start()
        return task.future

    def close(self, *, cancel: bool = False) -> None:
        """Return when all is done and every worker gone, as `Pool.close` promises."""
        with self._changed:
            self._is_closed = True
            dropped = list(self._waiting) if cancel else []
            if cancel:
                self._is_cancelled = True
                self._waiting.clear()
                for actor in self._busy.values():
                    _kill(actor)
        for task in dropped:
            task.future.cancel()
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            for actor in self._idle.values():
                _kill(actor)
            self._idle.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(cancel=any(exception))

    def _next_task(self) -> Task | None:
        while self._waiting:
            task = self._waiting.popleft()
            if task.future.set_running_or_notify_cancel():
                return task
        return None

    def _work(self, rank: int, task: Task | None) -> None:
        while task is not None:
            answer = self._answer(rank, task)
            with self._changed:
                following = self._next_task()
                if following is None:
                    actor = self._busy.pop(rank)
                    if actor is not None:
                        self._idle[rank] = actor
                    self._changed.notify_all()
            settle(task.future, answer, lambda summary, text: _task_error(rank, summary, text))
            task = following

    def _answer(self, rank: int, task: Task) -> bytes | WorkerError:
        try:
            return bytes(ray.get(self._actor(rank).run.remote(task.payload)))
        except Exception as error:  # noqa: BLE001  # the boundary: whatever Ray says of its worker fails this task alone
            with self._changed:
                self._busy[rank] = None
            return _gone_error(rank, error)

    def _actor(self, rank: int) -> Any:  # noqa: ANN401  # Ray's handles have no type
        with self._changed:
            if self._busy[rank] is None:
                self._busy[rank] = ray.remote(_Worker).options(**self._options).remote()
            if self._is_cancelled:
                _kill(self._busy[rank])
            return self._busy[rank]


def _kill(actor: Any) -> None:  # noqa: ANN401  # as above
    if actor is not None:
        ray.kill(actor)


def _task_error(rank: int, summary: str, text: str) -> WorkerError:
    return WorkerError(
        f"a task failed in pool worker {rank}: {summary}",
        next_step=advice(text),
        role="pool",
        rank=rank,
        host=socket.gethostname(),
        pid=None,
        traceback_text=text,
    )


def _gone_error(rank: int, error: Exception) -> WorkerError:
    made = WorkerError(
        f"pool worker {rank} on Ray ended before its task did: it left, crashed, was killed (SIGKILL, or memory ran "
        f"out), or its node is gone ({type(error).__name__})",
        next_step="see `ray list actors` and the logs of its node for how it ended",
        role="pool",
        rank=rank,
        host=socket.gethostname(),
        pid=None,
        traceback_text=str(error),
    )
    made.__cause__ = error
    return made
