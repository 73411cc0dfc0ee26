"""Arrays for batches, used again when nobody holds them: fresh memory costs a page fault every 4 KiB."""

import math
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The batch being made, two that a prefetching thread made ahead, the consumer's own and the one it has just left.
_KEPT = 5
# What `sys.getrefcount` counts of an array that only its ring holds: the ring, and the call's own argument.
_FREE = 2
_BYTE = np.dtype(np.uint8)

Allocate = Callable[[int], NDArray[np.uint8]]


class Buffers:
    """Gives arrays of any content; one that was given before comes back once every view and tensor of it is gone.

    Holders are counted by Python's own reference counts: a tensor made by `torch.from_numpy`, a slice, and an Arrow
    buffer all count. What is counted is the array that owns the memory, or holds whoever does: NumPy lets every view
    hold that one, and not the views in between. Keeps at most five arrays of a name; any number of threads may ask.
    """

    def __init__(self, allocate: Allocate | None = None, *, num_kept: int = _KEPT) -> None:
        """Make none yet.

        Args:
            allocate: gives memory of another kind, uint8 [num_bytes], that is no view of an array.
            num_kept: how many arrays of a name to keep; 0: none is ever given twice.
        """
        self._allocate = allocate
        self._num_kept = num_kept
        self._rings: dict[str, list[NDArray[Any]]] = {}
        self._lock = threading.Lock()

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array [shape] that nobody else holds."""
        if self._allocate is not None:
            num_bytes = math.prod(shape) * dtype.itemsize
            return self.take_bytes(name, num_bytes).view(dtype).reshape(shape)
        with self._lock:
            ring = self._rings.setdefault(name, [])
            for index in range(len(ring)):
                if ring[index].shape == shape and sys.getrefcount(ring[index]) == _FREE:
                    return ring[index]
            return self._added(ring, np.empty(shape, dtype))

    def take_bytes(self, name: str, num_bytes: int) -> NDArray[np.uint8]:
        """Return uint8 [num_bytes] that nobody else holds, cut from an array that may be larger."""
        with self._lock:
            ring = self._rings.setdefault(name, [])
            for index in range(len(ring)):
                if len(ring[index]) >= num_bytes and sys.getrefcount(ring[index]) == _FREE:
                    return ring[index][:num_bytes]
            # A quarter more than is needed now: the next batches of blobs fit into it too.
            wanted = num_bytes + num_bytes // 4
            array = np.empty(wanted, _BYTE) if self._allocate is None else self._allocate(wanted)
            return self._added(ring, array)[:num_bytes]

    def _added(self, ring: list[NDArray[Any]], array: NDArray[Any]) -> NDArray[Any]:
        # The oldest goes: the last batch of an epoch is smaller, and what the caller keeps need not be kept here.
        ring.append(array)
        ring[: max(0, len(ring) - self._num_kept)] = []
        return array
