"""The rows of a range as they are stored, block by block, with what subsets are decided by: values, hashes, draws."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.data.sampling.draws import Draws, draws_at, draws_of_hashes, key_of
from shoal.data.sampling.ordinals import earlier_rows
from shoal.data.schema import HASH_COLUMN, Schema
from shoal.data.storage.shard import ShardFile

BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive rows: the first one's number in the range, their number, and where they lie in their shard."""

    first: int
    num_rows: int
    file: ShardFile
    start: int
    rows: "StoredRows" = field(repr=False, compare=False)

    def batch(self, schema: Schema) -> pa.RecordBatch:
        """Return the columns of the schema."""
        batches = self.file.batches(self.start, self.start + self.num_rows, schema)
        return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]

    def hashes(self) -> Draws:
        """Return uint64 [num_rows]; only shards in order of hash have them."""
        opened = self.file.open_batches[0]
        column = opened.batch.column(HASH_COLUMN)
        opened.check(column)
        hashes: Draws = column.to_numpy()
        return hashes[self.start : self.start + self.num_rows]

    def draws(self, key: int) -> Draws:
        """Return uint64 [num_rows], one even draw per row, that stays the row's own when the dataset grows."""
        if self.file.shard.order == "arrival":
            # Rows without hashes are known by their place in a file that never changes.
            own = key_of(key, self.file.shard.digest)
            return draws_at(own, np.arange(self.start, self.start + self.num_rows))
        ordinals, earlier = self._ordinals(), self.rows.earlier
        if earlier is not None:
            ordinals = ordinals + earlier[self.first : self.first + self.num_rows]
        return draws_of_hashes(key, self.hashes(), ordinals)

    def _ordinals(self) -> NDArray[np.int64]:
        """Number the shard's rows of one hash from 0: equal rows, or the rows of one key, are drawn one by one."""
        hashes = self.hashes()
        is_first = np.ones(len(hashes), np.bool_)
        np.not_equal(hashes[1:], hashes[:-1], out=is_first[1:])
        if is_first.all() and not self._continues(hashes):
            return np.zeros(len(hashes), np.int64)
        firsts = np.flatnonzero(is_first)
        ordinals = np.arange(len(hashes)) - np.repeat(firsts, np.diff([*firsts, len(hashes)]))
        # A run of equal hashes may have begun in the block before.
        first_run = len(hashes) if len(firsts) == 1 else firsts[1]
        ordinals[:first_run] += self._continues(hashes)
        return ordinals

    def _continues(self, hashes: Draws) -> int:
        """Return how many rows before the block have its first hash."""
        whole: Draws = self.file.open_batches[0].batch.column(HASH_COLUMN).to_numpy()
        return self.start - int(np.searchsorted(whole, hashes[0])) if len(hashes) else 0


class StoredRows:
    """The rows of a version or of a range of hashes, without any subset applied; no row is kept in memory."""

    def __init__(self, stretches: Sequence[tuple[ShardFile, int, int]], schema: Schema) -> None:
        self._stretches = stretches
        self.schema = schema
        self.num_rows = sum(stop - start for _, start, stop in stretches)

    @cached_property
    def earlier(self) -> NDArray[np.int64] | None:
        """How many rows of each row's hash lie in the shards before its own; None when they are 0 everywhere."""
        return earlier_rows(self._stretches)

    def blocks(self) -> Iterator[Block]:
        """Yield all rows in storage order, at most 65,536 at a time."""
        first = 0
        for file, start, stop in self._stretches:
            for at in range(start, stop, BLOCK_ROWS):
                num_rows = min(BLOCK_ROWS, stop - at)
                yield Block(first, num_rows, file, at, self)
                first += num_rows
