"""The group commit: many commits in a short time become durable together, by one sync."""

import threading
from collections.abc import Callable

from shoal.base import ShoalError

# DESIGN promises a second at most; half of it leaves room for the sync itself.
INTERVAL_S = 0.5


class GroupCommit:
    """Calls `sync` at most `interval_s` after a commit was announced; its thread starts with the first one."""

    def __init__(self, sync: Callable[[], None], *, interval_s: float = INTERVAL_S) -> None:
        self._sync = sync
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._announced = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def soon(self) -> None:
        """Announce a commit; returns at once."""
        if self._announced.is_set():
            return
        self._announced.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._closing.is_set():
                    self._thread = threading.Thread(target=self._run, name="shoal-group-commit", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Sync what is announced, and end.

        Raises:
            ShoalError: a sync has failed since the start, also where a later one did not.
        """
        with self._lock:
            self._closing.set()
        self._announced.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise ShoalError(
                f"cannot promise that every commit survives a power cut: a sync failed with {self._error!r}",
                next_step="check the disk, then compare what was written last with what should be there",
            ) from self._error

    def _run(self) -> None:
        while True:
            self._announced.wait()
            self._closing.wait(self._interval_s)
            # Cleared before the sync: a commit that comes while it runs may have missed it and needs the next one.
            self._announced.clear()
            try:
                self._sync()
            except Exception as error:  # noqa: BLE001 - the boundary to the disk: one failure must not end the thread
                # Kept for good: after a failed fsync the system may call the same pages clean, so that no later
                # success proves that they were written.
                self._error = self._error or error
                self._announced.set()
            if self._closing.is_set():
                return
