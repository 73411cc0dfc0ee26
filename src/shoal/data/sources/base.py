"""Where rows come from: one small interface that every kind of source keeps, and one for sources with bad rows."""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

from shoal.base import SourceError
from shoal.data.sources.facts import SourceFact

OnBad = Literal["raise", "quarantine", "drop"]

# What `rejects` gives: one row for each bad row of the source.
REJECTS = pa.schema(
    [
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("content", pa.string(), nullable=False),
    ]
)


class SchemaWidenedError(SourceError):
    """A later value did not fit the types inferred so far; the source now knows better ones, so read it again.

    Raised at most once by a source whose types are inferred: before it raises, it has seen the types of all rows.
    """


@runtime_checkable
class Source(Protocol):
    """Rows that can be read, in order, as record batches that all have the same columns.

    A source keeps its memory bounded: it does not hold all batches at once. It raises SourceError for anything
    unreadable, naming the file, what was found and what was expected. Where it knows, each batch says where its rows
    stood (`positions.py`).
    """

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as `pyarrow.RecordBatch`; called once, and once more after SchemaWidenedError."""
        ...

    def facts(self) -> tuple[SourceFact, ...]:
        """Say where the rows came from; complete once all batches have been read."""
        ...


@runtime_checkable
class RejectingSource(Source, Protocol):
    """A source that can go on after a row that it cannot read."""

    # Set before reading: "raise" ends at the first bad row, the others put it aside and go on.
    on_bad: OnBad

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield what was put aside since the last call, as batches of schema REJECTS, and forget it.

        Call it while reading, and once at the end: so neither side holds all bad rows. `position` is the line, counted
        from 1, and for sources without lines the row, counted from 0.
        """
        ...


@runtime_checkable
class ParsingSource(Source, Protocol):
    """A source that makes numbers of text, and so can make them in the precision that is wanted."""

    def expect(self, types: Mapping[str, pa.DataType]) -> None:
        """Say what is wanted of columns, before reading: numbers are read as float32 where that is asked for.

        All else keeps the type that it has in the source.
        """
        ...
