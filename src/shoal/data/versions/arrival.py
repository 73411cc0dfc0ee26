"""One digest for rows that arrived together, however they were cut into shards: the same append is known again."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from xxhash import xxh3_128

from shoal.base import digest_json
from shoal.data.columns import decode
from shoal.data.schema import Column, Schema
from shoal.data.texts import texts_of


def arrival_digest(batches: Iterable[pa.RecordBatch], schema: Schema, key: str | None) -> str:
    """Return the digest of rows in the order of their hashes; names, types and values count, the cuts do not.

    Args:
        batches: all rows, in the order in which shards hold them.
        schema: their columns.
        key: what places them.
    """
    # One running sum per part of a column, validity, lengths and values: then the end of a batch falls nowhere.
    sums = {column.name: (xxh3_128(), xxh3_128(), xxh3_128()) for column in schema.columns}
    num_rows = 0
    for batch in batches:
        num_rows += batch.num_rows
        for column in schema.columns:
            _add(sums[column.name], batch.column(column.name), column)
    columns = [[str(column), *(part.hexdigest() for part in sums[column.name])] for column in schema.columns]
    return digest_json({"columns": columns, "key": key, "rows": num_rows})


def _add(sums: tuple[xxh3_128, xxh3_128, xxh3_128], array: pa.Array, column: Column) -> None:
    valid, lengths, values = sums
    if column.nullable:
        valid.update(np.ascontiguousarray(array.is_valid().to_numpy(zero_copy_only=False)).data)
    if column.is_fixed:
        values.update(np.ascontiguousarray(decode(array, column).values).reshape(-1).view(np.uint8).data)
        return
    texts = texts_of(array, column)
    lengths.update(np.ascontiguousarray(np.diff(texts.offsets)).view(np.uint8).data)
    values.update(texts.data[int(texts.offsets[0]) * texts.width : int(texts.offsets[-1]) * texts.width].data)
