"""What fuzzing begins with: for each target the good requests and the kept bad ones, in the form that it takes."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path

import hpack
from PIL import Image
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.grpc import frames

_CORPUS = Path(__file__).parents[1] / "bad_requests" / "requests.jsonl"
# Deep and endless ones are tested as they are; here they would only take the time of many others.
_MOST_BYTES = 4000


def _kept() -> list[bytes]:
    found = [
        [(text.encode("latin-1"), times) for text, times in json.loads(line)["send"]]
        for line in _CORPUS.read_text().splitlines()
    ]
    return [
        b"".join(text * times for text, times in parts)
        for parts in found
        if sum(len(text) * times for text, times in parts) <= _MOST_BYTES
    ]


def _bodies(part: bytes) -> list[bytes]:
    """The bodies of the kept requests whose path holds a word."""
    return [
        body for head, _, body in (each.partition(b"\r\n\r\n") for each in _kept()) if part in head.split(b"\r\n")[0]
    ]


def _post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _tensor(name: str, datatype: str, shape: list[int], data: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


# By the places of `targets.INTERFACES`.
_INPUTS = [
    [_tensor("image", "UINT8", [1, 2, 2], [1, 2, 3, 255])],
    [_tensor("values", "FP32", [2, 2], [[0.1, -2.5e-3], [1e38, 7]]), _tensor("flags", "BOOL", [2], [True, False])],
    [_tensor("index", "INT64", [3], [9223372036854775807, -1, 0])],
    [_tensor("image", "UINT8", [1, 2, 2], [[[1, 2], [3, 4]]])],
    [
        _tensor("age", "INT64", [1], [3]), _tensor("age_mask", "BOOL", [1], [True]),
        _tensor("city", "BYTES", [1], ["Łódź"]), _tensor("city_mask", "BOOL", [1], [True]),
        _tensor("height", "FP32", [1], [1.75]), _tensor("distance", "FP64", [1], [0.30000000000000004]),
    ],
    [_tensor("x", "FP16", [1, 3], [1, 65504, -0.0]), _tensor("u", "UINT64", [1], [18446744073709551615])],
    [_tensor("whole", "FP64", [], [1.5]), _tensor("open", "INT8", [2, 3], [[1, 2, 3], [-128, 127, 0]])],
    [
        _tensor("values", "FP32", [1, 2], [16777217, 3.4028235e38]),
        _tensor("doubles", "FP64", [1], [9007199254740993.0]),
        _tensor("small", "INT16", [1], [-32768]), _tensor("u", "UINT64", [1], [1]),
    ],
]  # fmt: skip
_ROWS = [
    {"image": [[1, 2], [3, 255]]},
    {"values": [0.1, -2.5], "flags": True},
    {"index": -1},
    {"image": [[1, 2], [3, 4]]},
    {"age": None, "city": "Łódź", "height": 1.75, "distance": None},
    {"x": [1, 65504], "u": 18446744073709551615},
    {"whole": 1.5, "open": [[1, 2, 3]]},
    {"values": [0.1, -2.5], "doubles": 0.1, "small": 1, "u": 7},
]


def _protocol() -> list[bytes]:
    found = []
    for place, inputs in enumerate(_INPUTS):
        for request in (
            {"inputs": inputs},
            {"id": "a-7", "inputs": inputs[::-1]},
            {"inputs": inputs, "outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
            {"inputs": inputs, "parameters": {"binary_data_output": True, "priority": 1}},
        ):
            found += [bytes([place, 0]) + json.dumps(request, ensure_ascii=escapes).encode() for escapes in (0, 1)]
        found.append(bytes([place, 0]) + json.dumps({"inputs": inputs}, separators=(",", ":")).encode())
    raw = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "parameters": {"binary_data_size": 4}}
    text = json.dumps({"inputs": [raw]}, separators=(",", ":")).encode()
    found.append(bytes([0, 128 + len(text)]) + text + b"\1\2\3\4")
    return found + [bytes([place, 0]) + body for place, part in enumerate((b"scorer/inf", b"adder/inf", b"picker/inf"))
                    for body in _bodies(part)]  # fmt: skip


def _plain() -> list[bytes]:
    found = [bytes([place, 0]) + json.dumps(body).encode() for place, row in enumerate(_ROWS)
             for body in (row, {"rows": [row]}, {"rows": [row, row]})]  # fmt: skip
    return found + [bytes([0, 0]) + body for body in _bodies(b"predict")]


def _picture(kind: str, mode: str, size: tuple[int, int] = (3, 2), **options: object) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, size, 77 if mode in "LP1" else None).save(sink, kind, **options)
    return sink.getvalue()


def _pictures() -> list[bytes]:
    png = [_picture("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16")]
    jpeg = [_picture("JPEG", mode) for mode in ("L", "RGB", "CMYK")] + [_picture("JPEG", "RGB", progressive=True)]
    large = [_picture("PNG", "RGB", (40, 30)), _picture("JPEG", "L", (40, 30))]
    animated = _picture("PNG", "RGB", save_all=True, append_images=[Image.new("RGB", (3, 2), "red")])
    return [*png, *jpeg, *large, animated]


_FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    b"%s\r\n--xyz--\r\n"
)


def _forms() -> list[bytes]:
    plain = [b"\0" + _FORM % b"bytes", b"\0" + _FORM % b"\r\n--xy\r\n", b"\x82" + b"xyz" + _FORM % b"bytes"]
    return plain + [b"\x80b" + body for body in _bodies(b"predict") if body.startswith(b"--")]


def _predicting() -> list[bytes]:
    png, row = _picture("PNG", "L", (2, 2)), json.dumps(_ROWS[0]).encode()
    kinds = (b"", b"application/json; charset=utf-8", b"application/vnd.api+json", b"text/plain;charset=ascii", b"*/*")
    return [
        *(kind + b"\n\n" + row for kind in kinds),
        b"image/png\n\n" + png,
        b"image/png\nresize=true\n" + _picture("PNG", "RGB", (9, 7)),
        b"image/jpeg\nresize=maybe\n" + png,
        b'multipart/form-data; boundary="xyz"\n\n' + _FORM % png,
        b"application/json\nresize=true&resize=false\n" + row,
    ]


def _requests() -> list[bytes]:
    infer = json.dumps({"inputs": _INPUTS[0]}).encode()
    post = _post("/v2/models/m/infer", infer)
    chunked = b"POST /predict?a=1 HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [
        post,
        post + post,
        _post("/predict", json.dumps(_ROWS[0]).encode(), "Content-Type: application/json", "X-Priority: 1"),
        _post("/predict", _picture("PNG", "L", (2, 2)), "Content-Type: image/png"),
        _post("/predict", infer, "Expect: 100-continue", "X-Timeout-Us: 0"),
        chunked + b"5\r\nhello\r\n0\r\n\r\n",
        chunked + b"5;name=value\r\nhello\r\n0\r\nTrailer: x\r\n\r\n" + post,
        b"GET /v2/health/ready HTTP/1.1\r\nHost: here\r\n\r\n" * 3,
        b"GET http://here:80/v2?x HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
        b"HEAD /v2/models/m HTTP/1.1\r\nHost: here\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\n\r\n",
        *(each.replace(b"/scorer", b"/m") for each in _kept()),
    ]


def _calls() -> list[bytes]:
    encoder = hpack.Encoder()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/inference.GRPCInferenceService/ServerLive"),
              ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S")]  # fmt: skip
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, encoder.encode(fields))
    data = frames.frame(frames.DATA, frames.END_STREAM, 1, b"\0\0\0\0\0")
    again = frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 3, encoder.encode(fields))
    others = [
        frames.frame(frames.PING, 0, 0, b"12345678"),
        frames.window_update(0, 100),
        frames.window_update(1, 1 << 30),
        frames.rst_stream(1, frames.Code.CANCEL),
        frames.goaway(0, frames.Code.NO_ERROR, "bye"),
        frames.settings({frames.INITIAL_WINDOW_SIZE: 0, frames.MAX_FRAME_SIZE: 20_000, frames.HEADER_TABLE_SIZE: 0}),
        frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\7"),
        frames.frame(frames.DATA, frames.PADDED, 1, b"\3\0\0\0\0\0abc"),
        frames.frame(frames.HEADERS, 0, 1, b"\x83") + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, b"\x86"),
        frames.frame(0x99, 0xFF, 7, b"unknown"),
    ]
    hello = frames.PREFACE + frames.settings({})
    return [b"\7" + hello + head + data + again, b"\7" + head + data, *(b"\7" + head + each + data for each in others),
            *(b"\7" + each for each in others)]  # fmt: skip


def _blocks() -> list[bytes]:
    found = []
    for is_coded in (True, False):
        encoder = hpack.Encoder()
        blocks = [
            encoder.encode([(":method", "POST"), (":path", "/x"), ("x-a", "1" * place)], huffman=is_coded)
            for place in range(5)
        ]
        encoder.header_table_size = 100
        blocks += [encoder.encode([("authorization", "secret"), ("x-b", "é")], huffman=is_coded)]
        found.append(b"".join(bytes([len(block)]) + block for block in blocks))
    return found


def _messages() -> list[bytes]:
    def tensor(name: str, datatype: str, shape: list[int], **contents: object) -> object:
        return pb.ModelInferRequest.InferInputTensor(
            name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents)
        )

    raw = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 2, 2])
    wish = pb.ModelInferRequest.InferRequestedOutputTensor(name="scores")
    parameters = {"a": pb.InferParameter(bool_param=True), "b": pb.InferParameter(string_param="x")}
    sent = [
        (0, pb.ModelInferRequest(model_name="m", inputs=[raw], raw_input_contents=[b"\1\2\3\4"])),
        (0, pb.ModelInferRequest(inputs=[tensor("image", "UINT8", [1, 2, 2], uint_contents=[1, 2, 3, 255])])),
        (1, pb.ModelInferRequest(id="é", parameters=parameters, outputs=[wish], inputs=[
            tensor("values", "FP32", [1, 2], fp32_contents=[1, 2]),
            tensor("flags", "BOOL", [1], bool_contents=[True])])),
        (2, pb.ModelInferRequest(inputs=[tensor("index", "INT64", [2], int64_contents=[-1, 2**62])])),
        (6, pb.ModelInferRequest(inputs=[tensor("whole", "FP64", [], fp64_contents=[1.5]),
                                         tensor("open", "INT8", [1, 3], int_contents=[-128, 127, 300])])),
    ]  # fmt: skip
    named = [pb.ModelReadyRequest(name="m", version="3"), pb.RepositoryIndexRequest(ready=True)]
    length = struct.pack("<I", 3)
    words = pb.ModelInferRequest(
        inputs=[pb.ModelInferRequest.InferInputTensor(name="city", datatype="BYTES", shape=[1])],
        raw_input_contents=[length + b"Rom"],
    )
    return [
        bytes([place, 0]) + each.SerializeToString() for place, each in [*sent, (4, words), *((0, n) for n in named)]
    ]


_NUMBERS = [
    b"0", b"-0", b"-0.0", b"1, 2.5, -3e-7", b"127, -128, 255", b"9223372036854775807, -9223372036854775808",
    b"18446744073709551615", b"18446744073709551616", b"0.1, 1e22, 1e23, 123456789012345678901234567890",
    b"3.4028235e38, 3.4028236e38, 3.4028235677973366e38", b"1.7976931348623157e308, 1e309", b"5e-324, 1e-400",
    b"1.17549435e-38, 1e-45, 7e-46", b"16777217, 9007199254740993", b"1.0, 1e0, 10e-1, 1E+2", b"[1, 2]", b"01, .5, 1.",
    b"0.30000000000000004", b"2.2250738585072011e-308", b"0.000000000000000000000000000001, 1000000000000000000000",
]  # fmt: skip


def _with_mark(mark: bytes, seeds: list[bytes]) -> list[bytes]:
    return [mark + seed for seed in seeds]


SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "http": lambda: _with_mark(b"\3", _requests()),
    "protocol": _protocol,
    "plain": _plain,
    "native": _protocol,
    "numbers": lambda: [bytes([kind]) + text for kind in range(7) for text in _NUMBERS],
    "multipart": _forms,
    "predicting": _predicting,
    "images": lambda: [mark + each for each in _pictures() for mark in (b"\0", b"\x41", b"\xc2")],
    "grpc": _calls,
    "heads": _blocks,
    "messages": _messages,
    "connection": _requests,
}
# Words of the formats: putting them together by chance would take too long.
WORDS = [
    b'"inputs"', b'"name"', b'"datatype"', b'"shape"', b'"data"', b'"id"', b'"outputs"', b'"parameters"',
    b'"binary_data_size"', b'"binary_data"', b'"rows"', b'"UINT8"', b'"FP32"', b'"BOOL"', b'"BYTES"', b'"INT64"',
    b"null", b"true", b"1e308", b"-0.0", b"0.1", b"1E+5", b"9007199254740993", b"\\u0000", b"\\ud800", b"[[", b"]]",
    b"\r\n", b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked", b"Connection: close", b"0\r\n\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"POST ", b"GET ", b"/v2/models/", b"--xyz", b"--xyz--", b"IHDR", b"\xff\xd8\xff",
    frames.PREFACE,
]  # fmt: skip
