"""One statistics format at ingestion, training and serving: a profile of every column, exact to merge in any order."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import CorruptError, SchemaError
from shoal.data.columns import Decoded, Values, conform_array, decode, encode
from shoal.data.schema import Column, schema_from_arrow
from shoal.data.statistics.categories import Categories
from shoal.data.statistics.column_profile import ColumnProfile, Kind
from shoal.data.statistics.histogram import NUM_BINS, sum_byte_rows
from shoal.data.texts import texts_of

_FORMAT = b"1"
# 512: rows of 784 numbers as float64 then stay inside a core's cache while means and deviations are taken.
_ROWS_AT_ONCE = 512
# Rows of up to 8 M bytes: beyond, a row's sum of squares times its size would leave int64.
_EXACT_SIZE = 1 << 23


class Profile:
    """Statistics per column; grows by `update`, joins by `merge`. Not for several threads while it grows.

    A tensor column "image" gives three: "image" (all its numbers), "image.mean" and "image.std" (one per row). A
    column of blobs gives "name.length". The same rows give the same bytes however they were cut and merged.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.columns: dict[str, ColumnProfile] = {}

    def update(self, batch: Mapping[str, Any] | pa.RecordBatch) -> None:
        """Add rows: a mapping of name to array [num_rows, ...] (as a loader gives), or a `pyarrow.RecordBatch`.

        In a mapping, "<name>_mask" tells which rows of "<name>" have a value.

        Raises:
            SchemaError: columns differ in length, or from earlier batches in kind.
        """
        if isinstance(batch, pa.RecordBatch):
            for column in schema_from_arrow(batch.schema).columns:
                # What other tools hand over (dictionaries, large texts, dates) in the one type that is stored.
                self._add_array(conform_array(batch.column(column.name), column), column)
            self.num_rows += batch.num_rows
            return
        columns = list(_from_mapping(batch))
        lengths = {name: len(values) + nulls for name, values, nulls in columns}
        if len(set(lengths.values())) > 1:
            raise SchemaError(f"columns differ in length: {lengths}", next_step="give every column one value per row")
        for name, values, nulls in columns:
            self._add(name, values, nulls)
        self.num_rows += next(iter(lengths.values()), 0)

    def _add_array(self, array: pa.Array, column: Column) -> None:
        if column.is_list or column.dtype == "binary":
            texts = texts_of(array, column)
            self._column(f"{column.name}.length", "number").add_numbers(np.diff(texts.offsets), valid=texts.valid)
            if column.is_list:
                self._column(column.name, "number").add_numbers(texts.values(column))
        elif column.dtype == "string":
            self._column(column.name, "category").add_text_array(array)
        elif column.shape or column.dtype == "bool":
            decoded = decode(array, column)
            values = decoded.values if decoded.valid is None else decoded.values[decoded.valid]
            self._add(column.name, values, array.null_count)
        else:
            decoded = decode(array, column)
            profile = self._column(column.name, "number")
            if column.dtype not in ("timestamp", "float16", "float32", "float64"):
                profile.add_categories(decoded.values, decoded.valid)
            numbers = decoded.values.view(np.int64) if column.dtype == "timestamp" else decoded.values
            profile.add_numbers(numbers, valid=decoded.valid)

    def _add(self, name: str, values: Values, nulls: int) -> None:
        if values.dtype == object and any(isinstance(value, bytes) for value in values[:1]):
            lengths = np.fromiter(map(len, values), np.int64, len(values))
            self._column(f"{name}.length", "number").add_numbers(lengths, nulls)
        elif values.dtype.kind in "OUTb":
            self._column(name, "category").add_texts(values, nulls)
        elif values.ndim == 1:
            column = self._column(name, "number")
            if values.dtype.kind == "M":
                values = values.astype("datetime64[us]").view(np.int64)
            elif values.dtype.kind in "iu":
                column.add_categories(values)
            column.add_numbers(values, nulls)
        else:
            self._add_tensor(name, values, nulls)

    def _add_tensor(self, name: str, values: Values, nulls: int) -> None:
        size = int(np.prod(values.shape[1:], dtype=np.int64))
        rows = values.reshape(len(values), size)
        pooled = self._column(name, "number", size)
        means, deviations = self._column(f"{name}.mean", "number"), self._column(f"{name}.std", "number")
        pooled.nulls += nulls * size
        means.nulls += nulls
        deviations.nulls += nulls
        if size == 0:
            return
        if rows.dtype == np.uint8 and size <= _EXACT_SIZE:
            counts, sums, squares = sum_byte_rows(rows)
            pooled.add_bytes(counts, rows.dtype)
            means.add_numbers(sums / size)
            # Whole numbers up to the last step: the same bits in whatever order they were added.
            deviations.add_numbers(np.sqrt(size * squares - sums * sums) / size)
            return
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            # A copy of its own type first: a sum that converts as it goes cuts rows where its buffer ends, and then
            # a row's rounding would depend on its place in the batch.
            part = rows[start : start + _ROWS_AT_ONCE].astype(np.float64)
            mean = part.sum(axis=1) / size
            part -= mean[:, None]
            np.multiply(part, part, out=part)
            pooled.add_numbers(rows[start : start + _ROWS_AT_ONCE])
            means.add_numbers(mean)
            deviations.add_numbers(np.sqrt(part.sum(axis=1) / size))

    def _column(self, name: str, kind: Kind, values_per_row: int = 1) -> ColumnProfile:
        column = self.columns.setdefault(name, ColumnProfile(name, kind, values_per_row))
        if (column.kind, column.values_per_row) != (kind, values_per_row):
            raise SchemaError(
                f"column {name!r} was {column.kind} with {column.values_per_row} per row, and now is {kind} "
                f"with {values_per_row}",
                next_step="profile columns of one type and shape under one name",
            )
        return column

    def merge(self, other: "Profile") -> "Profile":
        """Return the profile of both row sets together; neither is changed. Columns known to one side are kept."""
        merged = Profile()
        merged.num_rows = self.num_rows + other.num_rows
        for name in {**self.columns, **other.columns}:
            sides = [side.columns[name] for side in (self, other) if name in side.columns]
            merged.columns[name] = sides[0].merge(sides[1] if len(sides) > 1 else _blank_like(sides[0]))
        return merged

    def select(self, names: list[str] | tuple[str, ...]) -> "Profile":
        """Return the profile of these columns alone, together with what derives from them ("image.mean")."""
        chosen = Profile()
        chosen.num_rows = self.num_rows
        for name, column in self.columns.items():
            if name in names or name.rpartition(".")[0] in names:
                chosen.columns[name] = column.merge(_blank_like(column))
        return chosen

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Profile) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # it grows, so it must not be a key

    def to_bytes(self) -> bytes:
        """Return the profile as an Arrow file, one row per column; equal profiles give equal bytes."""
        rows = [_to_row(self.columns[name]) for name in sorted(self.columns)]
        schema = _SCHEMA.with_metadata({b"shoal.profile": _FORMAT, b"num_rows": str(self.num_rows).encode()})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            arrays = [_to_arrow([row[field.name] for row in rows], field.type) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        return bytes(sink.getvalue())

    @staticmethod
    def from_bytes(data: bytes) -> "Profile":
        """Read what `to_bytes` wrote.

        Raises:
            CorruptError: the bytes are no profile, or one of a later format.
        """
        try:
            table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
            metadata = table.schema.metadata or {}
            if metadata.get(b"shoal.profile") != _FORMAT:
                raise pa.ArrowInvalid(f"its format is {metadata.get(b'shoal.profile')!r}, expected {_FORMAT!r}")
            profile = Profile()
            profile.num_rows = int(metadata[b"num_rows"])
            profile.columns = {row["name"]: _from_row(row) for row in table.to_pylist()}
        except (pa.ArrowException, KeyError, IndexError, ValueError, TypeError) as error:
            raise CorruptError(
                f"cannot read a profile of {len(data)} bytes: {error}",
                next_step="make the profile again from its data",
            ) from error
        return profile


def _from_mapping(batch: Mapping[str, Any]) -> Iterator[tuple[str, Values, int]]:
    for name, given in batch.items():
        if name.endswith("_mask") and name.removesuffix("_mask") in batch:
            continue
        values, mask = np.asarray(given), batch.get(f"{name}_mask")
        valid = np.asarray(mask) if mask is not None else None
        yield name, values if valid is None else values[valid], 0 if valid is None else int((~valid).sum())


def _blank_like(column: ColumnProfile) -> ColumnProfile:
    return ColumnProfile(column.name, column.kind, column.values_per_row)


_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("values_per_row", pa.int64()),
        ("count", pa.uint64()),
        ("nulls", pa.uint64()),
        ("minimum", pa.float64()),
        ("maximum", pa.float64()),
        ("sum_units", pa.string()),
        ("bins", pa.list_(pa.uint16())),
        ("bin_counts", pa.list_(pa.uint64())),
        ("categories", pa.list_(pa.string())),
        ("category_counts", pa.list_(pa.uint64())),
        ("other", pa.uint64()),
    ]
)


