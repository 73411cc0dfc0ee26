"""A look at a source before it is ingested: its columns with their types, and its first rows."""

from dataclasses import dataclass
from typing import Any

from shoal.data.schema import Schema, schema_from_arrow
from shoal.data.sources.base import SchemaWidenedError
from shoal.data.sources.opening import open_source

_NUM_READINGS = 3


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a source holds at first sight: `schema` as it would be stored, and some `rows` as Python values."""

    schema: Schema
    rows: tuple[dict[str, Any], ...]

    @property
    def dtypes(self) -> dict[str, str]:
        """The types by column, to be given back as `dtypes` when they are confirmed or corrected."""
        return {column.name: column.dtype for column in self.schema.columns}

    def __str__(self) -> str:
        lines = [str(column) for column in self.schema.columns]
        return "\n".join([*lines, *(str(row) for row in self.rows)])


def inspect(source: object, *, num_rows: int = 5) -> Inspection:
    """Return the columns and the first rows of anything that `ingest` takes; a source that is an iterator is used up.

    Types of a large text file are taken from samples over the whole file: a rare wider value further on may still
    change them when it is ingested.

    Args:
        source: what `shoal.data.ingest` takes.
        num_rows: how many rows to show.

    Raises:
        SourceError: the source is unreadable, or a line among the first is bad.
        SchemaError: a column cannot be stored.
    """
    opened = open_source(source)
    for attempt in range(1, _NUM_READINGS + 1):
        try:
            batches = opened.record_batches()
            first = next(batches, None)
            break
        except SchemaWidenedError:
            if attempt == _NUM_READINGS:
                raise
    if first is None:
        return Inspection(Schema(()), ())
    # A text source stops its reading thread here, and not when the garbage is collected.
    getattr(batches, "close", lambda: None)()
    return Inspection(schema_from_arrow(first.schema), tuple(first.slice(0, num_rows).to_pylist()))
