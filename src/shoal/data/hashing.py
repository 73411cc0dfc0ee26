"""A 64-bit hash per row: it decides the row's shard and its side of every split, today and after the data has grown."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from shoal.base import SourceError
from shoal.data.columns import decode
from shoal.data.schema import NUMBERS, Column, Schema

HASH_SPAN = 2**64


def row_hashes(batch: pa.RecordBatch, schema: Schema, key: str | None) -> NDArray[np.uint64]:
    """Return uint64 [num_rows]: XXH3 of the key's value, or of the whole row's content when `key` is None.

    Equal keys (equal rows without a key) always have equal hashes, so they never part in a split. All integer types
    hash alike, so that a key may change its width.

    Raises:
        SourceError: a row has no key.
    """
    contents = _row_contents(batch, schema.columns) if key is None else _key_contents(batch.column(key), schema[key])
    return np.fromiter(map(xxh3_64_intdigest, contents), np.uint64, batch.num_rows)


def _key_contents(array: pa.Array, column: Column) -> list[bytes]:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise SourceError(
            f"cannot place a row by key {column.name!r}: row {row} of a batch has no value there",
            next_step=f"fill {column.name!r} in the source, or use another key",
        )
    if not column.is_fixed:
        return _blobs(array)
    values = decode(array, column).values
    if column.dtype in NUMBERS and values.dtype.kind in "iu" and not column.shape:
        values = values.astype(np.int64)
    return _rows_as_bytes([values])


def _row_contents(batch: pa.RecordBatch, columns: tuple[Column, ...]) -> list[bytes]:
    fixed: list[NDArray[Any]] = []
    texts: list[list[bytes]] = []
    for column in columns:
        array = batch.column(column.name)
        # A null differs from a zero and from an empty text: one byte per column says which it is.
        fixed.append(array.is_valid().to_numpy(zero_copy_only=False))
        if column.is_fixed:
            fixed.append(decode(array, column).values)
        else:
            blobs = _blobs(array.fill_null("" if column.dtype == "string" else b""))
            # Lengths keep ("ab", "c") and ("a", "bc") apart.
            fixed.append(np.fromiter(map(len, blobs), np.int64, len(blobs)))
            texts.append(blobs)
    rows = _rows_as_bytes(fixed)
    return [b"".join(parts) for parts in zip(rows, *texts, strict=True)] if texts else rows


def _blobs(array: pa.Array) -> list[bytes]:
    blobs: list[bytes] = array.cast(pa.binary()).to_pylist()
    return blobs


def _rows_as_bytes(columns: list[NDArray[Any]]) -> list[bytes]:
    num_rows = len(columns[0])
    parts = [np.ascontiguousarray(values).reshape(num_rows, -1).view(np.uint8) for values in columns if values.size]
    table = np.ascontiguousarray(np.concatenate(parts, axis=1)) if parts else np.zeros((num_rows, 1), np.uint8)
    rows: NDArray[Any] = table.view(np.dtype((np.void, table.shape[1]))).reshape(-1)
    as_bytes: list[bytes] = rows.tolist()
    return as_bytes
