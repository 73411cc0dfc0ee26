"""The Open Inference Protocol v2: request bodies to arrays and outputs to response bodies, JSON and binary tensors.

Decoding is strict: what the model would not see exactly as the client meant it is refused with the field's name. The
plain case (flat JSON lists of the right family) is decoded straight into typed lists; whatever is not plain takes a
second, slower way that either accepts it or says precisely what is wrong.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from shoal.serve.wire.infer_body import reader_for
from shoal.serve.wire.interface import InputPlaces, Interface, TensorField
from shoal.serve.wire.outputs import RequestOutputs
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field
from shoal.serve.wire.tensors import (
    Array,
    element_count,
    from_bytes,
    from_numbers,
    read_json_data,
    texts_from_bytes,
    to_bytes,
    unexpected_size,
)

T = TypeVar("T")
# Triton's extensions that change what an output is: ignoring them would answer something else than was asked for.
_CHANGES_OUTPUT = ("classification", "shared_memory_region")
Encoded: TypeAlias = tuple[bytes, int | None]
"""A body, and how many bytes at its start are JSON when raw tensors follow."""
Wishes: TypeAlias = "tuple[tuple[int, bool], ...] | AnswerWriter"
_BODY_SHAPE = 'a JSON object like {"inputs": [{"name": ..., "datatype": ..., "shape": [...], "data": [...]}]}'


class InputTensor(msgspec.Struct, Generic[T], gc=False):
    """One entry of a request's `inputs`."""

    name: str
    datatype: str
    shape: list[int]
    data: T | msgspec.UnsetType = msgspec.UNSET
    parameters: dict[str, Any] | None = None


class OutputWish(msgspec.Struct, gc=False):
    """One entry of a request's `outputs`."""

    name: str
    parameters: dict[str, Any] | None = None


class InferBody(msgspec.Struct, Generic[T], gc=False):
    """The JSON of an inference request; members that the protocol does not name are ignored, as it asks."""

    inputs: list[InputTensor[T]]
    id: str | None = None
    outputs: list[OutputWish] | None = None
    parameters: dict[str, Any] | None = None


class OutputTensor(msgspec.Struct, gc=False, omit_defaults=True):
    """One entry of a response's `outputs`."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferAnswer(msgspec.Struct, gc=False):
    """The JSON of an inference response."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[OutputTensor]


class AnswerWriter(abc.ABC):
    """Writes the body of an answer in a form of its own. Stateless; the event loop alone calls it."""

    @abc.abstractmethod
    def encode(self, answer: InferAnswer, outputs: RequestOutputs) -> Encoded:
        """Write the body; RefusedError when this form cannot carry the outputs."""


class InferCall(msgspec.Struct, gc=False):
    """A request that the model can run.

    Attributes:
        id: the client's own, or None.
        arrays: one per input of the interface, in its order.
        num_rows: rows in each of them; 1 for a model that is not batched.
        wishes: (index of the output, whether in binary), in the order of the answer; or what writes another answer.
        parameters: as they were sent.
    """

    id: str | None
    arrays: tuple[Array, ...]
    num_rows: int
    wishes: Wishes
    parameters: dict[str, Any] | None = None


_FAST: dict[Any, msgspec.json.Decoder[Any]] = {
    bool: msgspec.json.Decoder(InferBody[list[bool]]),
    int: msgspec.json.Decoder(InferBody[list[int]]),
    float: msgspec.json.Decoder(InferBody[list[float]]),
    str: msgspec.json.Decoder(InferBody[list[str]]),
}
_SLOW = msgspec.json.Decoder(InferBody[msgspec.Raw])
_ENCODER = msgspec.json.Encoder()


