"""Where an Arrow IPC file keeps its metadata and its arrays: each step is checked before it is believed."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# At the very end: the footer's length, and the magic number.
_TAIL_BYTES = 4 + len(b"ARROW1")
# What a message begins with; its length follows.
_CONTINUED = 0xFFFFFFFF
_DICTIONARY, _RECORD_BATCH = 2, 3
# Fields of the flatbuffer tables in Arrow's format/Message.fbs and File.fbs, by the order of their slots.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_NUM_ROWS, _BUFFERS, _COMPRESSION, _VARIADIC = 0, 2, 3, 4
_SCHEMA, _DICTIONARY_BLOCKS, _BATCH_BLOCKS = 1, 2, 3
# The same of Schema.fbs.
_ENDIANNESS, _FIELDS = 0, 1
_NAME, _TYPE_KIND, _TYPE, _ENCODING, _CHILDREN, _NOTES = 0, 2, 3, 4, 5, 6
_INT, _FLOAT, _BINARY, _TEXT, _BOOL, _TIMESTAMP, _LIST, _FIXED_LIST = 2, 3, 4, 5, 6, 10, 12, 16
# How many arrays a field of each type has, besides those of its children; views and unions are left to Arrow.
_NUM_ARRAYS = {
    1: 0, _INT: 2, _FLOAT: 2, _BINARY: 3, _TEXT: 3, _BOOL: 2, 7: 2, 8: 2, 9: 2, _TIMESTAMP: 2, 11: 2, _LIST: 2, 13: 1,
    15: 2, _FIXED_LIST: 1, 17: 2, 18: 2, 19: 3, 20: 3, 21: 2,
}  # fmt: skip
# Those whose type says nothing more.
_PLAIN = {_BINARY: "binary", _TEXT: "string", _BOOL: "bool"}
_FLOATS = {0: "float16", 1: "float32", 2: "float64"}
_MICROSECONDS = 2
# Of lists in lists: more than any column has.
_MAX_DEPTH = 32
_TENSOR = "arrow.fixed_shape_tensor"
_BLOCK_BYTES = 24
# More arrays than that are left to Arrow: reading their places one by one would be no faster.
_MAX_BUFFERS = 4_096


@dataclass(frozen=True, slots=True)
class Body:
    """Where the only record batch of a file keeps its arrays.

    `kind` is the footer without where the batch lies: files of equal kind have the same schema, and their arrays in
    the same order. `buffers` are each array's first byte in the file and its size, the first of a column being the
    bitmap of its nulls (size 0: none).
    """

    kind: bytes
    num_rows: int
    buffers: tuple[tuple[int, int], ...]


def find_body(data: NDArray[np.uint8]) -> Body | None:
    """Return where a file's arrays lie, many times faster than Arrow opens it; None where only Arrow can tell.

    The file's metadata must have been checked. Everything that is returned lies inside the file. Files of several
    record batches, with dictionaries, compressed, or with arrays of text views are left to Arrow.
    """
    try:
        return _body(data.data, len(data))
    except struct.error:
        return None


def _body(view: memoryview, size: int) -> Body | None:
    (footer_bytes,) = struct.unpack_from("<i", view, size - _TAIL_BYTES)
    first = size - _TAIL_BYTES - footer_bytes
    if not 8 <= first < size - _TAIL_BYTES:
        return None
    footer = _root(view, first)
    (_, num_dictionaries), (blocks, num_batches) = (
        _vector(view, footer, slot) for slot in (_DICTIONARY_BLOCKS, _BATCH_BLOCKS)
    )
    if num_dictionaries or num_batches != 1:
        return None
    start, head_bytes, body_bytes = struct.unpack_from("<qi4xq", view, blocks)
    body = start + head_bytes
    if start < 8 or head_bytes < 8 or body_bytes < 0 or body + body_bytes > first:
        return None
    if struct.unpack_from("<I", view, start)[0] != _CONTINUED:
        return None
    message = _root(view, start + 8)
    if _field(view, message, _HEADER_TYPE, "<B") != _RECORD_BATCH:
        return None
    batch = _target(view, message, _HEADER)
    num_rows = _field(view, batch, _NUM_ROWS, "<q")
    at, count = _vector(view, batch, _BUFFERS)
    if _place(view, batch, _COMPRESSION) or _vector(view, batch, _VARIADIC)[1] or count > _MAX_BUFFERS:
        return None
    places = struct.unpack_from(f"<{2 * count}q", view, at)
    buffers = tuple([(body + where, length) for where, length in zip(places[::2], places[1::2], strict=True)])
    if num_rows < 0 or any(where < body or length < 0 or where + length > first for where, length in buffers):
        return None
    return Body(bytes(view[first:blocks]) + bytes(view[blocks + _BLOCK_BYTES : size]), num_rows, buffers)


@dataclass(frozen=True, slots=True)
class StoredField:
    """How a file's only record batch keeps one column.

    `first` is the number of the first of the arrays that are its own: its nulls, then those inside its rows, if they
    are lists, then its values. `dtype` is that of a column, "" for a type that no column has; each row has `sizes` of
    them, or a list of any length.
    """

    first: int
    dtype: str
    sizes: tuple[int, ...] = ()
    is_list: bool = False


def stored_fields(data: NDArray[np.uint8], body: Body) -> dict[str, StoredField]:
    """Return how a file keeps its columns, by name; none where only Arrow can tell.

    Args:
        data: the bytes of a whole file, whose metadata must have been checked.
        body: what `find_body` says of it.
    """
    try:
        return _stored_fields(data.data, len(data), len(body.buffers))
    except (struct.error, UnicodeDecodeError):
        return {}


def _stored_fields(view: memoryview, size: int, num_arrays: int) -> dict[str, StoredField]:
    (footer_bytes,) = struct.unpack_from("<i", view, size - _TAIL_BYTES)
    schema = _target(view, _root(view, size - _TAIL_BYTES - footer_bytes), _SCHEMA)
    if _field(view, schema, _ENDIANNESS, "<h"):
        return {}
    first, twice = 0, set[str]()
    found: dict[str, StoredField] = {}
    for field in _tables(view, schema, _FIELDS):
        name, count = _text(view, field, _NAME), _count_arrays(view, field)
        if count is None:
            return {}
        twice |= {name} & found.keys()
        found[name] = StoredField(first, *_kind_of(view, field))
        first += count
    return {name: field for name, field in found.items() if name not in twice} if first == num_arrays else {}


def _count_arrays(view: memoryview, field: int, depth: int = 0) -> int | None:
    count = _NUM_ARRAYS.get(_field(view, field, _TYPE_KIND, "<B"))
    if count is None or depth > _MAX_DEPTH:
        return None
    for child in _tables(view, field, _CHILDREN):
        if (inside := _count_arrays(view, child, depth + 1)) is None:
            return None
        count += inside
    return count


def _kind_of(view: memoryview, field: int) -> tuple[str, tuple[int, ...], bool]:
    sizes: list[int] = []
    is_list = False
    while True:
        if _is_special(view, field):
            return "", (), False
        kind, children = _field(view, field, _TYPE_KIND, "<B"), list(_tables(view, field, _CHILDREN))
        if kind == _FIXED_LIST and len(children) == 1 and not is_list and len(sizes) < _MAX_DEPTH:
            sizes.append(_field(view, _target(view, field, _TYPE), 0, "<i"))
        elif kind == _LIST and len(children) == 1 and not is_list and not sizes:
            is_list = True
        else:
            return _dtype_of(view, kind, field), tuple(sizes), is_list
        field = children[0]


def _is_special(view: memoryview, field: int) -> bool:
    # An extension may give the same values another meaning; numbers of a dictionary are no values at all.
    notes = {_text(view, note, 0): _text(view, note, 1) for note in _tables(view, field, _NOTES)}
    return bool(_place(view, field, _ENCODING)) or notes.get("ARROW:extension:name", _TENSOR) != _TENSOR


def _dtype_of(view: memoryview, kind: int, field: int) -> str:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == _INT:
        table = _target(view, field, _TYPE)
        return f"{'' if _field(view, table, 1, '<B') else 'u'}int{_field(view, table, 0, '<i')}"
    if kind == _FLOAT:
        return _FLOATS.get(_field(view, _target(view, field, _TYPE), 0, "<h"), "")
    if kind == _TIMESTAMP:
        table = _target(view, field, _TYPE)
        is_ours = _field(view, table, 0, "<h") == _MICROSECONDS and not _place(view, table, 1)
        return "timestamp" if is_ours else ""
    return ""


def check_metadata(data: NDArray[np.uint8], check: Callable[[int, int], None]) -> None:
    """Check every stretch of a file that is not rows: schema, messages, footer.

    Dictionaries count as metadata too: rows that refer to them cannot be read without.

    Args:
        data: the bytes of a whole file.
        check: called with each stretch (start, stop), before anything in it is believed.
    """
    view, size = data.data, len(data)
    check(max(size - _TAIL_BYTES, 0), size)
    (footer_bytes,) = struct.unpack_from("<i", view, size - _TAIL_BYTES)
    check(max(size - _TAIL_BYTES - max(footer_bytes, 0), 0), size)
    position = 8
    while position + 8 <= size:
        check(position, position + 8)
        mark, length = struct.unpack_from("<Ii", view, position)
        # A length of zero closes the stream of messages; what follows is the footer.
        if mark != _CONTINUED or length <= 0:
            return
        start, position = position + 8, position + 8 + length
        check(start, position)
        header_type, body_bytes = _message(view, start)
        if header_type == _DICTIONARY:
            check(position, position + body_bytes)
        position += body_bytes


def _message(view: memoryview, start: int) -> tuple[int, int]:
    table = _root(view, start)
    return int(_field(view, table, _HEADER_TYPE, "<B")), int(_field(view, table, _BODY_LENGTH, "<q"))


def _root(view: memoryview, start: int) -> int:
    return start + int(struct.unpack_from("<I", view, start)[0])


def _place(view: memoryview, table: int, slot: int) -> int:
    # Where the field lies; 0 when it is not written, as fields that equal their default are not.
    slots = table - struct.unpack_from("<i", view, table)[0]
    offset = 4 + 2 * slot
    # Its slot may be missing altogether.
    if slots < 0 or offset >= struct.unpack_from("<H", view, slots)[0]:
        return 0
    distance = struct.unpack_from("<H", view, slots + offset)[0]
    return table + int(distance) if distance else 0


def _field(view: memoryview, table: int, slot: int, kind: str) -> Any:  # noqa: ANN401  # per kind
    place = _place(view, table, slot)
    return struct.unpack_from(kind, view, place)[0] if place else 0


def _target(view: memoryview, table: int, slot: int) -> int:
    place = _place(view, table, slot)
    if not place:
        raise struct.error("a table that must be there is not")
    return _root(view, place)


def _vector(view: memoryview, table: int, slot: int) -> tuple[int, int]:
    # Where the items begin, and how many there are.
    if not (place := _place(view, table, slot)):
        return 0, 0
    start = _root(view, place)
    return start + 4, int(struct.unpack_from("<I", view, start)[0])


def _tables(view: memoryview, table: int, slot: int) -> Iterator[int]:
    at, count = _vector(view, table, slot)
    if count > _MAX_BUFFERS:
        raise struct.error("more than anybody writes")
    return (_root(view, place) for place in range(at, at + 4 * count, 4))


def _text(view: memoryview, table: int, slot: int) -> str:
    at, size = _vector(view, table, slot)
    if at + size > len(view):
        raise struct.error("a text that goes on behind the end")
    return bytes(view[at : at + size]).decode()
