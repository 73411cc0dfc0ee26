"""A latch on a dataset's folder: who names files in it and who removes unnamed ones never overlap."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def latch(folder: Path) -> Iterator[None]:
    """Hold the dataset's folder against all other processes and threads of this machine that come for it.

    It is held for moments: publishing a version, claiming files, removing files. It ends with its holder, however that
    dies, and one thread must not take it twice. The folder itself is locked, so nothing is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
