"""The requests that load generators send: whole HTTP requests and gRPC messages, made before the clock starts.

A pool is one file: each request behind its length, eight decimal digits. Every body holds another image.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from serving_model import PIXELS, SIDE

MODEL_NAME = "model"
_LENGTH_DIGITS = 8
_INFER = f"/v2/models/{MODEL_NAME}/infer"


def _open_json(image: np.ndarray) -> bytes:
    inputs = {"name": "image", "shape": [1, SIDE, SIDE], "datatype": "UINT8", "data": image.ravel().tolist()}
    return _http(_INFER, _json({"inputs": [inputs]}), "Content-Type: application/json")


def _open_binary(image: np.ndarray) -> bytes:
    """Binary tensors both ways, as tritonclient asks for them."""
    inputs = {"name": "image", "shape": [1, SIDE, SIDE], "datatype": "UINT8"}
    inputs["parameters"] = {"binary_data_size": PIXELS}
    outputs = {"name": "scores", "parameters": {"binary_data": True}}
    head = _json({"inputs": [inputs], "outputs": [outputs]})
    lengths = f"Inference-Header-Content-Length: {len(head)}"
    return _http(_INFER, head + image.tobytes(), "Content-Type: application/octet-stream", lengths)


def _plain_json(image: np.ndarray) -> bytes:
    return _http("/predict", _json({"image": image.ravel().tolist()}), "Content-Type: application/json")


def _rows_json(image: np.ndarray) -> bytes:
    return _http("/predict", _json({"image": [image.ravel().tolist()]}), "Content-Type: application/json")


def _plain_binary(image: np.ndarray) -> bytes:
    return _http("/predict", image.tobytes(), "Content-Type: application/octet-stream")


def _grpc(image: np.ndarray) -> bytes:
    """ModelInferRequest: model_name = 1, inputs = 5 (name = 1, datatype = 2, shape = 3), raw_input_contents = 7."""
    shape = _field(3, bytes([1, SIDE, SIDE]))
    tensor = _field(1, b"image") + _field(2, b"UINT8") + shape
    return _field(1, MODEL_NAME.encode()) + _field(5, tensor) + _field(7, image.tobytes())


FORMS: dict[str, Callable[[np.ndarray], bytes]] = {
    "open json": _open_json,
    "open binary": _open_binary,
    "plain json": _plain_json,
    "plain binary": _plain_binary,
    "rows json": _rows_json,
    "grpc": _grpc,
}


def write_pool(path: Path, form: str, images: np.ndarray, *, closes: bool = False) -> None:
    """Write a request for each of the images, uint8 [num_rows, 28, 28]; with `closes`, each ends its connection."""
    with path.open("wb") as file:
        for image in images:
            request = FORMS[form](image)
            if closes:
                request = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            file.write(f"{len(request):0{_LENGTH_DIGITS}d}".encode() + request)


def read_pool(path: Path) -> list[bytes]:
    """Return the requests of a pool, in order."""

    def requests(content: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(content):
            start = at + _LENGTH_DIGITS
            at = start + int(content[at:start])
            yield content[start:at]

    return list(requests(path.read_bytes()))


def read_scores(form: str, body: bytes) -> np.ndarray:
    """Return what an answer says: float32 [10]."""
    if form.endswith("binary"):
        # The one tensor is what the body ends with.
        return np.frombuffer(body[-40:], np.float32)
    found = json.loads(body)
    if form == "open json":
        found = found["outputs"][0]["data"]
    elif form == "plain json":
        found = found["scores"]
    return np.array(found, np.float32).ravel()


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _http(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited field of a protobuf message."""
    length, rest = b"", len(content)
    while rest > 127:
        length, rest = length + bytes([rest & 127 | 128]), rest >> 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content
