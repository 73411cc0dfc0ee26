"""A thread that works on items while its caller makes the next ones: bounded, in order, and no error is lost."""

import queue
import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")


class Stage(Generic[Item]):
    """Applies `work` to each item that is put, in order, in one thread of its own.

    At most `depth` items wait. The first error of `work` ends it, and is raised by the next `put` or `finish` of the
    thread that uses it as a context manager; leaving the block with an error drops what waits.
    """

    def __init__(self, work: Callable[[Item], None], *, depth: int = 2) -> None:
        self._work = work
        self._waiting: queue.Queue[Item | None] = queue.Queue(depth)
        self._error: BaseException | None = None
        self._is_dropping = False
        self._thread = threading.Thread(target=self._run, name="shoal-ingest", daemon=True)

    def put(self, item: Item) -> None:
        """Hand over an item; waits while too many are waiting."""
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def finish(self) -> None:
        """Return when every item was worked on."""
        self._end()
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_dropping = True
        self._end()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (item := self._waiting.get()) is not None:
            # After an error it goes on taking: whoever puts must never wait for room that nobody makes.
            if self._error is not None or self._is_dropping:
                continue
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001  # the boundary between two threads: it is raised in the other
                self._error = error
