"""A small client for programs that want arrays in and arrays out, on the standard library alone."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import numpy as np

from shoal.base import ConfigError, InputError, NotFoundError, Secret, ServeError, UnavailableError
from shoal.serve.wire.tensors import DATATYPES, Array, element_count, input_datatype_of, texts_from_bytes, to_bytes

_FAULTS_OF_INPUT = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
)
_JSON_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class InferResult:
    """One answer.

    Attributes:
        outputs: by name; row i belongs to row i of the inputs.
        model: who answered.
        version: which version of it.
        prediction_id: of the first row; the rows of one request are logged one after another.
    """

    outputs: dict[str, Array]
    model: str
    version: str
    prediction_id: str

    @property
    def prediction_ids(self) -> list[str]:
        """The id of every row."""
        prefix, _, row = self.prediction_id.rpartition(".")
        num_rows = len(next(iter(self.outputs.values()), np.empty(1)))
        return [f"{prefix}.{int(row) + place}" for place in range(num_rows)]


class Client:
    """Talks to one server over one connection that is kept open. One thread at a time; give each thread its own.

    Nothing is sent twice: when the connection breaks under a request, the caller decides what to do. Connecting again
    for the next request happens by itself.
    """

    def __init__(self, url: str, *, api_key: str | Secret | None = None, timeout_s: float = 30.0) -> None:
        """Prepare to talk to `url`, such as "http://127.0.0.1:8080"; nothing is sent yet."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"cannot talk to {url!r}: expected http://HOST:PORT", next_step="use the url that the server tells"
            )
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._url = url
        key = api_key.reveal() if isinstance(api_key, Secret) else api_key
        self._headers = {} if key is None else {"X-API-Key": key}

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        version: int | str | None = None,
        request_id: str | None = None,
        binary: bool = True,
    ) -> InferResult:
        """Ask for predictions.

        Args:
            model: the name of the model.
            inputs: by name, with the rows as the first dimension; sent with the dtypes that they have.
            version: a certain version; None lets the server choose.
            request_id: requests of one id go to the same version while shares stay.
            binary: send and take raw tensors, which is faster; False uses JSON, as texts always do.

        Raises:
            InputError: the server refused the request; the message names the field, what was found and expected.
            NotFoundError: no such model or version.
            UnavailableError: the server is busy, stopping or not there.
            ServeError: anything else, such as a wrong key.
        """
        path = f"/v2/models/{quote(model, safe='')}"
        if version is not None:
            path += f"/versions/{quote(str(version), safe='')}"
        body, json_bytes = _encode(inputs, request_id, binary=binary)
        headers = {**self._headers, "Content-Type": "application/octet-stream" if binary else "application/json"}
        if binary:
            headers[_JSON_HEADER] = str(json_bytes)
        response, data = self._exchange("POST", f"{path}/infer", body, headers)
        length = response.headers[_JSON_HEADER]
        return _decode(data, len(data) if length is None else int(length))

    def is_ready(self) -> bool:
        """Whether the server can answer for all its models now; False too when it cannot be reached."""
        try:
            self._exchange("GET", "/v2/health/ready", None, {})
        except ServeError:
            return False
        return True

    def metadata(self, model: str) -> dict[str, Any]:
        """Versions, inputs and outputs of a model, as the protocol has them."""
        _, data = self._exchange("GET", f"/v2/models/{quote(model, safe='')}", None, self._headers)
        found: dict[str, Any] = json.loads(data)
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[HTTPResponse, bytes]:
        try:
            self._connection.request(method, path, body, dict(headers))
            response = self._connection.getresponse()
            data = response.read()
        except (OSError, HTTPException) as error:
            # The next request connects again: what is left of this answer must not be taken for its own.
            self._connection.close()
            raise UnavailableError(
                f"no answer from {self._url}: {error or type(error).__name__}",
                next_step="check that the server runs, and send the request again",
            ) from error
        if response.status != HTTPStatus.OK:
            raise _error_of(response, data)
        return response, data


def _encode(inputs: Mapping[str, Array], request_id: str | None, *, binary: bool) -> tuple[bytes, int]:
    tensors: list[dict[str, Any]] = []
    tail: list[bytes] = []
    for name, given in inputs.items():
        array = np.asarray(given)
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": input_datatype_of(array.dtype).name,
            "shape": list(array.shape),
        }
        if array.dtype.kind in "OU":
            # Texts travel in the JSON; where there is none (its mask says so) an empty one stands.
            tensor["data"] = ["" if text is None else text for text in array.reshape(-1).tolist()]
        elif binary:
            tail.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            tensor["data"] = array.reshape(-1).tolist()
        tensors.append(tensor)
    request: dict[str, Any] = {"inputs": tensors}
    if request_id is not None:
        request["id"] = request_id
    if binary:
        request["parameters"] = {"binary_data_output": True}
    try:
        text = json.dumps(request, allow_nan=False).encode()
    except ValueError as error:
        raise InputError(
            f"cannot send {', '.join(inputs)} as JSON: {error}", next_step="send finite numbers"
        ) from error
    return b"".join((text, *tail)), len(text)


def _decode(data: bytes, json_bytes: int) -> InferResult:
    answer = json.loads(data[:json_bytes])
    tail = memoryview(data)[json_bytes:]
    outputs: dict[str, Array] = {}
    for tensor in answer["outputs"]:
        datatype = DATATYPES[tensor["datatype"]]
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is None:
            array: Array = np.array(tensor["data"], datatype.dtype)
        elif datatype.family is str:
            array = texts_from_bytes(tail[:size], element_count(tensor["shape"]), tensor["name"])
            tail = tail[size:]
        else:
            array = np.frombuffer(tail[:size], datatype.dtype.newbyteorder("<")).astype(datatype.dtype)
            tail = tail[size:]
        outputs[tensor["name"]] = array.reshape(tensor["shape"])
    return InferResult(outputs, answer["model_name"], answer["model_version"], answer["parameters"]["prediction_id"])


def _error_of(response: HTTPResponse, data: bytes) -> Exception:
    found: dict[str, Any] = {}
    with contextlib.suppress(ValueError):
        found = json.loads(data)
    message = found.get("error", f"the server answered {response.status} {response.reason}")
    next_step = found.get("next", "look at the server's log")
    if response.status == HTTPStatus.NOT_FOUND:
        return NotFoundError(message, next_step=next_step)
    if response.status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ):
        return InputError(message, next_step=next_step)
    if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry = response.headers["Retry-After"]
        return UnavailableError(message, next_step=next_step, retry_after_s=None if retry is None else float(retry))
    return ServeError(message, next_step=next_step, status=response.status)