class Protocol:
    """Decodes and encodes for one version of one model. Stateless after construction; use it from any thread.

    Attributes:
        interface: what the version takes and gives.
        ordinary_wishes: those of a request that wishes nothing: all outputs as JSON.
    """

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self._places = InputPlaces(interface)
        families = {field.type.family for field in interface.inputs}
        self._fast = _FAST[families.pop()] if len(families) == 1 else None
        self._all_outputs = {
            is_binary: tuple((place, is_binary) for place in range(len(interface.outputs)))
            for is_binary in (False, True)
        }
        self.ordinary_wishes = self._all_outputs[False]
        self._output_places = {field.name: place for place, field in enumerate(interface.outputs)}
        self._read_ordinary = reader_for(interface)

    def decode(self, body: bytes, json_bytes: int | None = None) -> InferCall:
        """Read a request's body.

        Args:
            body: all of it.
            json_bytes: how many bytes at its start are JSON, when raw tensors follow; None when all is JSON.

        Raises:
            RefusedError: 400, with the field, what was found and what was expected.
        """
        if json_bytes is None and self._read_ordinary is not None:
            ordinary = self._read_ordinary(body)
            if ordinary is not None:
                return InferCall(*ordinary, self.ordinary_wishes)
        text: bytes | memoryview = body
        tail = memoryview(b"")
        if json_bytes is not None:
            if json_bytes > len(body):
                raise wrong_field(
                    "Inference-Header-Content-Length",
                    found=json_bytes,
                    expected=f"the number of JSON bytes, at most the body's {len(body)}",
                )
            text, tail = memoryview(body)[:json_bytes], memoryview(body)[json_bytes:]
        if not text:
            raise wrong_field("body", found="no bytes", expected=_BODY_SHAPE)
        request = self._decode_fast(text) or _decode_slow(text)
        _check_encoding(text)
        arrays = self._read_inputs(request.inputs, tail)
        return InferCall(
            request.id, arrays, self.interface.count_rows(arrays), self._wishes(request), request.parameters
        )

    def encode(self, answer: InferAnswer, outputs: RequestOutputs, wishes: Wishes) -> Encoded:
        """Write a response's body.

        Args:
            answer: everything but the outputs, which are filled in.
            outputs: what the model gave for this request.
            wishes: as decoded from the request.

        Raises:
            RefusedError: 422, an output is not finite and was to be sent as JSON.
        """
        if not isinstance(wishes, tuple):
            return wishes.encode(answer, outputs)
        tail: list[bytes] = []
        for place, is_binary in wishes:
            field = self.interface.outputs[place]
            shape = outputs.shape(place)
            if is_binary:
                tail.append(to_bytes(outputs.array(place)))
                parameters = {"binary_data_size": len(tail[-1])}
                answer.outputs.append(OutputTensor(field.name, field.datatype, shape, parameters))
            elif outputs.is_finite(place):
                answer.outputs.append(OutputTensor(field.name, field.datatype, shape, None, outputs.numbers(place)))
            else:
                raise not_finite(field.name)
        text = _ENCODER.encode(answer)
        return (b"".join((text, *tail)), len(text)) if tail else (text, None)

    def _decode_fast(self, text: bytes | memoryview) -> InferBody[Any] | None:
        if self._fast is None:
            return None
        try:
            body: InferBody[Any] = self._fast.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # It may still be good (nested lists), and if it is not, the slow way says what is wrong.
            return None
        return body

    def _read_inputs(self, tensors: list[InputTensor[Any]], tail: memoryview) -> tuple[Array, ...]:
        arrays: dict[int, Array] = {}
        for tensor in tensors:
            place, field = self._places.find(tensor.name, tensor.datatype, tensor.shape, arrays)
            if tensor.data is msgspec.UNSET:
                arrays[place], tail = _read_binary(tensor, field, tail)
            else:
                arrays[place] = _read_data(tensor, field)
        if len(tail):
            raise wrong_field(
                "body",
                found=f"{len(tail)} bytes after the last binary tensor",
                expected="the sum of all binary_data_size after the JSON",
            )
        return self.interface.in_order(arrays)

    def _wishes(self, request: InferBody[Any]) -> tuple[tuple[int, bool], ...]:
        parameters = request.parameters or {}
        if parameters.get("sequence_id"):
            raise wrong_field(
                "parameters.sequence_id", found=parameters["sequence_id"], expected="none: models here keep no state"
            )
        all_binary = parameters.get("binary_data_output", False)
        if not isinstance(all_binary, bool):
            raise wrong_field("parameters.binary_data_output", found=all_binary, expected="true or false")
        if not request.outputs:
            return self._all_outputs[all_binary]
        wishes: dict[int, bool] = {}
        for wish in request.outputs:
            place = self._output_places.get(wish.name)
            if place is None or place in wishes:
                raise wrong_field(
                    f"outputs.{shorten(wish.name)}",
                    found="an output that the model does not have" if place is None else "the same output twice",
                    expected=f"each once of {', '.join(self._output_places)}",
                )
            parameters = wish.parameters or {}
            if refused := next((name for name in _CHANGES_OUTPUT if parameters.get(name)), None):
                raise wrong_field(
                    f"outputs.{wish.name}.parameters.{refused}", found=parameters[refused], expected="no such parameter"
                )
            is_binary = parameters.get("binary_data", all_binary)
            if not isinstance(is_binary, bool):
                raise wrong_field(
                    f"outputs.{wish.name}.parameters.binary_data", found=is_binary, expected="true or false"
                )
            wishes[place] = is_binary
        return tuple(wishes.items())


