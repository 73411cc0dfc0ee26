"""The careful reading of a CSV block in which something is amiss: which records cannot be rows, and why."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shoal.data.sources.dtypes import dtype_text
from shoal.data.sources.records import Records, find_records, quoted_spans

# How a value of each kind looks at least: what does not match cannot be read, what matches is left to the parser. Found
# by column, because a block in which half of the rows are bad would take minutes to halve down to each of them.
_LOOKS = (
    (pa.types.is_integer, r"^[ \t]*[+-]?(0[xX])?[0-9a-fA-F]+[ \t]*$"),
    (pa.types.is_floating, r"^[ \t]*[+-]?([0-9.]+([eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))[ \t]*$"),
    (pa.types.is_boolean, r"^[ \t]*[A-Za-z01]+[ \t]*$"),
    (pa.types.is_timestamp, r"^[0-9:TZ .+-]+$"),
)
_IN_COLUMN = re.compile(r"In CSV column #(\d+)")
_SHOWN_CHARACTERS = 60

# Reads (data, columns and their types, list for malformed rows or None to fail at them) in one thread.
Read = Callable[[bytes, pa.Schema, "list[pa.csv.InvalidRow] | None"], pa.Table]
# By record: why it is no row, and the column at fault, if one is.
Faults = dict[int, tuple[str, str | None]]


def find_faults(
    data: bytes, delimiter: bytes, schema: pa.Schema, names: Sequence[str], read: Read
) -> tuple[Records, Faults]:
    """Find the records of a block that cannot be rows of the schema.

    Args:
        data: whole records.
        delimiter: what stands between values.
        schema: the wanted columns and their types.
        names: all columns of the file, in order.
        read: parses bytes to a table.
    """
    data, unclosed = _closed(data, delimiter)
    records = find_records(data, delimiter)
    places = [int(place) for place in np.searchsorted(records.starts, unclosed, "right") - 1]
    faults: Faults = dict.fromkeys(places, ("a quoted value begins here and never ends", None))
    malformed: list[pa.csv.InvalidRow] = []
    texts = read(data, pa.schema([(name, pa.binary()) for name in names]), malformed)
    for row in malformed:
        found = f"it has {row.actual_columns} values, expected {row.expected_columns}"
        faults.setdefault(row.number - 1, (found, None))
    rows = np.delete(np.arange(len(records)), [row.number - 1 for row in malformed])
    for field in schema:
        _judge_column(texts.column(field.name), field, rows, faults)

    def explain(index: int, error: pa.ArrowException) -> tuple[str, str | None]:
        match = _IN_COLUMN.search(str(error))
        if match is None:
            return str(error), None
        name = names[int(match[1])]
        value = texts.column(name)[int(np.searchsorted(rows, index))].as_py()
        return _unfit(name, value, schema.field(name).type), name

    left = np.setdiff1d(rows, list(faults))
    _halve(left, lambda part: read(records.joined(data, part), schema, None), explain, faults)
    return records, faults


def _closed(data: bytes, delimiter: bytes) -> tuple[bytes, list[int]]:
    # A quote that is never closed would swallow all rows behind it: it alone is taken out, without moving any byte.
    places: list[int] = []
    while (open_at := quoted_spans(data, delimiter)[1]) is not None:
        places.append(open_at)
        data = data[:open_at] + b" " + data[open_at + 1 :]
    return data, places


def _judge_column(texts: pa.ChunkedArray, field: pa.Field, rows: np.ndarray, faults: Faults) -> None:
    if pa.types.is_string(field.type):
        for index in _not_utf8(texts):
            faults.setdefault(int(rows[index]), (f"column {field.name!r} is not UTF-8", field.name))
        return
    look = next((look for is_kind, look in _LOOKS if is_kind(field.type)), None)
    if look is None:
        return
    fits = pc.fill_null(pc.match_substring_regex(texts, look), True).to_numpy()
    words = pa.csv.ConvertOptions().null_values
    for index in np.flatnonzero(~fits).tolist():
        value = texts[index].as_py()
        if value.decode(errors="replace").strip() not in words:
            faults.setdefault(int(rows[index]), (_unfit(field.name, value, field.type), field.name))


def _not_utf8(texts: pa.ChunkedArray) -> list[int]:
    try:
        texts.cast(pa.string())
    except pa.ArrowInvalid:
        return [index for index, value in enumerate(texts.to_pylist()) if value is not None and not _is_utf8(value)]
    return []


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _halve(
    part: np.ndarray,
    read: Callable[[np.ndarray], pa.Table],
    explain: Callable[[int, pa.ArrowException], tuple[str, str | None]],
    faults: Faults,
) -> None:
    if not len(part):
        return
    try:
        read(part)
    except pa.ArrowInvalid as error:
        if len(part) == 1:
            faults[int(part[0])] = explain(int(part[0]), error)
            return
        for half in (part[: len(part) // 2], part[len(part) // 2 :]):
            _halve(half, read, explain, faults)


def _unfit(name: str, value: bytes, kind: pa.DataType) -> str:
    text = value[:_SHOWN_CHARACTERS].decode(errors="backslashreplace")
    return f"column {name!r} is {text!r}, expected {dtype_text(kind)}"
