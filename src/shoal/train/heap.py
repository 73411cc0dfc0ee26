"""Keeps what a worker frees for its own next step, instead of giving it back to the system.

A training step asks for the same large pieces as the one before. The C library hands pieces of that size back as soon
as they are free, and the system must find and clear every page anew: more than half of a step of a small convolutional
model with 1,024 rows.
"""

import ctypes
import sys

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, for the rest of this process; False where it cannot be asked.

    The process then stays as large as it was at its largest, and what lies between pieces of other sizes is lost: it
    may take half as much again.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_MAX, 0))
