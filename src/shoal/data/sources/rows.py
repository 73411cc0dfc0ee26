"""Rows as Python has them: dicts, tuples with names and data classes, one after the other, as a source."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from shoal.base import SourceError
from shoal.data.sources.base import REJECTS, OnBad
from shoal.data.sources.dtypes import Dtypes, declared_types, dtype_text
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.flattening import Flattening
from shoal.data.sources.positions import Positions, mark

_ROWS_PER_BATCH = 8_192
_SHOWN_CHARACTERS = 60


class RowsSource:
    """Rows from an iterable of dicts, named tuples, data classes, or tuples with `names`.

    Types that are not declared are taken from the first 8,192 rows; a later row that does not fit them is a bad one.
    Dicts inside become columns "outer.inner". A list can be read many times, a generator once.
    """

    def __init__(
        self,
        rows: Iterable[Any],
        *,
        names: Sequence[str] | None = None,
        dtypes: Dtypes | None = None,
        name: str = "rows in memory",
        on_bad: OnBad = "raise",
    ) -> None:
        """Say what the rows are.

        Args:
            rows: any iterable of them.
            names: of the columns, for tuples and lists.
            dtypes: types by column, as in `Column.dtype`; the others are inferred. Numbers in a column that is
                declared "string" become text.
            name: what the manifest calls them.
            on_bad: what happens to a row that does not fit the columns' types.
        """
        self.on_bad: OnBad = on_bad
        self._rows = rows
        self._names = names
        self._declared = declared_types(dtypes)
        self._texts = [title for title, kind in self._declared.items() if pa.types.is_string(kind)]
        self._name = name
        self._num_rows = 0
        self._bad: list[tuple[int, str, str]] = []

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows, 8,192 at a time.

        Raises:
            SourceError: a row is no dict, tuple or data class, or does not fit and `on_bad` is "raise".
        """
        rows, start = iter(self._rows), 0
        self._num_rows, self._bad = 0, []
        schema: pa.Schema | None = None
        flattening: Flattening | None = None
        while chunk := [self._prepared(row, start + i) for i, row in enumerate(islice(rows, _ROWS_PER_BATCH))]:
            schema = schema or self._inferred(chunk)
            batch, breaks = self._to_batch(chunk, schema, start)
            flattening = flattening or Flattening(schema, self._name)
            if batch.num_rows:
                yield mark(flattening(batch), Positions(self._name, start, "row", breaks))
            self._num_rows += batch.num_rows
            start += len(chunk)

    def facts(self) -> tuple[SourceFact, ...]:
        """Say how many rows came."""
        return (SourceFact(path=self._name, digest=None, num_rows=self._num_rows),)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the bad rows met since the last call."""
        bad, self._bad = self._bad, []
        if bad:
            rows = [{"reason": why, "source": self._name, "position": at, "content": what} for at, why, what in bad]
            yield pa.RecordBatch.from_pylist(rows, schema=REJECTS)

    def _prepared(self, row: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - whatever a user has
        found = self._as_dict(row, index)
        numbers = {title: str(found[title]) for title in self._texts if type(found.get(title)) in (int, float)}
        return {**found, **numbers} if numbers else found

    def _as_dict(self, row: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - whatever a user has
        if isinstance(row, dict):
            return row
        if dataclasses.is_dataclass(row) and not isinstance(row, type):
            return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        if hasattr(row, "_asdict"):
            named: dict[str, Any] = row._asdict()  # the documented face of a named tuple
            return named
        if self._names is not None and isinstance(row, tuple | list) and len(row) == len(self._names):
            return dict(zip(self._names, row, strict=True))
        expected = f"{len(self._names)} values" if self._names else "a dict, a named tuple or a data class"
        raise SourceError(
            f"cannot read row {index} of {self._name}: it is a {type(row).__name__}, expected {expected}",
            next_step='give dicts, or tuples with names=["x", "y"]',
        )

    def _inferred(self, rows: list[dict[str, Any]]) -> pa.Schema:
        names = list(dict.fromkeys(key for row in rows for key in row))
        fields = []
        for title in dict.fromkeys([*names, *self._declared]):
            try:
                kind = self._declared.get(title) or pa.array([row.get(title) for row in rows]).type
            except (pa.ArrowException, TypeError, OverflowError) as error:
                raise SourceError(
                    f"cannot make a column of {title!r} in {self._name}: {error}",
                    next_step=f"give {title!r} values of one type, or declare it: "
                    f'shoal.data.RowsSource(rows, dtypes={{{title!r}: "string"}})',
                ) from error
            fields.append((title, kind))
        return pa.schema(fields)

    def _to_batch(
        self, rows: list[dict[str, Any]], schema: pa.Schema, start: int
    ) -> tuple[pa.RecordBatch, tuple[tuple[int, int], ...]]:
        known = set(schema.names)
        try:
            if all(row.keys() <= known for row in rows):
                return pa.RecordBatch.from_pylist(rows, schema=schema), ()
        except (pa.ArrowException, TypeError, OverflowError):
            pass
        good: list[dict[str, Any]] = []
        places: list[tuple[int, int]] = []
        for index, row in enumerate(rows):
            reason = _fault(row, schema)
            if reason is None:
                good.append(row)
                places.append((len(places), start + index))
            elif self.on_bad == "raise":
                raise SourceError(
                    f"cannot read row {start + index} of {self._name}: {reason}",
                    next_step="correct the row, declare the types with shoal.data.RowsSource(rows, dtypes={...}), "
                    'or use on_bad="quarantine"',
                )
            elif self.on_bad == "quarantine":
                self._bad.append((start + index, reason, repr(row)))
        return pa.RecordBatch.from_pylist(good, schema=schema), tuple(places)


def _fault(row: dict[str, Any], schema: pa.Schema) -> str | None:
    if unknown := row.keys() - set(schema.names):
        return f"its key {min(unknown)!r} is not among the columns of the rows before it"
    for one in schema:
        try:
            pa.array([row.get(one.name)], one.type)
        except (pa.ArrowException, TypeError, OverflowError):
            return f"column {one.name!r} is {repr(row[one.name])[:_SHOWN_CHARACTERS]}, expected {dtype_text(one.type)}"
    return None
