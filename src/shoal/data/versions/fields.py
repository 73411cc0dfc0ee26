"""What a version's file says, held to what any writer could have meant: sizes, sums and hashes before they are used."""

import base64
import re
from collections.abc import Iterable, Sequence

from shoal.base import SchemaError
from shoal.data.schema import Column, Schema, parse_column
from shoal.data.storage.shard import Shard

_HASH = re.compile(r"[0-9a-f]{16}")
_SUM_BYTES = 8


def wrong_shard(shard: Shard) -> str | None:
    """Return which field of a shard cannot be so, and why; None when all can."""
    if shard.num_rows < 0:
        return f"num_rows is {shard.num_rows}, expected 0 or more"
    if shard.size_bytes < 0:
        return f"size_bytes is {shard.size_bytes}, expected 0 or more"
    if shard.chunk_bytes < 1 or shard.chunk_bytes & (shard.chunk_bytes - 1):
        return f"chunk_bytes is {shard.chunk_bytes}, expected a power of two"
    try:
        num_bytes = len(base64.b64decode(shard.sums, validate=True))
    except ValueError as error:
        return f"sums is no base64: {error}"
    num_chunks = -(-shard.size_bytes // shard.chunk_bytes)
    if num_bytes != num_chunks * _SUM_BYTES:
        return f"sums has {num_bytes} bytes, expected {num_chunks * _SUM_BYTES} for {num_chunks} chunks"
    return _wrong_hashes(shard)


def _wrong_hashes(shard: Shard) -> str | None:
    for name, text in (("first_hash", shard.first_hash), ("last_hash", shard.last_hash)):
        if (text is None) != (shard.order == "arrival"):
            return f"{name} is {text!r} in order of {shard.order}"
        if text is not None and _HASH.fullmatch(text) is None:
            return f"{name} is {text!r}, expected 16 hexadecimal digits"
    if shard.first_hash is not None and shard.last_hash is not None and shard.first_hash > shard.last_hash:
        return f"first_hash {shard.first_hash} is above last_hash {shard.last_hash}"
    return None


def wrong_columns(columns: Sequence[Column], key: str | None) -> str | None:
    """Return what cannot be so about the columns; None when a dataset can have them."""
    for column in columns:
        try:
            parsed = parse_column(column.name, str(column).removeprefix(f"{column.name}: "))
        except SchemaError as error:
            return f"columns has {column}: {error.message}"
        if parsed.storage != column.storage:
            return f"columns has {column}, expected {parsed}"
    try:
        schema = Schema(tuple(columns))
    except SchemaError as error:
        return f"columns cannot be stored: {error.message}"
    return None if key is None or key in schema.names else f"key is {key!r}, which is no column"


def negative(counts: Iterable[tuple[str, int]]) -> str | None:
    """Return which of the named counts is below 0; None when none is."""
    return next((f"{name} is {count}, expected 0 or more" for name, count in counts if count < 0), None)
