"""Threads that call steps, and what comes back from them."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from shoal.base import UnsupportedError
from shoal.flow.declared import declared_paths
from shoal.flow.memo import Encoded
from shoal.flow.opened_files import watched

Encode = Callable[[object], Encoded]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call to make: `encode` writes its result, None for a step that is not memoised."""

    index: int
    function: Callable[..., Any]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    declared: tuple[str, ...]
    encode: Encode | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a call ended: with a value (and its written form), or with an error."""

    index: int
    seconds: float
    value: object = None
    encoded: Encoded | None = None
    undeclared: tuple[str, ...] = ()
    error: BaseException | None = None


class Workers:
    """Threads that take calls from one queue and put what comes of them into another; started as they are needed."""

    def __init__(self, num_threads: int) -> None:
        self._num_threads = num_threads
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self.finished: SimpleQueue[Finished] = SimpleQueue()

    def submit(self, call: Call) -> None:
        """Have the call made as soon as a thread is free."""
        if len(self._threads) < self._num_threads:
            # Daemons: an interrupted program ends at once, and its unfinished steps simply run again.
            thread = threading.Thread(target=self._work, name=f"shoal-step-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._calls.put(call)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            self.finished.put(make(call))


def make(call: Call) -> Finished:
    """Make one call in this thread."""
    started = time.perf_counter()
    try:
        with watched() as opened:
            value = call.function(*call.args, **call.kwargs)
        encoded = call.encode(value) if call.encode else None
    # The boundary to the user's code: whatever it raises, sys.exit included, fails this step and no other.
    except BaseException as error:  # noqa: BLE001
        return Finished(index=call.index, seconds=time.perf_counter() - started, error=_with_way_out(error))
    return Finished(
        index=call.index,
        seconds=time.perf_counter() - started,
        value=value,
        encoded=encoded,
        undeclared=opened.undeclared((*call.declared, *declared_paths(value))),
    )


def _with_way_out(error: BaseException) -> BaseException:
    if isinstance(error, UnsupportedError):
        error.next_step += ", or decorate the step with @step(memo=False) to compute it in every run"
    return error
