"""Finished files brought to the disk while their maker goes on: nobody waits for the disk before the last one."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

# A disk takes no more by being asked by many; two keep it busy while one call returns.
_THREADS = 2


class Flushing:
    """Flushes the files that it is given, in threads of its own; a context manager. Any number of threads may give.

    When its block ends, every file is on the disk, or the first error of flushing one is raised.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "shoal-flush")
        self._flushed: list[Future[None]] = []

    def flush(self, path: Path) -> None:
        """Begin to flush a finished file, which may be renamed as soon as this returns."""
        self._flushed.append(self._pool.submit(_flush, os.open(path, os.O_RDONLY)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        if error is None:
            # Told here or never: the system reports to each open file once that its bytes could not be written.
            for each in self._flushed:
                each.result()


def _flush(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
