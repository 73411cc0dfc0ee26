"""Where the rows of a batch stood in their source: told by the batch's own metadata, in the words of the source."""

import json
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Unit = Literal["line", "row", "file"]

# Each pair says that the row of this index stands at this number, and the next rows at the numbers after it.
Breaks = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the rows of one batch stood: `source` is a file or says what was read; row 0 of the batch was at `first`.

    `unit` says what is counted: lines from 1, rows or files from 0. `breaks` are the places where the count jumps, as
    it does after a blank line or a value with line ends in it.
    """

    source: str
    first: int
    unit: Unit
    breaks: Breaks = ()

    def __getitem__(self, index: int) -> int:
        """The line or row number of the batch's row `index`."""
        place = bisect_right(self.breaks, index, key=lambda pair: pair[0]) - 1
        start, number = self.breaks[place] if place >= 0 else (0, self.first)
        return number + index - start

    def describe(self, index: int) -> str:
        """The place of one row in words, for messages."""
        return f"{self.source}, {self.unit} {self[index]}"


def mark(batch: pa.RecordBatch, positions: Positions) -> pa.RecordBatch:
    """Return the batch with its positions in the schema's metadata; its rows are not copied."""
    told = {
        "shoal.source": positions.source,
        "shoal.first_row": str(positions.first),
        "shoal.unit": positions.unit,
    }
    if positions.breaks:
        told["shoal.breaks"] = json.dumps(positions.breaks, separators=(",", ":"))
    return batch.replace_schema_metadata(told)


def positions_of(batch: pa.RecordBatch) -> Positions | None:
    """Return where the batch's rows stood; None where the source did not say.

    A slice keeps the metadata of its whole: ask with the index in the batch as the source gave it.
    """
    told = batch.schema.metadata or {}
    if b"shoal.source" not in told:
        return None
    breaks = json.loads(told.get(b"shoal.breaks", b"[]"))
    unit = told[b"shoal.unit"].decode()
    return Positions(
        told[b"shoal.source"].decode(),
        int(told[b"shoal.first_row"]),
        unit if unit in ("line", "file") else "row",
        tuple((int(index), int(number)) for index, number in breaks),
    )
