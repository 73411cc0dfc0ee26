"""What changed between two versions: shards, rows, columns, sources, and how far each column's values moved."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.hashing import row_hashes
from shoal.data.schema import HASH_SPAN, Column, Schema
from shoal.data.sources.facts import SourceFact
from shoal.data.statistics.column_profile import ColumnProfile
from shoal.data.statistics.profile import Profile
from shoal.data.storage.shard import Shard, ShardFile
from shoal.data.versions.manifest import Manifest
from shoal.data.versions.reconciliation import common_column

# Hashes that are compared at once, of both sides together: 128 MiB. More rows are read several times.
_HASHES_AT_ONCE = 16 << 20

OpenShard = Callable[[Shard, Schema], ShardFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two versions: what it says, how its shards are opened with given columns, and its statistics."""

    manifest: Manifest
    open_shard: OpenShard
    profile: Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What turns one version into another.

    Attributes:
        before: number of the version that is left.
        after: number of the version that is reached.
        shards_added: digests of shards that only `after` has.
        shards_removed: digests of shards that only `before` has.
        rows_added: rows of `after` that `before` lacks, equal rows counted as often as they are there. Only the
            columns that both have count, so a row whose other columns changed is neither added nor removed.
        rows_removed: the same the other way round.
        columns_added: new columns, as they print.
        columns_removed: those that are gone.
        columns_changed: (before, after) of columns that were renamed, widened, or may have nulls now.
        sources_added: where rows came from that only `after` names.
        sources_removed: the same the other way round.
        distances: how far each column's values moved, from 0 to 1, the largest first: the largest gap between the
            distribution functions of numbers, the share of rows that would have to change for categories.
    """

    before: int
    after: int
    shards_added: tuple[str, ...]
    shards_removed: tuple[str, ...]
    rows_added: int
    rows_removed: int
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    columns_changed: tuple[tuple[str, str], ...]
    sources_added: tuple[SourceFact, ...]
    sources_removed: tuple[SourceFact, ...]
    distances: tuple[tuple[str, float], ...]

    @property
    def is_empty(self) -> bool:
        """Whether both versions hold the same rows under the same columns; how they are cut does not count."""
        return not (
            self.rows_added or self.rows_removed or self.columns_added or self.columns_removed or self.columns_changed
        )


def difference(before: Side, after: Side) -> Difference:
    """Return what turns `before` into `after`; only shards that one of them lacks are read."""
    known = {shard.digest for shard in before.manifest.shards}
    found = {shard.digest for shard in after.manifest.shards}
    gone = [shard for shard in before.manifest.shards if shard.digest not in found]
    new = [shard for shard in after.manifest.shards if shard.digest not in known]
    rows_added, rows_removed = _changed_rows(before, gone, after, new)
    old_columns = {column.id: column for column in before.manifest.columns}
    new_columns = {column.id: column for column in after.manifest.columns}
    both = [(old_columns[number], new_columns[number]) for number in old_columns if number in new_columns]
    old_sources, new_sources = Counter(before.manifest.sources), Counter(after.manifest.sources)
    return Difference(
        before=before.manifest.version,
        after=after.manifest.version,
        shards_added=tuple(shard.digest for shard in new),
        shards_removed=tuple(shard.digest for shard in gone),
        rows_added=rows_added,
        rows_removed=rows_removed,
        columns_added=tuple(str(column) for number, column in new_columns.items() if number not in old_columns),
        columns_removed=tuple(str(column) for number, column in old_columns.items() if number not in new_columns),
        columns_changed=tuple((str(old), str(new)) for old, new in both if old != new),
        sources_added=tuple((new_sources - old_sources).elements()),
        sources_removed=tuple((old_sources - new_sources).elements()),
        distances=_distances(before.profile, after.profile, {old.name: new.name for old, new in both}),
    )


def _changed_rows(before: Side, gone: Sequence[Shard], after: Side, new: Sequence[Shard]) -> tuple[int, int]:
    common = Schema(_common_columns(before.manifest.columns, after.manifest.columns))
    num_rows = sum(shard.num_rows for shard in (*gone, *new))
    if not gone or not new or not common.columns:
        return sum(shard.num_rows for shard in new), sum(shard.num_rows for shard in gone)
    added = removed = 0
    num_passes = -(-num_rows // _HASHES_AT_ONCE)
    for index in range(num_passes):
        # By content, not by the stored hash: that one is the key's, and two versions may have been placed differently.
        low, high = (at * HASH_SPAN // num_passes for at in (index, index + 1))
        old = _hashes(before, gone, common, low, high - 1)
        fresh = _hashes(after, new, common, low, high - 1)
        _, homes = np.unique(np.concatenate([old, fresh]), return_inverse=True)
        signs = np.repeat(np.array([-1.0, 1.0]), [len(old), len(fresh)])
        balance = np.bincount(homes, weights=signs)
        added += int(balance[balance > 0].sum())
        removed -= int(balance[balance < 0].sum())
    return added, removed


def _hashes(side: Side, shards: Sequence[Shard], schema: Schema, low: int, last: int) -> NDArray[np.uint64]:
    found = [np.zeros(0, np.uint64)]
    for shard in shards:
        for batch in side.open_shard(shard, schema).batches(0, shard.num_rows, schema):
            hashes = row_hashes(batch, schema, None)
            found.append(hashes[(hashes >= np.uint64(low)) & (hashes <= np.uint64(last))])
    return np.concatenate(found)


def _common_columns(before: Sequence[Column], after: Sequence[Column]) -> tuple[Column, ...]:
    known = {column.id: column for column in before}
    found = []
    for column in after:
        if column.id in known:
            try:
                found.append(common_column(column, known[column.id]))
            except SchemaError:
                # An ingest of other content may use the name for another type: such columns have nothing in common.
                continue
    return tuple(found)


def _distances(before: Profile, after: Profile, names: dict[str, str]) -> tuple[tuple[str, float], ...]:
    found = []
    for old_name, old in before.columns.items():
        column = old_name if old_name in names else old_name.rpartition(".")[0]
        new = after.columns.get(names.get(column, column) + old_name.removeprefix(column))
        if new is not None and new.kind == old.kind:
            found.append((new.name, distance(old, new)))
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def distance(before: ColumnProfile, after: ColumnProfile) -> float:
    """Return how far a column's values moved, from 0 to 1; missing values count as the smallest, or as a category."""
    totals = [side.count + side.nulls for side in (before, after)]
    if 0 in totals:
        return float(totals[0] != totals[1])
    if before.kind == "number":
        gap = 0.0
        shares = [
            np.cumsum(np.concatenate([[float(side.nulls)], side.histogram.astype(np.float64)])) / total
            for side, total in zip((before, after), totals, strict=True)
        ]
        gap = float(np.abs(shares[0] - shares[1]).max())
        return min(gap, 1.0)
    counts = [{**side.categories, "": side.other + side.nulls} for side in (before, after)]
    gaps = [
        abs(counts[0].get(name, 0) / totals[0] - counts[1].get(name, 0) / totals[1]) for name in counts[0] | counts[1]
    ]
    return min(sum(gaps) / 2, 1.0)
