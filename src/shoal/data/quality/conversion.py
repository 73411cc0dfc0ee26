"""From the types that a source has to the types that are declared: what converts exactly does, the rest is named."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.columns import Decoded, conform_array, decode, encode
from shoal.data.schema import Column, Schema, parse_column

# Below this many rows they are tried one by one; above, halves that convert are done at once.
_FEW = 8


def declared_schema(given: Schema | Mapping[str, str] | None) -> Schema | None:
    """Return what a user declares as a schema: one itself, or type texts by name ("int64", "uint8[28, 28]").

    Columns declared by text may hold nulls.
    """
    if given is None or isinstance(given, Schema):
        return given
    return Schema(tuple(parse_column(name, text) for name, text in given.items()))


def converted(array: pa.Array, column: Column) -> tuple[pa.Array, NDArray[np.bool_] | None]:
    """Return an array in its column's declared type, and the rows that have no exact counterpart there (None: none).

    Those rows are null in the result. Texts are parsed; numbers change their type where no digit is lost.
    """
    if isinstance(array.type, pa.DictionaryType):
        array = array.dictionary_decode()
    if array.type.equals(column.arrow_type()):
        return array, None
    try:
        return _exactly(array, column), None
    except (pa.ArrowException, SchemaError):
        pass
    bad = np.zeros(len(array), np.bool_)
    parts = _convert_parts(array, column, bad, 0)
    whole = pa.concat_arrays(parts) if parts else pa.nulls(len(array), column.arrow_type())
    return whole, bad


def _convert_parts(array: pa.Array, column: Column, bad: NDArray[np.bool_], start: int) -> list[pa.Array]:
    # In halves: a few bad rows among millions cost a few conversions of ever smaller pieces.
    if len(array) == 0:
        return []
    try:
        return [_exactly(array, column)]
    except (pa.ArrowException, SchemaError):
        if len(array) == 1:
            bad[start] = True
            return [pa.nulls(1, column.arrow_type())]
    step = 1 if len(array) <= _FEW else -(-len(array) // 2)
    found: list[pa.Array] = []
    for at in range(0, len(array), step):
        found += _convert_parts(array.slice(at, step), column, bad, start + at)
    return found


def _exactly(array: pa.Array, column: Column) -> pa.Array:
    types = pa.types
    if column.shape:
        return _shaped(array, column)
    if column.is_list or types.is_nested(array.type):
        return conform_array(array, column)
    target = column.arrow_type()
    is_text = types.is_string(array.type) or types.is_large_string(array.type)
    if is_text and column.is_fixed:
        parsed = pa.float32() if types.is_float16(target) else target
        return pc.utf8_trim_whitespace(array).cast(parsed).cast(target)
    if types.is_string(target) and not (is_text or types.is_string_view(array.type) or types.is_null(array.type)):
        raise pa.ArrowInvalid("text that was parsed as something else has lost how it was written")
    cast = array.cast(target)
    is_float = types.is_floating(array.type) and types.is_floating(target)
    # Arrow rounds a float64 to a float32 without a word.
    if is_float and target.bit_width < array.type.bit_width and not _is_same(array, cast.cast(array.type)):
        raise pa.ArrowInvalid(f"a value is no {target} without rounding")
    return cast


def _shaped(array: pa.Array, column: Column) -> pa.Array:
    size = int(np.prod(column.shape))
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    rows = array.storage if isinstance(array, pa.ExtensionArray) else array
    flat = rows.drop_null()
    while pa.types.is_fixed_size_list(flat.type) or pa.types.is_list(flat.type):
        lengths = pc.list_value_length(flat)
        if flat.null_count or (len(flat) and pc.min(lengths).as_py() != pc.max(lengths).as_py()):
            raise pa.ArrowInvalid("the numbers of a row are not all there")
        flat = flat.flatten()
    if len(flat) != int(valid.sum()) * size or flat.null_count:
        raise pa.ArrowInvalid(f"a row does not hold {size} numbers")
    numbers = _exactly(flat, replace(column, shape=()))
    out = np.zeros((len(array), *column.shape), column.dtype)
    out[valid] = decode(numbers, replace(column, shape=())).values.reshape(-1, *column.shape)
    return encode(Decoded(out, None if valid.all() else valid), column)


def _is_same(before: pa.Array, after: pa.Array) -> bool:
    equal = pc.or_(pc.equal(before, after), pc.and_(pc.is_nan(before), pc.is_nan(after)))
    return pc.all(equal, skip_nulls=True).as_py() in (True, None)
