"""An exactly uniform sample of a stream of unknown length, that can be stopped, resumed and merged with others.

Every row gets a draw from a keyed hash of (stream, its number in the stream), and the rows with the smallest draws are
kept (priority sampling). Each set of so many rows is equally likely, and the smallest draws of several streams
together are those among the smallest of each.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import ConfigError, CorruptError, InputError
from shoal.data.sampling.draws import Draws, draws_at, key_of
from shoal.data.sources.opening import open_source

_DRAW = "_draw"
# Rows are taken in beyond the limit and thrown out in bulk: fewer copies for twice the memory.
_SLACK = 2


def reservoir(source: object, num_rows: int, *, seed: int = 0) -> pa.Table:
    """Return `num_rows` rows of a source, or all when it has fewer, in an order that is random too.

    One pass, in memory of twice the rows kept. The same source and seed give the same rows.

    Args:
        source: what `shoal.data.ingest` takes.
        num_rows: how many rows to keep.
        seed: another seed gives another sample.
    """
    kept = Reservoir(num_rows, seed=seed)
    for batch in open_source(source).record_batches():
        kept.update(batch)
    return kept.table()


class Reservoir:
    """A sample under way; not for several threads at once.

    `stream` tells streams apart whose samples will be merged: each needs a number of its own. `num_seen` counts the
    rows of all `streams` that went in; `draws` are those of the rows kept.
    """

    def __init__(self, num_rows: int, *, seed: int = 0, stream: int = 0) -> None:
        if num_rows < 1:
            raise ConfigError(f"num_rows={num_rows} must be >= 1", next_step="say how many rows to keep")
        self.num_rows = num_rows
        self.num_seen = 0
        self.seed = seed
        self._position = 0
        self.streams = [stream]
        self.draws: Draws = np.empty(0, np.uint64)
        self._rows: pa.Table | None = None
        self._limit: np.uint64 | None = None

    def update(self, batch: pa.RecordBatch) -> None:
        """Look at the next rows of the stream; how it is cut into batches changes nothing."""
        places = np.arange(self._position, self._position + batch.num_rows)
        self._position += batch.num_rows
        self.num_seen += batch.num_rows
        draws = draws_at(key_of("reservoir", self.seed, self.streams[0]), places)
        # Few rows pass once the reservoir is full: the others are not even copied.
        chosen = np.arange(len(draws)) if self._limit is None else np.flatnonzero(draws < self._limit)
        if len(chosen):
            self._add(pa.Table.from_batches([batch]).take(pa.array(chosen)), draws[chosen])

    def merge(self, other: "Reservoir") -> None:
        """Take in the sample of other streams: the result is a uniform sample of all their rows together.

        Raises:
            InputError: another size or seed, or a stream of the same number, whose draws would be the same.
        """
        if (self.num_rows, self.seed) != (other.num_rows, other.seed) or set(self.streams) & set(other.streams):
            raise InputError(
                f"cannot merge reservoirs of {self.num_rows} and {other.num_rows} rows, seeds {self.seed} and "
                f"{other.seed}, streams {self.streams} and {other.streams}",
                next_step="use one size, one seed, and another stream number for each stream",
            )
        self.num_seen += other.num_seen
        self.streams += other.streams
        if other.num_seen:
            self._add(other.table(), other.draws)

    def table(self) -> pa.Table:
        """Return the rows kept so far, in the order of their draws.

        Raises:
            InputError: no batch has come yet, so that there are no columns.
        """
        if self._rows is None:
            raise InputError("the reservoir is empty: no rows have come", next_step="update it with a batch first")
        self._shrink()
        return self._rows

    def to_bytes(self) -> bytes:
        """Return the whole state as an Arrow stream: `from_bytes` goes on with the next row."""
        self._shrink()
        state = {
            "num_rows": self.num_rows,
            "num_seen": self.num_seen,
            "seed": self.seed,
            "position": self._position,
            "streams": self.streams,
        }
        table = (pa.table({}) if self._rows is None else self._rows).append_column(_DRAW, pa.array(self.draws))
        table = table.replace_schema_metadata({"shoal.reservoir": json.dumps(state)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())

    @classmethod
    def from_bytes(cls, data: bytes) -> "Reservoir":
        """Return the reservoir whose state this is.

        Raises:
            CorruptError: these bytes are no state of a reservoir.
        """
        try:
            table = pa.ipc.open_stream(data).read_all()
            state = json.loads(table.schema.metadata[b"shoal.reservoir"])
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
            raise CorruptError(
                f"cannot read {len(data)} bytes as a reservoir: {error}", next_step="use what to_bytes() gave"
            ) from error
        made = cls(state["num_rows"], seed=state["seed"])
        made._resume(state, table)
        return made

    def _resume(self, state: dict[str, Any], table: pa.Table) -> None:
        self.num_seen, self._position, self.streams = state["num_seen"], state["position"], state["streams"]
        self.draws = table.column(_DRAW).to_numpy()
        if table.num_columns > 1:
            self._rows = table.drop_columns([_DRAW]).replace_schema_metadata(None)
        self._shrink()

    def _add(self, rows: pa.Table, draws: Draws) -> None:
        self._rows = rows if self._rows is None else pa.concat_tables([self._rows, rows])
        self.draws = np.concatenate([self.draws, draws])
        if len(self.draws) >= _SLACK * self.num_rows:
            self._shrink()

    def _shrink(self) -> None:
        order: NDArray[np.int64] = np.argsort(self.draws, kind="stable")[: self.num_rows]
        if self._rows is not None:
            self._rows = self._rows.take(pa.array(order)).combine_chunks()
        self.draws = self.draws[order]
        self._limit = self.draws[-1] if len(order) == self.num_rows else None
