"""Which number a row has among all rows of its hash, where these lie in several shards: appended, or cut apart."""

import tempfile
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shoal.data.schema import HASH_COLUMN, HASH_SPAN
from shoal.data.storage.shard import Shard, ShardFile

Rows = NDArray[np.int64]
Stretch = tuple[ShardFile, int, int]

# Hashes that are looked at together: 8 MiB of them, and about 40 MiB of what is worked out.
_RANGE_ROWS = 1 << 20


def earlier_rows(stretches: Sequence[Stretch]) -> Rows | None:
    """Return int64, one for each row of the stretches: how many rows of its hash lie in the stretches before its own.

    What is appended changes no number of the rows before it. None when no hash can lie in two stretches. The numbers
    lie in a file without a name, so that memory is bounded.
    """
    firsts = np.cumsum([0, *(stop - start for _, start, stop in stretches)])
    hashed = [
        (stretch, int(first))
        for stretch, first in zip(stretches, firsts, strict=False)
        if stretch[0].shard.order == "hash" and stretch[1] < stretch[2]
    ]
    if not _overlap([stretch[0].shard for stretch, _ in hashed]):
        return None
    with tempfile.TemporaryFile() as file:
        earlier = np.memmap(file, np.int64, "w+", shape=(max(1, int(firsts[-1])),))
    num_ranges = -(-int(firsts[-1]) // _RANGE_ROWS)
    borders = [index * HASH_SPAN // num_ranges for index in range(num_ranges + 1)]
    hashes = [_hashes(stretch) for stretch, _ in hashed]
    for low, high in pairwise(borders):
        _count(earlier, hashes, [first for _, first in hashed], low, high)
    return earlier


def _overlap(shards: Sequence[Shard]) -> bool:
    ranges = sorted((str(shard.first_hash), str(shard.last_hash)) for shard in shards)
    return any(later[0] <= before[1] for before, later in pairwise(ranges))


def _hashes(stretch: Stretch) -> NDArray[np.uint64]:
    file, start, stop = stretch
    opened = file.open_batches[0]
    column = opened.batch.column(HASH_COLUMN)
    opened.check(column)
    hashes: NDArray[np.uint64] = column.to_numpy()
    return hashes[start:stop]


def _count(earlier: Rows, all_hashes: Sequence[NDArray[np.uint64]], firsts: Sequence[int], low: int, high: int) -> None:
    starts, sizes, found = [], [], []
    for hashes, first in zip(all_hashes, firsts, strict=True):
        begin = int(np.searchsorted(hashes, np.uint64(low)))
        end = int(np.searchsorted(hashes, np.uint64(high))) if high < HASH_SPAN else len(hashes)
        part = hashes[begin:end]
        runs = np.flatnonzero(np.concatenate([[True], part[1:] != part[:-1]])) if len(part) else np.empty(0, np.int64)
        starts.append(first + begin + runs)
        sizes.append(np.diff([*runs, len(part)]) if len(part) else runs)
        found.append(part[runs])
    start, size, run = (np.concatenate(parts) for parts in (starts, sizes, found))
    if not len(run):
        return
    # Stable: runs of one hash stay in the order of their stretches.
    order = np.argsort(run, kind="stable")
    before = np.cumsum(size[order]) - size[order]
    is_first = np.concatenate([[True], run[order][1:] != run[order][:-1]])
    before -= before[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    places, before = order[before > 0], before[before > 0]
    lengths = size[places]
    inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    earlier[np.repeat(start[places], lengths) + inside] = np.repeat(before, lengths)