def parse_json_bytes(header: bytes | None) -> int | None:
    """Read the header Inference-Header-Content-Length; None when it is absent, 400 when it is not a number."""
    if header is None:
        return None
    if not header.isdigit() or len(header) > 18:  # 18 digits are an exabyte
        raise wrong_field(
            "Inference-Header-Content-Length",
            found=shorten(header.decode("latin-1")),
            expected="the number of JSON bytes at the start of the body",
        )
    return int(header)


def not_finite(output: str, next_step: str | None = None) -> RefusedError:
    """The 422 for an output that JSON cannot carry."""
    return RefusedError(
        422,
        f"the model's output {output} is not finite for this input, and JSON has no NaN or infinity",
        field=f"outputs.{output}",
        found="NaN or infinity",
        expected="finite numbers",
        next_step=next_step or "send another input, or ask for binary output with parameters.binary_data_output = true",
    )


def _check_encoding(text: bytes | memoryview) -> None:
    """Refuse what is no UTF-8 in members that nobody reads: the decoders skip them unseen."""
    raw = bytes(text)
    if raw.isascii():
        return
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise wrong_field("body", found=f"what is not UTF-8 ({error.reason})", expected=_BODY_SHAPE) from error


def _decode_slow(text: bytes | memoryview) -> InferBody[Any]:
    """Decode without looking into `data`, and say which other part of the body is wrong."""
    try:
        return _SLOW.decode(text)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or "body"
        raise wrong_field(field, found=reason, expected=_BODY_SHAPE) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wrong_field("body", found=f"what is not JSON ({error})", expected=_BODY_SHAPE) from error


def _read_data(tensor: InputTensor[Any], field: TensorField) -> Array:
    data: Any = tensor.data
    name = f"inputs.{field.name}.data"
    if _binary_size(tensor.parameters) is not None:
        raise wrong_field(name, found="both data and binary_data_size", expected="one of them")
    if isinstance(data, msgspec.Raw):
        return read_json_data(data, tensor.shape, field.type, name)
    expected = element_count(tensor.shape)
    if len(data) != expected:
        raise wrong_field(name, found=f"{len(data)} values", expected=f"{expected} values for {tensor.shape}")
    return from_numbers(data, field.type, name).reshape(tensor.shape)


def _read_binary(tensor: InputTensor[Any], field: TensorField, tail: memoryview) -> tuple[Array, memoryview]:
    size = _binary_size(tensor.parameters)
    name = f"inputs.{field.name}.parameters.binary_data_size"
    if size is None:
        raise wrong_field(
            f"inputs.{field.name}.data",
            found="neither data nor parameters.binary_data_size",
            expected="a list of numbers, or the size of the raw tensor that follows the JSON",
        )
    is_text = field.type.family is str
    # Not isinstance: true is an int to Python. Texts have any size.
    if not is_text and (type(size) is not int or size != element_count(tensor.shape) * field.type.dtype.itemsize):
        raise unexpected_size(name, found=size, shape=tensor.shape, datatype=field.type)
    if type(size) is not int or not 0 <= size <= len(tail):
        raise wrong_field(name, found=f"{size} bytes", expected=f"at most the {len(tail)} bytes left after the JSON")
    where = f"inputs.{field.name}.data"
    if is_text:
        array = texts_from_bytes(tail[:size], element_count(tensor.shape), where)
    else:
        array = from_bytes(tail[:size], field.type, where)
    return array.reshape(tensor.shape), tail[size:]


def _binary_size(parameters: Mapping[str, Any] | None) -> object:
    return None if parameters is None else parameters.get("binary_data_size")
