"""The leases that this process keeps on cached files, so that what it mapped a moment ago is not dropped at once."""

import threading
from collections import OrderedDict

from shoal.data.remote.disk_cache import Lease

# Each lease keeps a file open; processes may commonly have 1,024 of those.
_MAX_LEASES = 256


class HeldLeases:
    """Keeps the most recent leases up to a number of bytes, always at least the last; any number of threads."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._leases: OrderedDict[str, Lease] = OrderedDict()
        self._lock = threading.Lock()
        self._size_bytes = 0

    def get(self, name: str) -> Lease | None:
        """Return the lease on an entry if it is held and its file is still there."""
        with self._lock:
            lease = self._leases.get(name)
            if lease is not None and lease.path.exists():
                self._leases.move_to_end(name)
                return lease
        return None

    def hold(self, name: str, lease: Lease) -> None:
        """Keep a lease, and give back those that were asked for longest ago when it gets too much."""
        with self._lock:
            self._forget(name)
            self._leases[name] = lease
            self._size_bytes += lease.size_bytes
            while len(self._leases) > 1 and (self._size_bytes > self._limit_bytes or len(self._leases) > _MAX_LEASES):
                self._forget(next(iter(self._leases)))

    def release(self, name: str) -> None:
        """Give a lease back, if it is held."""
        with self._lock:
            self._forget(name)

    def _forget(self, name: str) -> None:
        if (lease := self._leases.pop(name, None)) is not None:
            self._size_bytes -= lease.size_bytes
            lease.close()
