"""The values of tensors in messages: raw contents and typed ones, to arrays and back."""

from typing import Any

import numpy as np

from shoal.serve.grpc.messages import InputTensor
from shoal.serve.grpc.wire import Field, WireError, fixed, put_bytes, put_packed, put_texts, span, varints
from shoal.serve.wire.interface import TensorField
from shoal.serve.wire.refusal import wrong_field
from shoal.serve.wire.tensors import (
    DATATYPES,
    Array,
    element_count,
    from_bytes,
    from_numbers,
    texts_from_bytes,
    to_bytes,
    unexpected_size,
)

_NAMES = {
    1: "bool_contents", 2: "int_contents", 3: "int64_contents", 4: "uint_contents", 5: "uint64_contents",
    6: "fp32_contents", 7: "fp64_contents", 8: "bytes_contents",
}  # fmt: skip
# The protocol has typed contents for every datatype but FP16.
_FIELDS = {
    "BOOL": 1, "INT8": 2, "INT16": 2, "INT32": 2, "INT64": 3, "UINT8": 4, "UINT16": 4, "UINT32": 4, "UINT64": 5,
    "FP32": 6, "FP64": 7, "BYTES": 8,
}  # fmt: skip
_LENGTH_BYTES = 4
# What a varint of one byte can hold.
_MOST_IN_A_BYTE = 0x7F


def has_typed(datatype: str) -> bool:
    """Whether there are typed contents for a datatype."""
    return datatype in _FIELDS


def read_raw(tensor: InputTensor, field: TensorField, raw: memoryview) -> Array:
    """The values of an input's raw contents, flat; a view where they are numbers.

    Raises:
        RefusedError: 400, they are not what its shape and datatype say.
    """
    where = f"inputs.{field.name}.raw_input_contents"
    if tensor.contents is not None and tensor.contents[1]:
        raise wrong_field(
            f"inputs.{field.name}.contents", found="contents beside raw_input_contents", expected="one of them"
        )
    if field.type.family is str:
        return texts_from_bytes(raw, element_count(tensor.shape), where)
    if len(raw) != element_count(tensor.shape) * field.type.dtype.itemsize:
        raise unexpected_size(where, found=len(raw), shape=tensor.shape, datatype=field.type)
    return from_bytes(raw, field.type, where)


def read_typed(tensor: InputTensor, field: TensorField) -> Array:
    """The values of an input's typed contents, flat.

    Raises:
        RefusedError: 400, they are not what its shape and datatype say.
    """
    where = f"inputs.{field.name}.contents"
    number = _FIELDS.get(field.datatype)
    if number is None:
        raise wrong_field(
            where, found="typed contents", expected=f"raw_input_contents, as {field.datatype} has no other"
        )
    data, fields = tensor.contents or (b"", [])
    where = f"{where}.{_NAMES[number]}"
    for found in fields:
        if found[0] != number:
            raise wrong_field(where, found=_NAMES.get(found[0], f"field {found[0]}"), expected=_NAMES[number])
    try:
        array = _numbers(data, fields, field, where) if number != _FIELDS["BYTES"] else _texts(data, fields, where)
    except WireError as error:
        raise wrong_field(where, found=str(error), expected=f"values of {field.datatype}") from error
    expected = element_count(tensor.shape)
    if len(array) != expected:
        raise wrong_field(where, found=f"{len(array)} values", expected=f"{expected} values for {list(tensor.shape)}")
    return array


def _numbers(data: bytes, fields: list[Field], field: TensorField, where: str) -> Array:
    datatype = field.type
    if datatype.family is float:
        parts = [fixed(data, found, datatype.dtype.newbyteorder("<"), where) for found in fields]
        return from_bytes(memoryview(_joined(parts, datatype.dtype).tobytes()), datatype, where)
    values = _joined([varints(data, found, where) for found in fields], np.dtype(np.uint64))
    if datatype.family is bool:
        # Whatever is not zero is true, as every reader of the format has it.
        return values.astype(np.bool_)
    if datatype.dtype.kind == "i":
        values = values.view(np.int64)
    found = values.astype(datatype.dtype)
    if len(wrong := np.flatnonzero(found != values)):
        position = int(wrong[0])
        raise wrong_field(
            f"{where}[{position}]", found=int(values[position]), expected=f"{datatype.name}: {datatype.values}"
        )
    return found


def _texts(data: bytes, fields: list[Field], where: str) -> Array:
    texts = []
    for position, found in enumerate(fields):
        start, end = span(found, where)
        try:
            texts.append(data[start:end].decode())
        except UnicodeDecodeError as error:
            raise wrong_field(f"{where}[{position}]", found=str(error), expected="UTF-8") from error
    return from_numbers(texts, DATATYPES["BYTES"], where)


def _joined(parts: list[Array], dtype: np.dtype[Any]) -> Array:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def write_raw(array: Array) -> bytes:
    """An output's values as raw contents; texts with their length in bytes before each."""
    if array.dtype.kind != "U":
        return to_bytes(array)
    texts = [text.encode() for text in array.ravel().tolist()]
    return b"".join(len(text).to_bytes(_LENGTH_BYTES, "little") + text for text in texts)


def write_typed(array: Array, datatype: str) -> bytes:
    """An output's values as the message InferTensorContents."""
    number = _FIELDS[datatype]
    if array.dtype.kind == "U":
        return put_texts(number, array.ravel().tolist())
    if array.dtype.kind == "f":
        return put_bytes(number, to_bytes(array))
    is_small = not array.size or (array.min() >= 0 and array.max() <= _MOST_IN_A_BYTE)
    if is_small:
        return put_bytes(number, array.astype(np.uint8).tobytes()) if array.size else b""
    return put_packed(number, array.ravel().tolist())
