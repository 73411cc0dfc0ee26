"""Reading one step ahead: the next item is made while the caller uses this one."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def ahead(items: Generator[Item]) -> Generator[Item]:
    """Yield the items in order, while a thread makes the next one; at most one is held ready.

    An error comes where the item would have come. When the caller stops, the thread ends after the item in the making.
    """
    # Closed last, by this thread, when no other works on it: so the files that it holds open are closed with it.
    with closing(items), ThreadPoolExecutor(1, "shoal-source") as pool:
        coming = pool.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = pool.submit(next, items, _END)
            yield item  # type: ignore[misc]  # the sentinel ends the loop
