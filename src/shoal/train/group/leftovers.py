"""Names of shared memory that a killed supervisor left on this machine: told apart from those in use, and removed.

A name begins with the number of the supervisor's process and a mark of the machine and of the space of process numbers
that it counts in: a folder of temporary files, and /dev/shm too, may be seen from several containers or machines, where
the same number means another process.
"""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path

from shoal.base import SharedBlock, new_token

_NAME = re.compile(r"shoal-(\d+)-([0-9a-f]{8})\.")
# Where the kernel says which start of which machine this is, and in which space of numbers its processes count.
_BOOT, _NUMBERS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def new_name() -> str:
    """A name for what this process shares, which `sweep` knows to be its own; never given twice."""
    return f"{os.getpid()}-{_mark() or 'unknown'}.{new_token(12)}"


def sweep() -> int:
    """Remove what dead supervisors of this user left; return how many names went.

    Left alone: what a living process has the number of, what another user owns, what was named in another space of
    process numbers or on another machine, and everything where the system cannot tell these apart.
    """
    swept = 0
    for path, pid in list(_found()):
        # What goes meanwhile, or what we may not look at, is somebody else's to remove.
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid() and not _is_alive(pid):
                SharedBlock.unlink_name(str(path))
                swept += 1
    return swept


def _found() -> Iterator[tuple[Path, int]]:
    """Path and process of each name that was given here."""
    mark = _mark()
    for folder in {Path("/dev/shm"), Path(tempfile.gettempdir())} if mark else ():  # noqa: S108  # where SharedBlock puts them
        with suppress(OSError):
            for path in folder.glob("shoal-*-*.*"):
                name = _NAME.match(path.name)
                if name is not None and name[2] == mark:
                    yield path, int(name[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@cache
def _mark() -> str | None:
    """Of this start of this machine and this space of process numbers; None where nobody can say."""
    if sys.platform != "linux":
        # One space of numbers, and the folder of temporary files is the user's own; a restart empties it.
        return "0" * 8
    try:
        told = f"{_BOOT.read_text().strip()} {_NUMBERS.stat().st_ino}"
    except OSError:
        return None
    return blake2b(told.encode(), digest_size=4).hexdigest()
