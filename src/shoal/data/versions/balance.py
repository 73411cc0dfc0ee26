"""How evenly the rows lie over the shards, which keys weigh too much, and where such a key is cut."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shoal.data.statistics.profile import Profile
from shoal.data.storage.shard import Shard

# A key may make its shard twice the target before it is cut: below that, chance alone makes shards as uneven.
_HOT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HotKey:
    """A key value whose rows alone exceed an even share of a shard; `share` is its part of all rows, from 0 to 1."""

    value: str
    num_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Rows and bytes of each shard, in storage order, and the keys that make them uneven, the heaviest first.

    `num_cut` counts the shards that hold rows of a key which was cut into several of them: all rows of such shards
    have one hash, so splits still keep the key together.
    """

    rows: tuple[int, ...]
    bytes: tuple[int, ...]
    hot_keys: tuple[HotKey, ...] = ()
    num_cut: int = 0

    @property
    def rows_ratio(self) -> float:
        """Rows of the largest shard over those of the mean one: 1 is even."""
        return _ratio(self.rows)

    @property
    def bytes_ratio(self) -> float:
        """Bytes of the largest shard over those of the mean one: 1 is even."""
        return _ratio(self.bytes)


def balance_of(shards: Sequence[Shard], key: str | None, profile: Profile) -> Balance:
    """Return how even the shards are; nothing is read, as key values come from the version's statistics.

    The statistics name at most 1,024 values of the key, so of more values the rarer ones may go unnamed.
    """
    hashes = [shard.first_hash for shard in shards if shard.first_hash is not None]
    num_cut = sum(
        shard.first_hash is not None and shard.first_hash == shard.last_hash and hashes.count(shard.first_hash) > 1
        for shard in shards
    )
    return Balance(
        rows=tuple(shard.num_rows for shard in shards),
        bytes=tuple(shard.size_bytes for shard in shards),
        hot_keys=_hot_keys(shards, key, profile),
        num_cut=num_cut,
    )


def cuts(hashes: NDArray[np.uint64], size_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Return the stretches of rows (start, stop) that become one shard each, for the rows of one range of hashes.

    It is one stretch, unless the rows of a single hash alone exceed twice the target: these are cut into even pieces
    of at most the target, and so that no other row shares a shard with them, what lies before and after stands apart.

    Args:
        hashes: the rows' hashes, ascending.
        size_bytes: what all the rows take together; each is counted with the mean.
        target_bytes: the size that a shard is to have.
    """
    num_rows = len(hashes)
    if size_bytes <= _HOT * target_bytes:
        return [(0, num_rows)]
    rows_per_shard = max(int(target_bytes * num_rows / size_bytes), 1)
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    stops = np.append(starts[1:], num_rows)
    found, done = [], 0
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if stop - start <= _HOT * rows_per_shard:
            continue
        if done < start:
            found.append((done, start))
        num_pieces = -(-(stop - start) // rows_per_shard)
        borders = [start + index * (stop - start) // num_pieces for index in range(num_pieces + 1)]
        found += list(pairwise(borders))
        done = stop
    if done < num_rows:
        found.append((done, num_rows))
    return found


def _hot_keys(shards: Sequence[Shard], key: str | None, profile: Profile) -> tuple[HotKey, ...]:
    if key is None or key not in profile.columns or len(shards) < _HOT:
        return ()
    even = profile.num_rows / len(shards)
    found = [(value, count) for value, count in profile.columns[key].categories.items() if count > even]
    return tuple(HotKey(value=value, num_rows=count, share=count / profile.num_rows) for value, count in found)


def _ratio(sizes: Sequence[int]) -> float:
    return max(sizes) * len(sizes) / sum(sizes) if sum(sizes) else 1.0
