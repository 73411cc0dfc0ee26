"""Tensors on the wire: the protocol's datatypes, JSON values and raw bytes, checked and turned into numpy arrays.

Texts (BYTES) are taken as inputs, in UTF-8. Inside the service they are NumPy's texts of one width, which lie in shared
memory as numbers do.
"""

import functools
import itertools
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from shoal.base import UnsupportedError
from shoal.serve.wire.refusal import RefusedError, wrong_field

Array = npt.NDArray[Any]
Family: TypeAlias = type[bool] | type[int] | type[float] | type[str]
# A decoder is made and kept per depth; no model that we know of has more than 8.
_MOST_DIMENSIONS = 16
# Of the number before each raw text.
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Datatype:
    """One of the protocol's element types: its name, numpy's dtype, struct's code, and the JSON values it takes."""

    name: str
    dtype: np.dtype[Any]
    code: str
    family: Family

    @property
    def values(self) -> str:
        """The values it can hold, in words."""
        if self.family is bool:
            return "true or false"
        if self.family is str:
            return "texts without the character 0"
        if self.family is int:
            limits: Any = np.iinfo(self.dtype)
            return f"whole numbers from {limits.min} to {limits.max}"
        most = np.finfo(self.dtype).max
        # NumPy writes as few digits as tell it from its neighbours, which are far away: not 65504 but 65500.
        shown = int(most) if self.name == "FP16" else most
        return f"finite numbers from -{shown} to {shown}"


_FAMILIES: dict[Family, dict[str, tuple[str, str]]] = {
    bool: {"BOOL": ("bool", "?")},
    int: {
        "UINT8": ("uint8", "B"), "UINT16": ("uint16", "H"), "UINT32": ("uint32", "I"), "UINT64": ("uint64", "Q"),
        "INT8": ("int8", "b"), "INT16": ("int16", "h"), "INT32": ("int32", "i"), "INT64": ("int64", "q"),
    },
    float: {"FP16": ("float16", "e"), "FP32": ("float32", "f"), "FP64": ("float64", "d")},
    str: {"BYTES": ("str", "")},
}  # fmt: skip
DATATYPES = {
    name: Datatype(name, np.dtype(dtype), code, family)
    for family, names in _FAMILIES.items()
    for name, (dtype, code) in names.items()
}
_BY_DTYPE = {datatype.dtype: datatype for datatype in DATATYPES.values() if datatype.family is not str}


def datatype_of(dtype: npt.DTypeLike) -> Datatype:
    """The protocol's datatype for a numpy dtype of numbers; UnsupportedError for text and other objects."""
    try:
        return _BY_DTYPE[np.dtype(dtype)]
    except (KeyError, TypeError) as error:
        names = ", ".join(each.name for each in _BY_DTYPE.values())
        raise UnsupportedError(
            f"cannot serve tensors of type {dtype}: expected one of {names}",
            next_step="turn text into numbers before the model, and labels into class numbers after it",
        ) from error


def input_datatype_of(dtype: npt.DTypeLike) -> Datatype:
    """The protocol's datatype for what a model takes: numbers, or texts by numpy's or the signature's word for them."""
    is_text = dtype == "string" if isinstance(dtype, str) else np.dtype(dtype).kind in "OU"
    return DATATYPES["BYTES"] if is_text else datatype_of(dtype)


def from_numbers(values: Sequence[Any], datatype: Datatype, field: str | Callable[[int], str]) -> Array:
    """Pack JSON values, already known to be of the datatype's family, into a flat array; a value out of range is a 400.

    struct checks every value's range and is twice as fast as numpy's conversion of lists. `field` names the values in
    the error, or tells the name of the one at a position.
    """
    if datatype.family is str:
        return _from_texts(values, datatype, field)
    try:
        raw = bytes(values) if datatype.name == "UINT8" else _packer(datatype.code, len(values)).pack(*values)
    except (struct.error, ValueError, OverflowError) as error:
        position, value = next(_out_of_range(values, datatype))
        raise wrong_field(_name_of(field, position), found=value, expected=_expected_values(datatype)) from error
    return np.frombuffer(raw, datatype.dtype)


def _from_texts(values: Sequence[str], datatype: Datatype, field: str | Callable[[int], str]) -> Array:
    # NumPy ends a text at the zeros that close it: the model would see another one.
    if (position := next((place for place, text in enumerate(values) if "\0" in text), None)) is not None:
        raise wrong_field(
            _name_of(field, position), found=repr(values[position][:60]), expected=_expected_values(datatype)
        )
    return np.array(values, np.str_)


def _name_of(field: str | Callable[[int], str], position: int) -> str:
    return f"{field}[{position}]" if isinstance(field, str) else field(position)


