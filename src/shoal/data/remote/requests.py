"""The threads that ask stores for ranges: one small pool per process, made anew after a fork."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

_lock = threading.Lock()
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def request_pool(num_requests: int) -> ThreadPoolExecutor:
    """Return this process's pool of so many threads; it is kept, and shared by all who ask for the same number."""
    # A forked child has the parent's pool, but none of its threads: the process's number tells them apart.
    key = (os.getpid(), num_requests)
    with _lock:
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(num_requests, thread_name_prefix="shoal-fetch")
        return _pools[key]
