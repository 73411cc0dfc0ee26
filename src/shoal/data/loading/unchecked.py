"""Which chunks of many files are still to be checked before their rows are read, as one flag per chunk."""

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from shoal.data.storage.chunks import ChunkChecks
from shoal.data.storage.shard import OpenBatch, address_of


class PendingChunks:
    """Numbers the chunks of all stretches through; only those that hold something that is wanted are ever pending.

    `flags` bool per chunk, `firsts` the number of each stretch's first chunk, `shifts` the logarithm of its chunks'
    size, `origins` where its file is mapped, 0 when it is not. Any number of threads may check.
    """

    def __init__(self, files: Sequence[tuple[int, int]]) -> None:
        """Take the size of each stretch's file and of its chunks."""
        counts = [-(-size_bytes // chunk_bytes) for size_bytes, chunk_bytes in files]
        self.firsts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        self.shifts = np.array([chunk_bytes.bit_length() - 1 for _, chunk_bytes in files], np.int64)
        self.origins = np.zeros(len(files), np.int64)
        self.flags = np.zeros(int(self.firsts[-1]), np.bool_)
        self.left = 0
        self._files: list[tuple[NDArray[np.uint8], ChunkChecks] | None] = [None] * len(files)
        self._lock = threading.Lock()

    def open(self, stretch: int, opened: OpenBatch, regions: Iterable[NDArray[np.uint8]]) -> None:
        """Enter an open file: of the regions (views into its pages), the chunks not checked yet become pending."""
        data, checks = opened.data, opened.checks
        if data is None or checks is None:
            return
        origin, first = address_of(data), int(self.firsts[stretch])
        if not checks.unchecked.any():
            # The rule for small files, where what was read to find the rows was all there is, and for those that this
            # process fetched.
            self.origins[stretch] = origin
            return
        wanted = np.zeros(int(self.firsts[stretch + 1]) - first, np.bool_)
        for region in regions:
            start = address_of(region) - origin
            if region.size and 0 <= start < len(data):
                wanted[start // checks.chunk_bytes : -(-(start + region.nbytes) // checks.chunk_bytes)] = True
        with self._lock:
            self._files[stretch] = (data, checks)
            self.origins[stretch] = origin
            unchecked = wanted & checks.unchecked
            self.flags[first : first + len(unchecked)] = unchecked
            self.left += int(np.count_nonzero(unchecked))

    def check(self, chunks: Sequence[int]) -> None:
        """Return when the chunks of these numbers, which may repeat, are intact; CorruptError names a damaged one."""
        if not chunks:
            return
        numbers = sorted(set(chunks))
        stretches = (np.searchsorted(self.firsts, numbers, side="right") - 1).tolist()
        for number, stretch in zip(numbers, stretches, strict=True):
            file = self._files[stretch]
            assert file is not None
            data, checks = file
            local = number - int(self.firsts[stretch])
            if checks.unchecked[local]:
                checks.check_chunks(data, [local])
        with self._lock:
            self.left -= int(np.count_nonzero(self.flags[numbers]))
            self.flags[numbers] = False
