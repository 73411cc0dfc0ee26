"""Memory for snapshots: reused, and given by the system before it is needed.

The first touch of fresh memory costs four times the copy into it; with huge pages half as much again as the copy.
"""

import mmap
from contextlib import suppress

import torch

# Small enough for other threads to get their turn on a machine whose cores are all busy.
_TOUCH_BYTES = 16 << 20


def make_buffer(num_bytes: int) -> torch.Tensor:
    """Return uint8 [num_bytes] of fresh zeros, in huge pages where the system has them; nothing is touched yet."""
    memory = mmap.mmap(-1, max(num_bytes, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        # A kernel without them says no; it only costs time.
        with suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:num_bytes]


def touch(buffer: torch.Tensor) -> None:
    """Make the system give all of a buffer's memory now; its content is lost."""
    for start in range(0, len(buffer), _TOUCH_BYTES):
        buffer[start : start + _TOUCH_BYTES].zero_()
