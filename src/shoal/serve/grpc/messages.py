"""The messages of the Open Inference Protocol: those of requests read, those of answers written.

The numbers of the fields are those of `inference.GRPCInferenceService` as KServe and Triton publish it.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shoal.serve.grpc.wire import (
    VARINT,
    Field,
    WireError,
    double,
    put_bytes,
    put_number,
    put_packed,
    put_text,
    put_texts,
    read_fields,
    signed,
    span,
    text,
    varints,
)
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field

# A tensor without contents says the same in every request of a client. Longer ones are hardly ever such.
_LONGEST_KEPT = 256
# Triton's inference.DataType, from 1 on.
_CONFIG_TYPES = (
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "STRING",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One entry of a request's `inputs`.

    Attributes:
        contents: the fields of its contents and the bytes that they lie in; None when it has none.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Any]
    contents: tuple[bytes, list[Field]] | None


@dataclass(frozen=True, slots=True)
class OutputWish:
    """One entry of a request's `outputs`."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(slots=True)
class InferRequest:
    """A request for a prediction, as it came.

    Attributes:
        model_version: "" for the server's choice.
        id: "" for none.
        raw: the raw contents, one for each of the inputs, or none at all.
    """

    model_name: str = ""
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: list[InputTensor] = field(default_factory=list)
    outputs: list[OutputWish] = field(default_factory=list)
    raw: list[memoryview] = field(default_factory=list)


def read_infer_request(data: bytes, start: int = 0) -> InferRequest:
    """Read a ModelInferRequest that begins at a byte; the raw contents are views into `data`.

    Raises:
        RefusedError: 400, it is none.
    """
    try:
        return _read_infer_request(data, start)
    except WireError as error:
        raise unreadable("ModelInferRequest", error) from error


def _read_infer_request(data: bytes, start: int) -> InferRequest:
    request = InferRequest()
    tensors: list[tuple[int, int]] = []
    for found in read_fields(data, start, len(data)):
        number = found[0]
        if number == 7:
            first, last = span(found, "raw_input_contents")
            request.raw.append(memoryview(data)[first:last])
        elif number == 5:
            tensors.append(span(found, "inputs"))
        elif number == 1:
            request.model_name = text(data, found, "model_name")
        elif number == 2:
            request.model_version = text(data, found, "model_version")
        elif number == 3:
            request.id = text(data, found, "id")
        elif number == 4:
            _read_parameter(data, found, request.parameters)
        elif number == 6:
            request.outputs.append(_read_wish(data, found))
    for first, last in tensors:
        # Only beside raw contents: typed ones are in the tensor itself, and differ from request to request.
        is_kept = bool(request.raw) and last - first <= _LONGEST_KEPT
        request.inputs.append((_known_input if is_kept else _read_input)(data[first:last]))
    return request


@functools.lru_cache(maxsize=1024)
def _known_input(data: bytes) -> InputTensor:
    return _read_input(data)


def _read_input(data: bytes) -> InputTensor:
    name = datatype = ""
    shape: list[int] = []
    parameters: dict[str, Any] = {}
    contents: list[Field] | None = None
    for found in read_fields(data, 0, len(data)):
        number = found[0]
        if number == 1:
            name = text(data, found, "inputs.name")
        elif number == 2:
            datatype = text(data, found, "inputs.datatype")
        elif number == 3:
            shape += (signed(value) for value in varints(data, found, "inputs.shape").tolist())
        elif number == 4:
            _read_parameter(data, found, parameters)
        elif number == 5:
            contents = [*(contents or ()), *read_fields(data, *span(found, "inputs.contents"))]
    return InputTensor(name, datatype, tuple(shape), parameters, None if contents is None else (data, contents))


def _read_wish(data: bytes, found: Field) -> OutputWish:
    name = ""
    parameters: dict[str, Any] = {}
    for inner in read_fields(data, *span(found, "outputs")):
        if inner[0] == 1:
            name = text(data, inner, "outputs.name")
        elif inner[0] == 2:
            _read_parameter(data, inner, parameters)
    return OutputWish(name, parameters)


def _read_parameter(data: bytes, found: Field, into: dict[str, Any]) -> None:
    """Read one entry of a map of parameters."""
    name = ""
    value: Any = None
    for inner in read_fields(data, *span(found, "parameters")):
        if inner[0] == 1:
            name = text(data, inner, "the name of a parameter")
        elif inner[0] == 2:
            for choice in read_fields(data, *span(inner, "the value of a parameter")):
                value = _parameter_value(data, choice)
    into[name] = value


def _parameter_value(data: bytes, choice: Field) -> object:
    number, kind, value, _ = choice
    if number == 3:
        return text(data, choice, "string_param")
    if number == 4:
        return double(data, choice, "double_param")
    if number in (1, 2, 5):
        if kind != VARINT:
            raise WireError(f"a parameter's field {number} has the wire type {kind}, expected {VARINT}")
        return bool(value) if number == 1 else signed(value) if number == 2 else value
    return None


def read_name(data: bytes, start: int = 0) -> tuple[str, str]:
    """The name and the version, or "", of a request about a model; 400 when it is none."""
    found = {1: "", 2: ""}
    try:
        for each in read_fields(data, start, len(data)):
            if each[0] in found:
                found[each[0]] = text(data, each, "name" if each[0] == 1 else "version")
    except WireError as error:
        raise unreadable("request about a model", error) from error
    return found[1], found[2]


def read_wish(data: bytes, start: int = 0) -> tuple[str, list[str]]:
    """(model, names of the parameters) of a RepositoryModelLoadRequest or ...UnloadRequest; 400 when it is none."""
    model, names = "", []
    try:
        for each in read_fields(data, start, len(data)):
            if each[0] == 2:
                model = text(data, each, "model_name")
            elif each[0] == 3:
                inner = read_fields(data, *span(each, "parameters"))
                names += [text(data, name, "the name of a parameter") for name in inner if name[0] == 1]
    except WireError as error:
        raise unreadable("request to load or unload a model", error) from error
    return model, names


