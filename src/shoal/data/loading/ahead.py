"""What a loader over remote data does besides reading: it mixes what the cache can hold, and fetches ahead."""

import logging
import random
import weakref
from collections.abc import Callable, Sequence

from shoal.base import ConfigError
from shoal.data.loading.loader import Loader
from shoal.data.loading.order import EpochOrder, WindowOrder
from shoal.data.remote.collecting import ShardCollector
from shoal.data.remote.forking import is_forked_child
from shoal.data.remote.prefetching import ShardPrefetcher, default_window
from shoal.data.remote.shadow import Shadow
from shoal.data.storage.shard import Shard

_LOG = logging.getLogger(__name__)


def window_for(shadow: Shadow | None, shards: Sequence[Shard]) -> int | None:
    """Return how many shards a shuffled loader mixes when the user does not say; None for all, as in a folder.

    It follows from the shards alone: the same on every machine, however full its disk is.

    Raises:
        ConfigError: they do not fit into this machine's cache, so that each batch would fetch them all anew.
    """
    if shadow is None or not shards:
        return None
    window = default_window([shard.size_bytes for shard in shards])
    limit, needed = shadow.cache.limit_bytes, _window_bytes(shards, window)
    if needed > limit and (window or len(shards)) > 1:
        fitting = max(1, limit // 2 // max(shard.size_bytes for shard in shards))
        what = f"all {_mib(needed)} MiB" if window is None else f"{window} shards ({_mib(needed)} MiB) at a time"
        raise ConfigError(
            f"cannot shuffle {what} of {shadow.location} in a cache of {_mib(limit)} MiB",
            next_step=f"give the cache more room (cache_bytes = {needed} in shoal.toml), or mix fewer shards at a "
            f"time, the same in all runs and on all ranks that are to agree: loader(window={fitting})",
        )
    return window


def fetching_ahead(
    loader: Loader, shadow: Shadow | None, shards: Sequence[Shard], shard_rows: Callable[[], Sequence[int]]
) -> Loader:
    """Return the loader, which from now on has the next window fetched while it reads one.

    Where all rows are shuffled, any shard may come next: all are fetched from the first batch on, several at a time. An
    order of which nobody knows what it reads stays as it is: each shard is then fetched at its first touch.

    Args:
        loader: over these shards.
        shadow: where they come from; None for a folder, and nothing is changed.
        shards: all of them, in storage order.
        shard_rows: tells how many rows each has.
    """
    if shadow is None:
        return loader
    order, rows = loader.order, shard_rows()
    if isinstance(order, WindowOrder):
        sequence, window = order.shards, order.window
        if (needed := _window_bytes(shards, window)) > shadow.cache.limit_bytes:
            _LOG.warning(
                "window=%d shards of %s take %d MiB, and the cache is to keep %d MiB: it grows beyond that; next: set "
                "cache_bytes in shoal.toml, or mix fewer shards",
                window, shadow.location, _mib(needed), _mib(shadow.cache.limit_bytes),
            )  # fmt: skip
    elif isinstance(order, EpochOrder) and order.identity == "stored":
        stored = [index for index, num_rows in enumerate(rows) if num_rows]
        # A quarter of the cache, but no more than 8 requests can fetch at once: the first batch waits for a window.
        largest = max((shard.size_bytes for shard in shards), default=1)
        window = min(max(1, shadow.cache.limit_bytes // 4 // largest), 8)

        def sequence(epoch: int) -> list[int]:  # noqa: ARG001  # the same in every epoch
            return stored
    elif isinstance(order, EpochOrder) and order.num_rows >= len(shards) and _all_fit(shadow, shards):
        # A forked child fetches by other means, too dear for what it may not need.
        return loader if is_forked_child() else _collecting(loader, shadow, shards)
    else:
        return loader
    # Those of one window are wanted at the same time.
    num_together = min(window, 8)
    prefetcher = ShardPrefetcher(
        lambda index: shadow.lease(shards[index], num_together=num_together), sequence, rows, window=window
    )
    # What is held is given back when the loader is gone.
    weakref.finalize(loader, prefetcher.close)
    loader.fetch_ahead(prefetcher.reach)
    return loader


def _all_fit(shadow: Shadow, shards: Sequence[Shard]) -> bool:
    return sum(shard.size_bytes for shard in shards) <= shadow.cache.limit_bytes // 2


def _collecting(loader: Loader, shadow: Shadow, shards: Sequence[Shard]) -> Loader:
    # From another one in each process: those that share a cache then fetch different shards, and find the others'.
    first = random.randrange(len(shards) or 1)
    numbers = [*range(first, len(shards)), *range(first)]
    collector = ShardCollector(
        lambda index, num_together: shadow.shard_file(shards[index], num_together=num_together), numbers
    )
    weakref.finalize(loader, collector.close)
    loader.fetch_ahead(collector.reach)
    return loader


def _window_bytes(shards: Sequence[Shard], window: int | None) -> int:
    # Of the largest ones: windows of whole shards take at most this much.
    sizes = sorted((shard.size_bytes for shard in shards), reverse=True)
    return sum(sizes[:window])


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // (1 << 20))
