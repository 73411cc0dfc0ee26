"""Rows whose columns are not quite the dataset's: what is new, what is missing, and which names the files will hold."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from shoal.base import SchemaError
from shoal.data.columns import conform
from shoal.data.schema import NUMBERS, Column, Schema, schema_from_arrow
from shoal.data.sources.base import OnBad, RejectingSource, Source
from shoal.data.sources.facts import SourceFact


class EvolvingSource:
    """A source whose rows may have columns that the dataset lacks, or lack some that it has, or have wider numbers.

    Its batches have the columns of both: first the dataset's, null where the source has none, then what is new. The
    first batch decides. Everything else is the source's own.
    """

    def __init__(self, source: Source, columns: Sequence[Column]) -> None:
        self._source = source
        self._columns = columns

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the source's batches with the columns of both sides.

        Raises:
            SchemaError: a column has a type that neither side can be widened to.
        """
        target: Schema | None = None
        for batch in self._source.record_batches():
            target = target or Schema(united(self._columns, schema_from_arrow(batch.schema).columns))
            yield with_missing(batch, target).replace_schema_metadata(batch.schema.metadata)

    def facts(self) -> tuple[SourceFact, ...]:
        """Return where the rows came from."""
        return self._source.facts()


class _EvolvingRejectingSource(EvolvingSource):
    def __init__(self, source: RejectingSource, columns: Sequence[Column]) -> None:
        super().__init__(source, columns)
        self._rejecting = source

    @property
    def on_bad(self) -> OnBad:
        return self._rejecting.on_bad

    @on_bad.setter
    def on_bad(self, value: OnBad) -> None:
        self._rejecting.on_bad = value

    def rejects(self) -> Iterator[pa.RecordBatch]:
        return self._rejecting.rejects()


def evolving(source: Source, columns: Sequence[Column]) -> Source:
    """Return the source with the dataset's columns beside its own; bad rows are put aside if the source can do so."""
    if isinstance(source, RejectingSource):
        return _EvolvingRejectingSource(source, columns)
    return EvolvingSource(source, columns)


def with_missing(batch: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Return the batch with all columns of the schema: null where it has none, widened where it is narrower."""
    present = set(batch.schema.names)
    for column in schema.columns:
        if column.name not in present:
            batch = batch.append_column(column.name, pa.nulls(batch.num_rows, column.arrow_type()))
    return conform(batch, schema)


def united(columns: Sequence[Column], fresh: Sequence[Column]) -> tuple[Column, ...]:
    """Return the dataset's columns, as wide as both sides need, and then those that only the fresh rows have.

    A column that one side lacks is nullable.

    Raises:
        SchemaError: a column's two types have no common wider one; the message names it.
    """
    given = {column.name: column for column in fresh}
    known = {column.name for column in columns}
    ours = [
        common_column(column, given[column.name]) if column.name in given else replace(column, nullable=True)
        for column in columns
    ]
    return (*ours, *(replace(column, nullable=True) for column in fresh if column.name not in known))


def placed(columns: Sequence[Column], fresh: Sequence[Column]) -> tuple[Column, ...]:
    """Return a version's columns with fresh shards added to it; columns of both sides are matched by their ids.

    A column that one side lacks is nullable. One that the version has dropped since stays in the files, unseen.
    """
    given = {column.id: column for column in fresh}
    known = {column.id for column in columns}
    joined = [
        common_column(column, given[column.id]) if column.id in given else replace(column, nullable=True)
        for column in columns
    ]
    return Schema((*joined, *(replace(column, nullable=True) for column in fresh if column.id not in known))).columns


def common_column(column: Column, other: Column) -> Column:
    """Return the column with the narrowest type that holds the values of both, nullable if one is.

    Raises:
        SchemaError: there is no such type; the message names the column.
    """
    nullable = column.nullable or other.nullable
    if column.storage == other.storage:
        return replace(column, nullable=nullable)
    if column.storage[1:] == other.storage[1:] and column.dtype in NUMBERS and other.dtype in NUMBERS:
        for wide, narrow in ((column.dtype, other.dtype), (other.dtype, column.dtype)):
            # Not NumPy's word alone: it takes a 64-bit whole number for safe in a float64, which rounds it.
            if np.can_cast(narrow, wide, "safe") and not (wide == "float64" and narrow in ("int64", "uint64")):
                return replace(column, dtype=wide, nullable=nullable)
    raise SchemaError(
        f"the columns differ: found {replace(other, nullable=False)} where {replace(column, nullable=False)} is "
        "expected, and neither holds all values of the other",
        next_step=f"convert {column.name!r} in the source, or give it another name",
    )
