"""All shards of a dataset, fetched behind the reader's back: for an order that may need any of them at any moment."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence

# Each is one request, and 8 of those keep a line busy.
_NUM_THREADS = 8


class ShardCollector:
    """Fetches each shard once, several at a time, from the first `reach` on; nobody waits for it.

    Who needs a shard before it is here fetches it, or waits for that one alone. The first failure ends the collecting:
    who needs the shard is told why it does not come. Any number of threads may call; close it at the end.
    """

    def __init__(self, fetch: Callable[[int, int], object], shards: Sequence[int]) -> None:
        """Prepare; nothing is fetched.

        Args:
            fetch: brings a shard by its number, if it is not here; called from several threads. Its second argument
                says how many are fetched at once.
            shards: the numbers, in the order in which to fetch them.
        """
        self._fetch = fetch
        self._num_threads = min(_NUM_THREADS, len(shards))
        self._left: Iterator[tuple[int, int]] = zip(shards, _num_together(len(shards)), strict=True)
        self._threads: list[threading.Thread] | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        # A child that is forked from this process begins nothing: it may not use the store's engine.
        self._process = os.getpid()

    def reach(self, epoch: int, position: int) -> None:  # noqa: ARG002  # wherever the reader is
        """Begin, unless that has been done."""
        if self._threads is not None or os.getpid() != self._process:
            return
        with self._lock:
            if self._threads is None:
                # Daemons: a program that ends after its first batch must not wait for the rest of the dataset.
                self._threads = [
                    threading.Thread(target=self._work, name=f"shoal-collect-{number}", daemon=True)
                    for number in range(self._num_threads)
                ]
                for thread in self._threads:
                    thread.start()

    def join(self) -> None:
        """Return when all that was begun is here, or has failed."""
        for thread in self._threads or ():
            thread.join()

    def close(self) -> None:
        """Begin nothing more; what is under way goes on to its end."""
        self._is_closed = True

    def _work(self) -> None:
        while not self._is_closed:
            with self._lock:
                following = next(self._left, None)
            if following is None:
                return
            try:
                self._fetch(*following)
            except Exception:  # noqa: BLE001  # told to whoever needs the shard, who tries it again
                self.close()


def _num_together(num_shards: int) -> list[int]:
    # The last ones, when there are too few for every thread, share all requests among themselves.
    num_last = num_shards % _NUM_THREADS
    return [_NUM_THREADS] * (num_shards - num_last) + [num_last] * num_last
