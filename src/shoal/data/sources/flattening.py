"""Columns as a dataset stores them, from whatever Arrow has: structs taken apart, dictionaries looked up."""

from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa

from shoal.base import SourceError

_types = pa.types


class Flattening:
    """Turns batches of one schema into batches of plain columns; the same for every batch.

    A struct becomes one column a field, "place.city"; dictionaries (categories) become their values; decimals become
    whole numbers where they have no fraction and 18 digits at most, else float64; dates become instants; a column
    without any value is text.
    """

    def __init__(self, schema: pa.Schema, name: str) -> None:
        """Plan the work.

        Args:
            schema: of the batches to come.
            name: where they come from, for messages.

        Raises:
            SourceError: two columns would have one name, or a type has no plain form; the message names the columns.
        """
        leaves = [leaf for index, field in enumerate(schema) for leaf in _leaves(field, field.name, (index,))]
        self._paths = [path for _, path, _ in leaves]
        self.schema = pa.schema([(title, _plain_type(title, kind, name)) for title, _, kind in leaves])
        if double := [title for title, count in Counter(self.schema.names).items() if count > 1]:
            raise SourceError(
                f"cannot read {name}: several columns are named {', '.join(map(repr, double))}",
                next_step="rename all but one of them",
            )
        self._is_plain = self.schema.equals(schema)

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch's rows in plain columns; what is plain already is not copied."""
        if self._is_plain:
            return batch if batch.schema.metadata is None else batch.replace_schema_metadata(None)
        columns = [_plain(_at(batch, path), field.type) for path, field in zip(self._paths, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def flattened(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
    """Yield batches with plain columns; all must have the schema of the first.

    Raises:
        SourceError: the columns change on the way, or have no plain form.
    """
    flattening: Flattening | None = None
    before: pa.Schema | None = None
    for batch in batches:
        if flattening is None:
            flattening, before = Flattening(batch.schema, name), batch.schema
        elif batch.schema != before:
            raise SourceError(
                f"the columns of {name} change on the way: found {_described(batch.schema)} where "
                f"{_described(before)} is expected",
                next_step="give all rows the same columns and types",
            )
        yield flattening(batch)


def _described(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)


def _leaves(field: pa.Field, title: str, path: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...], pa.DataType]]:
    if not _types.is_struct(field.type):
        yield title, path, field.type
        return
    for index in range(field.type.num_fields):
        child = field.type.field(index)
        yield from _leaves(child, f"{title}.{child.name}", (*path, index))


def _at(batch: pa.RecordBatch, path: tuple[int, ...]) -> pa.Array:
    array = batch.column(path[0])
    for index in path[1:]:
        # A row whose struct is null has no value in any of its fields, whatever lies there.
        array = array.flatten()[index]
    return array


def _plain_type(title: str, kind: pa.DataType, name: str) -> pa.DataType:
    if isinstance(kind, pa.DictionaryType) or _types.is_run_end_encoded(kind):
        return _plain_type(title, kind.value_type, name)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        return _plain_type(title, kind.storage_type, name)
    for is_kind, plain in _CONVERTED:
        if is_kind(kind):
            return plain(kind)
    if any(is_kind(kind) for is_kind in _REFUSED):
        raise SourceError(
            f"cannot read column {title!r} of {name}: its type {kind} has no counterpart",
            next_step=f"convert {title!r} to numbers, text or instants in the source, or leave it out",
        )
    return kind


def _decimal_type(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if kind.scale <= 0 and kind.precision - kind.scale <= _INT64_DIGITS else pa.float64()


def _list_type(kind: pa.DataType) -> pa.DataType:
    # Lists that were empty in all rows: any type of numbers holds them.
    return pa.list_(pa.float64() if _types.is_null(kind.value_type) else kind.value_type)


_INT64_DIGITS = 18
_CONVERTED: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], pa.DataType]], ...] = (
    (_types.is_null, lambda _: pa.string()),
    (_types.is_decimal, _decimal_type),
    (_types.is_string_view, lambda _: pa.string()),
    (_types.is_binary_view, lambda _: pa.binary()),
    (_types.is_date, lambda _: pa.timestamp("us")),
    (_types.is_list, _list_type),
    (_types.is_large_list, _list_type),
)
_REFUSED = (_types.is_time, _types.is_duration, _types.is_interval, _types.is_map, _types.is_union)


def _plain(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ExtensionArray) and not isinstance(array, pa.FixedShapeTensorArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        # Looked up as plain text: Arrow takes no rows from views, which is what polars hands over.
        array = array.dictionary.cast(wanted).take(array.indices)
    elif isinstance(array, pa.RunEndEncodedArray):
        array = pa.compute.run_end_decode(array)
    if array.type.equals(wanted):
        return array
    # Decimals lose digits beyond a float's 15 or so: that is what was asked for by storing them as numbers.
    return array.cast(wanted, safe=not _types.is_decimal(array.type))
