"""Decoded columns in memory, bounded by bytes: for what cannot be used as it lies in a mapped file."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from shoal.base import InputError
from shoal.data.columns import Decoded

DEFAULT_LIMIT_BYTES = 1 << 30


class ColumnCache:
    """Keeps the most recently used columns up to `limit_bytes` in total; any number of threads may use it.

    A column larger than the whole limit is handed through and not kept. Two threads that miss at once may both
    decode; the result is the same.
    """

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        if limit_bytes < 0:
            raise InputError(f"limit_bytes={limit_bytes} must be >= 0", next_step="use 0 to keep nothing")
        self._limit_bytes = limit_bytes
        self._columns: OrderedDict[Hashable, tuple[Decoded, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.size_bytes = 0

    def get(self, key: Hashable, load: Callable[[], Decoded]) -> Decoded:
        """Return the column under `key`, calling `load` when it is not kept."""
        with self._lock:
            if (kept := self._columns.get(key)) is not None:
                self._columns.move_to_end(key)
                return kept[0]
        loaded = load()
        # Views lie in the page cache already: counting them here would push out what is dear to make.
        size = 0 if loaded.is_view else _size_bytes(loaded)
        if size > self._limit_bytes:
            return loaded
        with self._lock:
            if key not in self._columns:
                self._columns[key] = (loaded, size)
                self.size_bytes += size
            while self.size_bytes > self._limit_bytes:
                _, (_, dropped_bytes) = self._columns.popitem(last=False)
                self.size_bytes -= dropped_bytes
        return loaded


def _size_bytes(column: Decoded) -> int:
    objects = sum(map(sys.getsizeof, column.values)) if column.values.dtype == object else 0
    return column.values.nbytes + objects + (0 if column.valid is None else column.valid.nbytes)