def read_index_request(data: bytes, start: int = 0) -> tuple[str, bool]:
    """(repository, whether only ready models are asked for) of a RepositoryIndexRequest; 400 when it is none."""
    name, is_ready = "", False
    try:
        for each in read_fields(data, start, len(data)):
            if each[0] == 1:
                name = text(data, each, "repository_name")
            elif each[0] == 2 and each[1] == VARINT:
                is_ready = bool(each[2])
    except WireError as error:
        raise unreadable("RepositoryIndexRequest", error) from error
    return name, is_ready


def unreadable(what: str, error: WireError) -> RefusedError:
    """The 400 for bytes that are not the message that they should be."""
    return wrong_field(
        "message",
        found=f"what is no {what}: {error}",
        expected=f"a {what}",
        next_step="make the client's code anew from the protocol's grpc_service.proto",
    )


def put_parameters(number: int, parameters: Mapping[str, Any]) -> bytes:
    """A map of parameters: texts, bools, whole numbers and others."""
    entries = []
    for name, value in parameters.items():
        if isinstance(value, bool):
            # Written out even when false: a choice between kinds is told by which field is there.
            content = bytes((8, value))
        elif isinstance(value, int):
            content = put_number(2, value) or bytes((16, 0))
        else:
            content = put_bytes(3, (value if isinstance(value, str) else shorten(value)).encode())
        entries.append(put_bytes(number, put_text(1, name) + put_bytes(2, content)))
    return b"".join(entries)


_FINAL = put_parameters(4, {"triton_final_response": True})


def put_streamed(answer: bytes) -> bytes:
    """ModelStreamInferResponse with a ModelInferResponse: the only one, and so the last, for its request."""
    # Fields of a message may be added behind it: a map is as good as its entries.
    return put_bytes(2, answer + _FINAL)


def put_streamed_error(message: str, request_id: str) -> bytes:
    """ModelStreamInferResponse that says why a request of the stream is not answered."""
    return put_text(1, message) + put_bytes(2, put_text(3, request_id) + _FINAL)


def put_flag(value: bool) -> bytes:
    """ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return put_number(1, value)


def put_server_metadata(found: Mapping[str, Any]) -> bytes:
    """ServerMetadataResponse, from what the HTTP answer says."""
    return put_text(1, found["name"]) + put_text(2, found["version"]) + put_texts(3, found["extensions"])


def put_model_metadata(found: Mapping[str, Any]) -> bytes:
    """ModelMetadataResponse, from what the HTTP answer says."""
    head = put_text(1, found["name"]) + put_texts(2, found["versions"]) + put_text(3, found["platform"])
    tensors = [put_bytes(number, put_tensor_head(**_plain(tensor)))
               for number, name in ((4, "inputs"), (5, "outputs")) for tensor in found[name]]  # fmt: skip
    return head + b"".join(tensors)


def put_tensor_head(name: str, datatype: str, shape: Sequence[int]) -> bytes:
    """What every description of a tensor begins with."""
    return put_text(1, name) + put_text(2, datatype) + put_packed(3, shape)


def put_index(models: Iterable[Mapping[str, str]]) -> bytes:
    """RepositoryIndexResponse, from what the HTTP answer says."""
    names = ("name", "version", "state", "reason")
    return b"".join(
        put_bytes(1, b"".join(put_text(number, model[name]) for number, name in enumerate(names, start=1)))
        for model in models
    )


def put_statistics(versions: Iterable[Mapping[str, Any]]) -> bytes:
    """ModelStatisticsResponse, from what the HTTP answer says; only what is counted is in it."""
    parts = []
    for each in versions:
        stats = each["inference_stats"]
        took = put_bytes(1, _duration(stats["success"])) + put_bytes(5, _duration(stats["compute_infer"]))
        counts = put_number(4, each["inference_count"]) + put_number(5, each["execution_count"])
        names = put_text(1, each["name"]) + put_text(2, each["version"])
        parts.append(put_bytes(1, names + counts + put_bytes(6, took)))
    return b"".join(parts)


def put_model_config(found: Mapping[str, Any]) -> bytes:
    """ModelConfigResponse, from what the HTTP answer says."""
    versions = b"".join(put_number(1, int(each)) for each in _whole(found["version_policy"]["specific"]["versions"]))
    parts = [
        put_text(1, found["name"]),
        put_text(2, found["platform"]),
        put_bytes(3, put_bytes(3, versions)) if versions else b"",
        put_number(4, found["max_batch_size"]),
        *(put_bytes(5, _config_tensor(tensor, dims=4)) for tensor in found["input"]),
        *(put_bytes(6, _config_tensor(tensor, dims=3)) for tensor in found["output"]),
        put_text(17, found["backend"]),
    ]
    return put_bytes(1, b"".join(parts))


def _config_tensor(tensor: Mapping[str, Any], *, dims: int) -> bytes:
    datatype = _CONFIG_TYPES.index(tensor["data_type"].removeprefix("TYPE_")) + 1
    return put_text(1, tensor["name"]) + put_number(2, datatype) + put_packed(dims, tensor["dims"])


def _whole(versions: Iterable[str]) -> list[str]:
    # Triton counts versions; a name that is no number has no place in its message.
    return [version for version in versions if version.isdecimal() and version.isascii()]


def _duration(found: Mapping[str, int]) -> bytes:
    return put_number(1, found["count"]) + put_number(2, found["ns"])


def _plain(tensor: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor[name] for name in ("name", "datatype", "shape")}