def texts_from_bytes(raw: memoryview, count: int, field: str) -> Array:
    """Read raw texts as the protocol has them: before each, its length in bytes as a little-endian number of 4 bytes.

    Raises:
        RefusedError: 400, the lengths do not add up to `count` texts, or a text is not UTF-8.
    """
    texts: list[str] = []
    place = 0
    while place < len(raw):
        size = int.from_bytes(raw[place : place + _LENGTH_BYTES], "little")
        place += _LENGTH_BYTES
        if place + size > len(raw):
            raise wrong_field(
                f"{field}[{len(texts)}]",
                found=f"a text of {size} bytes with {max(0, len(raw) - place)} left",
                expected="before each text its length in bytes, as a little-endian number of 4 bytes",
            )
        try:
            texts.append(str(raw[place : place + size], "utf-8"))
        except UnicodeDecodeError as error:
            raise wrong_field(f"{field}[{len(texts)}]", found=str(error), expected="UTF-8") from error
        place += size
    if len(texts) != count:
        raise wrong_field(field, found=f"{len(texts)} texts", expected=f"{count} texts, as the shape says")
    return _from_texts(texts, DATATYPES["BYTES"], field)


def from_bytes(raw: memoryview, datatype: Datatype, field: str) -> Array:
    """View raw little-endian elements as a flat array; elements that the model must not see are a 400."""
    # A view: the request's body stays in memory until it is answered anyway.
    array: Array = np.frombuffer(raw, datatype.dtype.newbyteorder("<"))
    if sys.byteorder == "big":
        array = array.astype(datatype.dtype)
    if datatype.family is float and not np.isfinite(array).all():
        position = int(np.flatnonzero(~np.isfinite(array))[0])
        raise wrong_field(f"{field}[{position}]", found=array[position].item(), expected=_expected_values(datatype))
    # ONNX Runtime takes any byte for a bool and computes with it.
    if datatype.family is bool and array.size and (found := int(array.view(np.uint8).max())) > 1:
        raise wrong_field(field, found=f"the byte {found}", expected="the bytes 0 and 1 for BOOL")
    return array


def to_bytes(array: Array) -> bytes:
    """Raw little-endian elements of an array, in row-major order; texts each with its length in bytes before it."""
    if array.dtype.kind == "U":
        texts = [text.encode() for text in array.reshape(-1).tolist()]
        return b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def read_json_data(raw: msgspec.Raw, shape: Sequence[int], datatype: Datatype, field: str) -> Array:
    """Read a tensor's `data`, flat or nested as its shape, or say precisely what is wrong with it."""
    values = _decode_values(raw, shape, datatype, field)
    expected = element_count(shape)
    if len(values) != expected:
        raise wrong_field(field, found=f"{len(values)} values", expected=f"{expected} values for shape {list(shape)}")
    return from_numbers(values, datatype, field).reshape(shape)


def element_count(shape: Iterable[int]) -> int:
    """How many elements a tensor of this shape holds."""
    count = 1
    for size in shape:
        count *= size
    return count


def _decode_values(raw: msgspec.Raw, shape: Sequence[int], datatype: Datatype, field: str) -> Sequence[Any]:
    text = bytes(raw).lstrip()
    if not text.startswith(b"["):
        raise wrong_field(field, found=_in_words(text), expected=f"a list of {_expected_values(datatype)}")
    depth = len(shape) if text[1:].lstrip().startswith(b"[") else 1
    if depth > _MOST_DIMENSIONS:
        raise wrong_field(field, found=f"{depth} dimensions", expected=f"at most {_MOST_DIMENSIONS}")
    try:
        values: list[Any] = _nested_decoder(datatype, depth).decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_field(field, found=str(error), expected=f"a list of {_expected_values(datatype)}") from error
    return _flatten(values, shape, field) if depth > 1 else values


def _flatten(values: list[Any], shape: Sequence[int], field: str) -> list[Any]:
    """Turn nested lists into one, after checking that every list at every level is as long as the shape says."""
    # The sum of lengths alone would let rows of 3 and 1 pass as two rows of 2.
    for level, size in enumerate(shape[1:], start=1):
        for index, inner in enumerate(values):
            if len(inner) != size:
                raise wrong_field(
                    field,
                    found=f"a list of {len(inner)} at level {level}, place {index}",
                    expected=f"lists of {size} there, for shape {list(shape)}",
                )
        values = list(itertools.chain.from_iterable(values))
    return values


@functools.lru_cache(maxsize=64)
def _nested_decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[Any]:
    kind: Any = datatype.family
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)


@functools.lru_cache(maxsize=256)
def _packer(code: str, count: int) -> struct.Struct:
    # "=" means the machine's byte order with the protocol's sizes.
    return struct.Struct(f"={count}{code}")


def _out_of_range(values: Sequence[Any], datatype: Datatype) -> Iterator[tuple[int, Any]]:
    for position, value in enumerate(values):
        try:
            struct.pack(f"={datatype.code}", value)
        except (struct.error, OverflowError):
            yield position, value


def _expected_values(datatype: Datatype) -> str:
    return f"{datatype.name}: {datatype.values}"


def _in_words(text: bytes) -> str:
    return text[:60].decode("utf-8", "replace") or "nothing"


def unexpected_size(field: str, *, found: object, shape: Sequence[int], datatype: Datatype) -> RefusedError:
    """The 400 for a binary tensor whose announced size does not match its shape."""
    size = element_count(shape) * datatype.dtype.itemsize
    return wrong_field(
        field, found=f"{found} bytes", expected=f"{size} bytes for {datatype.name} of shape {list(shape)}"
    )