def _to_arrow(values: list[Any], kind: pa.DataType) -> pa.Array:
    # Not by Arrow's own conversion, which loads pandas where it is installed: a second of every first ingest.
    if pa.types.is_list(kind):
        inner = _to_arrow(list(itertools.chain(*values)), kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [None, _offsets(values)], children=[inner])
    if pa.types.is_string(kind):
        texts = [text.encode() for text in values]
        return pa.Array.from_buffers(kind, len(texts), [None, _offsets(texts), pa.py_buffer(b"".join(texts))])
    valid = np.array([value is not None for value in values], np.bool_)
    dtype = "float64" if pa.types.is_float64(kind) else str(kind)
    numbers = np.array([0 if value is None else value for value in values], dtype)
    return encode(Decoded(numbers, valid), Column(name="", dtype=dtype))


def _offsets(values: list[Any]) -> pa.Buffer:
    return pa.py_buffer(np.cumsum([0, *map(len, values)], dtype=np.int32))


def _to_row(column: ColumnProfile) -> dict[str, Any]:
    bins = np.flatnonzero(column.histogram)
    categories = column.categories
    return {
        "name": column.name,
        "kind": column.kind,
        "values_per_row": column.values_per_row,
        "count": column.count,
        "nulls": column.nulls,
        "minimum": column.minimum,
        "maximum": column.maximum,
        "sum_units": format(column.sum_units, "x"),
        "bins": bins.tolist(),
        "bin_counts": column.histogram[bins].tolist(),
        "categories": list(categories),
        "category_counts": list(categories.values()),
        "other": column.other,
    }


def _from_row(row: dict[str, Any]) -> ColumnProfile:
    fields = {name: row[name] for name in ("name", "kind", "values_per_row", "count", "nulls", "minimum", "maximum")}
    histogram = np.zeros(NUM_BINS, np.uint64)
    histogram[np.array(row["bins"], np.int64)] = np.array(row["bin_counts"], np.uint64)
    kept = Categories(dict(zip(row["categories"], row["category_counts"], strict=True)), row["other"])
    return ColumnProfile(**fields, histogram=histogram, sum_units=int(row["sum_units"], 16), kept=kept)
