"""Which rows a filter keeps, said in plain values: ("age", ">=", 18), joined by "all", "any" and "not"."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError, SchemaError
from shoal.data.comparison import COMPARISONS, among, compared, is_numeric
from shoal.data.schema import Column, Schema

Scalar: TypeAlias = str | int | float | bool
Flags = NDArray[np.bool_]

_JOINS = {"all": pc.and_kleene, "any": pc.or_kleene}
# Half a character, which neither files nor Arrow can hold.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Deep enough for what people and programs write, and far from where Python gives up.
MAX_DEPTH = 32
_EXAMPLE = 'for example ("age", ">=", 18), ("city", "in", ["Oslo", "Rome"]) or ("name", "is null")'


def checked_predicate(predicate: object, schema: Schema) -> list[Any]:
    """Return a predicate as lists of plain JSON values, after trying it on no rows.

    Args:
        predicate: (column, comparison, value) with ==, !=, <, <=, >, >=, in, not in; (column, "is null" or "is not
            null"); ("all", p, q, ...), ("any", p, q, ...), ("not", p). Instants are `datetime` (UTC when naive) or
            ISO text.
        schema: the columns that may be named.

    Raises:
        InputError: it has another form, or a value does not go with its column.
        SchemaError: there is no such column.
    """
    plain = _plain(predicate)
    empty = pa.RecordBatch.from_pylist([], schema=schema.arrow())
    evaluate(plain, empty, schema)
    return plain


def predicate_columns(predicate: Sequence[Any]) -> set[str]:
    """Return the names of the columns that a checked predicate reads."""
    if predicate[0] in (*_JOINS, "not") and not isinstance(predicate[1], str):
        return set().union(*map(predicate_columns, predicate[1:]))
    return {predicate[0]}


def holds(predicate: Sequence[Any], batch: pa.RecordBatch, schema: Schema) -> Flags:
    """Return bool [num_rows]: where a checked predicate holds; a comparison with a missing value does not."""
    kept: Flags = evaluate(predicate, batch, schema).fill_null(False).to_numpy(zero_copy_only=False)
    return kept


def evaluate(predicate: Sequence[Any], batch: pa.RecordBatch, schema: Schema) -> pa.Array:
    """Return a boolean array [num_rows], null where a missing value leaves it open."""
    head, *rest = predicate
    if head in (*_JOINS, "not") and rest and not isinstance(rest[0], str):
        parts = [evaluate(part, batch, schema) for part in rest]
        if head == "not":
            return pc.invert(parts[0])
        joined = parts[0]
        for part in parts[1:]:
            joined = _JOINS[head](joined, part)
        return joined
    column = schema[head]
    values = batch.column(head)
    if rest[0] in ("is null", "is not null"):
        return values.is_null() if rest[0] == "is null" else values.is_valid()
    try:
        return _compared(values, rest[0], rest[1], column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, SchemaError) as error:
        raise InputError(
            f"cannot compare column {column} with {rest[1]!r:.200}: {error}",
            next_step=f"give a value of type {column.dtype}",
        ) from error


def _compared(values: pa.Array, comparison: str, value: Scalar | list[Scalar], column: Column) -> pa.Array:
    if column.shape or column.is_list:
        raise pa.ArrowInvalid(f"each row is a {'list' if column.is_list else 'tensor'}")
    kind = column.arrow_type()
    if isinstance(value, list):
        scalars = [_scalar(one, column) for one in value]
        if is_numeric(kind):
            found = among(values, scalars)
        else:
            # A missing value is neither in a list nor outside of it, as with every other comparison.
            found = pc.is_in(values, value_set=pa.array(scalars, kind))
            found = pc.if_else(values.is_valid(), found, pa.scalar(None, pa.bool_()))
        return found if comparison == "in" else pc.invert(found)
    if is_numeric(kind):
        return compared(values, comparison, _scalar(value, column))
    return COMPARISONS[comparison](values, pa.scalar(_scalar(value, column), kind))


def _scalar(value: object, column: Column) -> Any:  # noqa: ANN401 - as many types as columns have
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"timestamp": isinstance(value, str), "string": isinstance(value, str), "bool": isinstance(value, bool)}
    if not fits.get(column.dtype, is_number):
        raise pa.ArrowInvalid(f"it is {type(value).__name__}")
    return instant(value) if column.dtype == "timestamp" and isinstance(value, str) else value


def instant(text: str) -> datetime:
    """Return the instant of ISO text, in UTC and without a zone, as datasets store it.

    Raises:
        InputError: the text is no instant.
    """
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.astimezone(UTC).replace(tzinfo=None) if parsed.tzinfo else parsed
    # The first and last hours of the calendar have no counterpart in UTC.
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"cannot read {text!r:.200} as an instant", next_step="write it as 2026-03-01T12:00:00"
        ) from error


def plain_value(value: object) -> Scalar:
    """Return a value as JSON holds it: NumPy scalars as Python's, instants as ISO text in UTC.

    Raises:
        InputError: it is not text, a finite number, a boolean or an instant.
    """
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]").item()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime):
        return instant(value.isoformat()).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str) and not _SURROGATE.search(value):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise InputError(
        f"cannot compare with {value!r:.200}: expected text, a finite number, a boolean or an instant",
        next_step=_EXAMPLE,
    )


def _plain(predicate: object, depth: int = 0) -> list[Any]:
    if depth > MAX_DEPTH:
        raise InputError(
            f"cannot read a condition on rows that is nested more than {MAX_DEPTH} deep",
            next_step="filter step by step: dataset.filter(...).filter(...)",
        )
    match predicate:
        case ("all" | "any" as join, list() | tuple() as first, *others):
            return [join, *(_plain(part, depth + 1) for part in (first, *others))]
        case ("not", list() | tuple() as inner):
            return ["not", _plain(inner, depth + 1)]
        case (str() as name, "is null" | "is not null" as comparison):
            return [name, comparison]
        case (str() as name, "in" | "not in" as comparison, list() | tuple() | set() | frozenset() as values):
            ordered = sorted(values, key=repr) if isinstance(values, set | frozenset) else values
            return [name, comparison, [plain_value(value) for value in ordered]]
        case (str() as name, str() as comparison, value) if comparison in COMPARISONS:
            return [name, comparison, plain_value(value)]
    raise InputError(f"cannot read {predicate!r:.200} as a condition on rows", next_step=_EXAMPLE)
