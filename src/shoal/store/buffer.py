"""A buffer between a caller in a hurry and a writer that likes much at once."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from shoal.base import ShoalError

T = TypeVar("T")

# Long enough to gather thousands of points, short enough that a page that shows a run feels live.
INTERVAL_S = 0.5
# 65,536 points are a few MiB; a caller who is faster than the writer then lends it a hand.
MAX_ITEMS = 65_536


class WriteBuffer(Generic[T]):
    """Gathers items and gives them to `write` in order, at most `interval_s` later; safe from any thread.

    `add` never raises: where `write` fails the items stay for the next try, up to `max_items`; later
    ones are counted and dropped. `flush` raises what went wrong.
    """

    def __init__(
        self, write: Callable[[list[T]], None], *, interval_s: float = INTERVAL_S, max_items: int = MAX_ITEMS
    ) -> None:
        self._write = write
        self._interval_s = interval_s
        self._max_items = max_items
        self._items: list[T] = []
        self._lock = threading.Lock()
        self._write_order = threading.Lock()
        self._filled = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._num_dropped = 0

    def add(self, item: T) -> None:
        """Take one item; a few hundred nanoseconds, or one `write` where the buffer is full."""
        with self._lock:
            full = len(self._items) >= self._max_items
            if not full:
                self._items.append(item)
            if self._thread is None:
                self._start()
        # Asked before it is set: a set Event still takes its lock, and this runs once per point.
        if full:
            self._add_slowly(item)
        elif not self._filled.is_set():
            self._filled.set()

    def flush(self) -> None:
        """Return when everything added before is written.

        Raises:
            ShoalError: room was lost for items; a flush that succeeds says so once.
            Exception: what `write` raised; the items are kept, and another flush tries again.
        """
        self._drain()
        with self._lock:
            num_dropped, self._num_dropped = self._num_dropped, 0
        if num_dropped:
            raise ShoalError(
                f"{num_dropped} points are lost: they could not be written, and {self._max_items} others were waiting",
                next_step="free space on the store's disk, then run again if the points matter",
            )

    def close(self) -> None:
        """Stop the thread, then flush."""
        self._closing.set()
        self._filled.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.flush()

    def _start(self) -> None:
        if not self._closing.is_set():
            self._thread = threading.Thread(target=self._run, name="shoal-write-buffer", daemon=True)
            self._thread.start()

    def _add_slowly(self, item: T) -> None:
        self._try_to_drain()
        with self._lock:
            if len(self._items) < self._max_items:
                self._items.append(item)
            else:
                self._num_dropped += 1

    def _run(self) -> None:
        while not self._closing.is_set():
            self._filled.wait()
            self._closing.wait(self._interval_s)
            # Cleared before the drain: what is added while it writes sets it again.
            self._filled.clear()
            self._try_to_drain()

    def _try_to_drain(self) -> None:
        try:
            self._drain()
        except Exception:  # noqa: BLE001 - the boundary between those who report and whatever `write` may raise
            # Whoever reports must not fail for it; the items are kept and `flush` will say what is wrong.
            self._filled.set()

    def _drain(self) -> None:
        # Held while writing: two drains at once could write a later item first.
        with self._write_order:
            with self._lock:
                items, self._items = self._items, []
            if not items:
                return
            try:
                self._write(items)
            except BaseException:  # whatever it was, the items go back to the front before it is raised
                with self._lock:
                    self._items[:0] = items
                raise
