"""The rows that a preparation is fitted on: a dataset, or batches of any making, as arrays by name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from shoal.base import InputError
from shoal.data.columns import decode
from shoal.data.prepare.base import Values
from shoal.data.schema import Column, Schema, schema_from_arrow

Batch = Mapping[str, Values]


@runtime_checkable
class Rows(Protocol):
    """What fitting needs of a dataset."""

    @property
    def schema(self) -> Schema:
        """The columns."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""

    @property
    def address(self) -> str:
        """Where they are."""

    @property
    def digest(self) -> str:
        """What they are."""

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8_192) -> Iterator[pa.RecordBatch]:
        """Yield the rows."""


class Batches:
    """Batches that can be read several times, where their source can; the first one is looked at ahead."""

    def __init__(self, rows: "Rows | Iterable[Batch | pa.RecordBatch]") -> None:
        self._rows = rows
        self._num_reads = 0
        self._begun: Iterator[Batch | pa.RecordBatch] | None = None
        if isinstance(rows, Rows):
            self.schema = rows.schema
            return
        begun = iter(rows)
        first = next(begun, None)
        if first is None:
            raise InputError("cannot fit a preparation on no rows", next_step="give at least one batch")
        self.schema = schema_from_arrow(first.schema) if isinstance(first, pa.RecordBatch) else _schema_of(first)
        if isinstance(first, pa.RecordBatch):
            # Whether a column holds nulls is not known before the end; Arrow itself says whether it may.
            self.schema = Schema(
                tuple(
                    Column(name=c.name, dtype=c.dtype, shape=c.shape, is_list=c.is_list, nullable=field.nullable)
                    for c, field in zip(self.schema.columns, first.schema, strict=True)
                )
            )
        self._begun = chain([first], begun)

    def read(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield all rows as arrays of these columns, with masks where values may be missing."""
        self._num_reads += 1
        if isinstance(self._rows, Rows):
            source: Iterable[Batch | pa.RecordBatch] = self._rows.batches(list(columns))
        elif self._begun is not None:
            source, self._begun = self._begun, None
        elif isinstance(self._rows, Iterator):
            raise InputError(
                f"cannot read the batches {self._num_reads} times: they come from an iterator, and its end was reached",
                next_step="give a dataset or a list of batches; this preparation takes several passes",
            )
        else:
            source = self._rows
        for batch in source:
            yield _arrays(batch, columns) if isinstance(batch, pa.RecordBatch) else batch


def _schema_of(batch: Batch) -> Schema:
    columns = []
    for name, given in batch.items():
        if name.endswith("_mask") and name.removesuffix("_mask") in batch:
            continue
        values = np.asarray(given)
        columns.append(
            Column(name=name, dtype=_dtype(name, values), shape=values.shape[1:], nullable=f"{name}_mask" in batch)
        )
    return Schema(tuple(columns))


def _dtype(name: str, values: Values) -> str:
    if values.dtype.kind in "biuf":
        return str(values.dtype)
    if values.dtype.kind == "M":
        return "timestamp"
    kinds = {type(value) for value in values.tolist()} - {type(None)} if values.dtype.kind in "OU" else {object}
    if kinds <= {str}:
        return "string"
    if kinds <= {bytes}:
        return "binary"
    raise InputError(
        f"column {name!r} holds {', '.join(sorted(kind.__name__ for kind in kinds))}: expected numbers or texts",
        next_step=f"convert {name!r} before the preparation sees it",
    )


def _arrays(batch: pa.RecordBatch, columns: Sequence[str]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    chosen = batch.select(list(columns))
    for column in schema_from_arrow(chosen.schema).columns:
        decoded = decode(chosen.column(column.name), column)
        arrays[column.name] = decoded.values
        if decoded.valid is not None:
            arrays[f"{column.name}_mask"] = decoded.valid
    return arrays
