"""A 64-bit hash per row: it decides the row's shard and its side of every split, today and after the data has grown."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from shoal.base import SourceError
from shoal.data import compiled
from shoal.data.canonical import canonical_floats
from shoal.data.columns import decode
from shoal.data.schema import NUMBERS, Column, Schema
from shoal.data.texts import Texts, texts_of

# One stretch of every row's content: ("v", 1, -, -, valid), ("f", width, values, -, -), ("n", width, offsets, -, valid)
# or ("t", width, offsets, data, valid), as _statistics.c describes them.
_Piece = tuple[str, int, NDArray[Any] | None, NDArray[np.uint8] | None, NDArray[np.bool_] | None]


def row_hashes(batch: pa.RecordBatch, schema: Schema, key: str | None) -> NDArray[np.uint64]:
    """Return uint64 [num_rows]: XXH3 of the key's value, or of the whole row's content when `key` is None.

    Equal keys (equal rows without a key) always have equal hashes, so they never part in a split. All integer types
    hash alike, so that a key may change its width. Of a key that is a float, -0.0 is 0.0 and all NaN are one; of a
    row's content every bit counts.

    Raises:
        SourceError: a row has no key.
    """
    pieces = _row_pieces(batch, schema.columns) if key is None else _key_pieces(batch.column(key), schema[key])
    return _hash(pieces, batch.num_rows)


def text_hashes(array: pa.Array) -> NDArray[np.uint64]:
    """Return uint64 [len(array)]: XXH3 of each text's bytes; `array` is an Arrow string array without nulls."""
    texts = texts_of(array, Column(name="", dtype="string"))
    return _hash([("t", 1, texts.offsets, texts.data, None)], len(array))


def _key_pieces(array: pa.Array, column: Column) -> list[_Piece]:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise SourceError(
            f"cannot place a row by key {column.name!r}: row {row} of a batch has no value there",
            next_step=f"fill {column.name!r} in the source, or use another key",
        )
    if not column.is_fixed:
        texts = texts_of(array, column)
        # A list of floats is a key too: its bytes are those of its numbers.
        data = canonical_floats(texts.data.view(column.dtype)).view(np.uint8) if column.is_list else texts.data
        return [("t", texts.width, texts.offsets, data, None)]
    values = canonical_floats(decode(array, column).values)
    if column.dtype in NUMBERS and values.dtype.kind in "iu" and not column.shape:
        values = values.astype(np.int64)
    return [_fixed(values)]


def _row_pieces(batch: pa.RecordBatch, columns: tuple[Column, ...]) -> list[_Piece]:
    pieces: list[_Piece] = []
    ends: list[_Piece] = []
    for column in columns:
        array = batch.column(column.name)
        if column.is_fixed:
            decoded = decode(array, column)
            # A null differs from a zero and from an empty text: one byte per column says which it is.
            pieces.append(("v", 1, None, None, decoded.valid))
            if decoded.values.size:
                pieces.append(_fixed(decoded.values))
        else:
            texts = texts_of(array, column)
            pieces.append(("v", 1, None, None, texts.valid))
            # Lengths keep ("ab", "c") and ("a", "bc") apart.
            pieces.append(("n", texts.width, texts.offsets, None, texts.valid))
            ends.append(("t", texts.width, texts.offsets, texts.data, texts.valid))
    return pieces + ends


def _fixed(values: NDArray[Any]) -> _Piece:
    width = values.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    return ("f", width, np.ascontiguousarray(values).reshape(-1).view(np.uint8), None, None)


def _hash(pieces: list[_Piece], num_rows: int) -> NDArray[np.uint64]:
    if compiled.statistics is not None and compiled.hash_address is not None:
        hashes = np.empty(num_rows, np.uint64)
        compiled.statistics.hash_rows(compiled.hash_address, num_rows, pieces, hashes)
        return hashes
    return np.fromiter(map(xxh3_64_intdigest, _contents(pieces, num_rows)), np.uint64, num_rows)


def _contents(pieces: list[_Piece], num_rows: int) -> list[bytes]:
    fixed: list[NDArray[np.uint8]] = []
    blobs: list[list[bytes]] = []
    for kind, width, values, data, valid in pieces:
        if kind == "v":
            fixed.append(np.ones((num_rows, 1), np.uint8) if valid is None else valid.view(np.uint8).reshape(-1, 1))
        elif kind == "f" and values is not None:
            fixed.append(values.reshape(num_rows, width))
        elif kind == "n" and values is not None:
            lengths = np.diff(values).astype(np.int64) * width
            lengths = lengths if valid is None else np.where(valid, lengths, 0)
            fixed.append(lengths.reshape(-1, 1).view(np.uint8))
        elif values is not None and data is not None:
            blobs.append(Texts(offsets=values, data=data, valid=valid, width=width).to_list())
    rows = _rows_as_bytes(np.concatenate(fixed, axis=1)) if fixed else [b""] * num_rows
    return [b"".join(parts) for parts in zip(rows, *blobs, strict=True)] if blobs else rows


def _rows_as_bytes(table: NDArray[np.uint8]) -> list[bytes]:
    rows: NDArray[Any] = np.ascontiguousarray(table).view(np.dtype((np.void, table.shape[1]))).reshape(-1)
    as_bytes: list[bytes] = rows.tolist()
    return as_bytes
