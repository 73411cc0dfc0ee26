"""One batch after the other is held to the rules: good rows pass in the types they are stored in, bad ones are told."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import SchemaError, SourceError
from shoal.data.columns import conform
from shoal.data.quality.checks import Check, NotNull
from shoal.data.quality.conversion import converted
from shoal.data.quality.refusals import Refusals, rows_as_text
from shoal.data.quality.rules import Rules
from shoal.data.schema import Column, Schema, schema_from_arrow
from shoal.data.sources.base import RejectingSource, Source
from shoal.data.sources.positions import Positions

_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that rows broke: what it is about (None: the row as a whole), and what was expected."""

    column: str | None
    expected: str

    @property
    def broken(self) -> str:
        """What the rows are counted under."""
        return f"{self.column}: {self.expected}" if self.column else self.expected


@dataclass(frozen=True, slots=True)
class Places:
    """Where the rows of a piece stood: `start` is its first row in the batch that `positions` tells of.

    `num_before` rows came before that batch: what is told of rows whose source does not say where they stood.
    """

    positions: Positions | None
    start: int
    num_before: int

    def of(self, rows: NDArray[np.int64]) -> tuple[list[str], list[int], str]:
        """Return the source and the number of each row, and what is counted."""
        if self.positions is None:
            return ["rows in memory"] * len(rows), [self.num_before + self.start + int(row) for row in rows], "row"
        numbers = [self.positions[self.start + int(row)] for row in rows]
        return [self.positions.source] * len(rows), numbers, self.positions.unit


class Screen:
    """Holds batches to the rules, in the columns of `schema`; for one thread.

    Without any rule a batch that does not fit the schema raises as a whole; with `on_bad="raise"`, the first bad row
    does, named with its place.
    """

    def __init__(self, schema: Schema, rules: Rules, key: str | None, refusals: Refusals) -> None:
        self._schema = schema
        self._rules = rules
        self._refusals = refusals
        self._checks: tuple[Check, ...] = rules.checks
        if rules.schema is not None:
            required = [column.name for column in schema.columns if not column.nullable]
            self._checks = (*(NotNull(name) for name in required), *self._checks)
        if key is not None:
            self._checks = (NotNull(key), *self._checks)
        self._check_names()

    def screen(self, piece: pa.RecordBatch, places: Places) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Return the good rows of a piece, and which rows were not good: these go to the refusals.

        Raises:
            SourceError: a row is bad and `on_bad` is "raise".
        """
        batch, faults = self._converted(piece)
        for check in self._checks:
            bad = check.violations(batch)
            if bad.any():
                faults.append((Fault(check.column, check.expected), bad))
        if not faults:
            return batch, _NONE
        if self._rules.on_bad == "raise":
            # The first bad row, whatever it broke.
            faults.sort(key=lambda entry: int(np.argmax(entry[1])))
        refused = np.zeros(piece.num_rows, np.bool_)
        for fault, bad in faults:
            # The first rule that a row breaks is the one it is counted under.
            rows = np.flatnonzero(bad & ~refused)
            refuse(fault, rows, piece, rows, places, self._rules, self._refusals)
            refused |= bad
        return batch.filter(pa.array(~refused)), np.flatnonzero(refused)

    def _converted(self, piece: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[Fault, NDArray[np.bool_]]]]:
        if self._rules.schema is None:
            return conform(piece, self._schema), []
        arrays, faults = [], []
        for column in self._schema.columns:
            array, bad = converted(piece.column(column.name), column)
            arrays.append(array)
            if bad is not None:
                faults.append((Fault(column.name, _type_text(column)), bad))
        return pa.RecordBatch.from_arrays(arrays, schema=self._plain_schema()), faults

    def _plain_schema(self) -> pa.Schema:
        return pa.schema([pa.field(column.name, column.arrow_type()) for column in self._schema.columns])

    def _check_names(self) -> None:
        for check in self._checks:
            if check.column is not None and check.column not in self._schema.names:
                raise SchemaError(
                    f"cannot check column {check.column!r}: the columns are {', '.join(self._schema.names)}",
                    next_step="name one of the columns",
                )


def refuse(
    fault: Fault,
    rows: NDArray[np.int64],
    batch: pa.RecordBatch,
    rows_in_piece: NDArray[np.int64],
    places: Places,
    rules: Rules,
    refusals: Refusals,
) -> None:
    """Put rows of a batch that broke a rule aside, as the rules say; SourceError for the first with "raise".

    `rows_in_piece` are the same rows as `places` numbers them.
    """
    if not len(rows):
        return
    if rules.on_bad == "raise":
        source, position, unit = places.of(rows_in_piece[:1])
        raise SourceError(
            f"{source[0]}, {unit} {position[0]}{_found(fault, batch, int(rows[0]))}, expected {fault.expected}",
            next_step='correct it in the source, or ingest with on_bad="quarantine" to keep the other rows',
        )
    refusals.count(fault.broken, len(rows))
    if refusals.path is not None:
        source, position, _ = places.of(rows_in_piece)
        reasons = [f"expected {fault.expected}{_found(fault, batch, int(row))}" for row in rows]
        refusals.add(rows_as_text(batch.take(pa.array(rows))), reasons, source, position)


def take_rejects(source: Source, refusals: Refusals) -> None:
    """Put what a source could not read since the last call with the refused rows."""
    if isinstance(source, RejectingSource):
        for rejects in source.rejects():
            refusals.add_unreadable(rejects)


def target_schema(found: pa.Schema, rules: Rules) -> Schema:
    """Return the columns in which rows will be stored: those declared, or those found.

    Raises:
        SchemaError: a declared column is not there.
    """
    if rules.schema is None:
        return schema_from_arrow(found)
    if missing := [name for name in rules.schema.names if name not in found.names]:
        raise SchemaError(
            f"the source has no column {', '.join(map(repr, missing))}; its columns are {', '.join(found.names)}",
            next_step="declare columns that are there",
        )
    return rules.schema


def check_columns(schema: Schema, found: pa.Schema, rules: Rules) -> None:
    """Raise SchemaError when a later batch has other columns than the first."""
    if rules.schema is None:
        schema.widened(schema_from_arrow(found))
    else:
        target_schema(found, rules)


def pieces_of(batch: pa.RecordBatch, num_rows: int, num_bytes: int) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Cut a batch into pieces of at most so many rows and about so many bytes, each with its first row."""
    row_bytes = max(batch.nbytes // max(batch.num_rows, 1), 1)
    step = max(min(num_rows, num_bytes // row_bytes), 1)
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step), start


def _type_text(column: Column) -> str:
    return str(column).removeprefix(f"{column.name}: ").removesuffix(" or null")


def _found(fault: Fault, piece: pa.RecordBatch, row: int) -> str:
    if fault.column is None:
        return f": the row is {rows_as_text(piece.slice(row, 1))[0]:.300}"
    value = piece.column(fault.column)[row].as_py()
    return f", column {fault.column!r}: found {value!r:.100}"
