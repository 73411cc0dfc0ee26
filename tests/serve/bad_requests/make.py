"""Writes requests.jsonl beside it: requests that a server must refuse, each with the status and the field it must name.

Run it after adding a request: `python tests/serve/bad_requests/make.py`. The file is data and is checked in, so that a
change of what is refused is a visible line in review. Each line holds
- name: what is wrong;
- send: the bytes as [text in Latin-1, times], one after another, so that deep and long ones stay short;
- status and field: of the answer. `closes` where the server must close the connection, because what follows on it
  cannot be understood.

The models are those of the `server` fixture: scorer (image UINT8 [-1, 2, 2]), adder (values FP32 [-1, 2], flags BOOL
[-1]), picker (index INT64 [-1]) and fixed (image UINT8 [1, 2, 2]).
"""

import json
import struct
from pathlib import Path

SCORER = "/v2/models/scorer/infer"
ADDER = "/v2/models/adder/infer"
PICKER = "/v2/models/picker/infer"
FIXED = "/v2/models/fixed/infer"
IMAGE = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
VALUES = {"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
FLAGS = {"name": "flags", "datatype": "BOOL", "shape": [1], "data": [True]}
INDEX = {"name": "index", "datatype": "INT64", "shape": [1], "data": [1]}
GONE = object()

entries = []


def add(name, status, field, *parts, closes=False):
    send = [[part, 1] if isinstance(part, str) else list(part) for part in parts]
    entries.append({"name": name, "status": status, "field": field, "closes": closes, "send": send})


def post(name, status, field, path, *body, headers=(), closes=False):
    """A request whose head is right, with a body of texts and (text, times)."""
    parts = [part if isinstance(part, tuple) else (part, 1) for part in body]
    length = sum(len(text.encode("latin-1")) * times for text, times in parts)
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {length}", *headers])
    add(name, status, field, f"{head}\r\n\r\n", *parts, closes=closes)


def infer(name, field, path, *tensors, status=400, **more):
    """A request of the protocol whose JSON is well-formed."""
    post(name, status, field, path, as_json({"inputs": list(tensors), **more}))


def as_json(value):
    return json.dumps(value).encode().decode("latin-1")


def changed(tensor, **changes):
    return {name: value for name, value in (tensor | changes).items() if value is not GONE}


def binary(name, field, path, tensor, raw, *, size=None, json_bytes=None, after=""):
    """A request with a raw tensor behind its JSON."""
    text = as_json({"inputs": [changed(tensor, data=GONE, parameters={"binary_data_size": size})]})
    header = len(text) if json_bytes is None else json_bytes
    post(
        name, 400, field, path, text + raw.decode("latin-1") + after,
        headers=[f"Inference-Header-Content-Length: {header}"],
    )  # fmt: skip


def bodies():
    """Bodies that are not the JSON of the protocol."""
    for name, text in {
        "empty body": "", "a blank": " ", "a zero byte": "\0", "a number": "3", "a text": '"inputs"', "null": "null",
        "true": "true", "a list": "[]", "an unclosed object": "{", "an unclosed text": '{"inputs',
        "a comma too many": '{"inputs": [],}', "a comment": '{"inputs": [] /* none */}',
        "single quotes": "{'inputs': []}", "two values": '{"inputs": []} {}', "a byte order mark": "\xef\xbb\xbf{}",
        "UTF-16": '{"inputs": []}'.encode("utf-16").decode("latin-1"), "invalid UTF-8 in a name": '{"inputs": "\xff"}',
        "half a surrogate pair": '{"inputs": "\\ud800"}', "an overlong encoding": '{"inputs": "\xc0\xaf"}',
        "YAML": "inputs:\n- name: image\n", "XML": "<inputs/>", "a form": "inputs=1&image=2",
        "MessagePack": "\x81\xa6inputs\x90", "a PNG": "\x89PNG\r\n\x1a\n", "gzip": "\x1f\x8b\x08\0\0",
    }.items():  # fmt: skip
        # Types are checked before texts: of two mistakes the first that is found is named.
        field = "inputs" if '"inputs": "' in text and "ud800" not in text else "body"
        post(f"{name} instead of the protocol's JSON", 400, field, SCORER, text)
        post(f"{name} instead of plain JSON", 400, None, "/v2/models/scorer/predict", text)
    for depth in (100, 1000, 100_000):
        post(f"JSON {depth} lists deep as the body", 400, "body", SCORER, ("[", depth))
        post(f"JSON {depth} objects deep as the body", 400, "inputs", SCORER, ('{"inputs":', depth))
        head = as_json({"inputs": [changed(IMAGE, data=0)]}).replace(" 0}]}", " ")
        post(f"data {depth} lists deep", 400, None, SCORER, head, ("[", depth), ("]", depth), "}]}")
        post(f"plain data {depth} lists deep", 400, None, "/predict", '{"image": ', ("[", depth), ("]", depth), "}")


def members():
    """Members of the protocol's JSON that are missing, of another type or unknown."""
    infer("no inputs", "inputs.image", SCORER)
    post("inputs missing", 400, "body", SCORER, "{}")
    for name, value in {"null": None, "a number": 3, "a text": "image", "an object": {}, "true": True}.items():
        post(f"inputs: {name}", 400, "inputs", SCORER, as_json({"inputs": value}))
        post(f"inputs: a list of {name}", 400, None, SCORER, as_json({"inputs": [value]}))
        post(f"id: {name}", 400, "id", SCORER, as_json({"inputs": [IMAGE], "id": value})) if value not in (
            None, "image") else None  # fmt: skip
    for member in ("name", "datatype", "shape", "data"):
        infer(f"{member} missing", None, SCORER, changed(IMAGE, **{member: GONE}))
        for name, value in {"a number": 1.5, "an object": {"a": 1}, "false": False}.items():
            infer(f"{member}: {name}", None, SCORER, changed(IMAGE, **{member: value}))
    infer("parameters of an input: a list", None, SCORER, changed(IMAGE, parameters=[]))
    infer("parameters: a text", "parameters", SCORER, IMAGE, parameters="binary")
    infer("outputs: a text", "outputs", SCORER, IMAGE, outputs="scores")
    infer("outputs: a list of texts", None, SCORER, IMAGE, outputs=["scores"])
    infer("an output that is not there", "outputs.nothing", SCORER, IMAGE, outputs=[{"name": "nothing"}])
    infer("an output twice", "outputs.scores", SCORER, IMAGE, outputs=[{"name": "scores"}] * 2)
    for value in (1, "yes", None, []):
        infer(
            f"binary_data: {value!r}", "outputs.scores.parameters.binary_data", SCORER, IMAGE,
            outputs=[{"name": "scores", "parameters": {"binary_data": value}}],
        )  # fmt: skip
        infer(
            f"binary_data_output: {value!r}", "parameters.binary_data_output", SCORER, IMAGE,
            parameters={"binary_data_output": value},
        )  # fmt: skip
    infer("an input twice", "inputs.image", SCORER, IMAGE, IMAGE)
    infer("another input", "inputs.picture", SCORER, changed(IMAGE, name="picture"))
    infer("an input of another model beside it", "inputs.values", SCORER, IMAGE, VALUES)
    infer("an empty name", None, SCORER, changed(IMAGE, name=""))
    infer("a name of other letters", None, SCORER, changed(IMAGE, name="Image"))
    infer("a name with a line break", None, SCORER, changed(IMAGE, name="image\r\nX: y"))
    infer("a name of a megabyte", None, SCORER, changed(IMAGE, name="x" * 3000))
    infer("one of two inputs", "inputs.flags", ADDER, VALUES)
    infer("inputs of different rows", "inputs.flags.shape", ADDER, VALUES, changed(FLAGS, shape=[2], data=[True] * 2))


def datatypes_and_shapes():
    """Datatypes and shapes that are not the model's."""
    for name in ("INT8", "UINT16", "FP32", "BOOL", "BYTES", "uint8", "UINT", "", "FP8", "UINT8 "):
        infer(f"datatype {name!r} for UINT8", "inputs.image.datatype", SCORER, changed(IMAGE, datatype=name))
    for name in ("FP64", "FP16", "INT32", "BF16"):
        infer(f"datatype {name!r} for FP32", "inputs.values.datatype", ADDER, changed(VALUES, datatype=name), FLAGS)
    for shape in (
        [], [4], [2, 2], [1, 4], [1, 2, 2, 1], [1, 1, 2, 2], [0, 2, 2], [-1, 2, 2], [1, 2, 3], [1, -2, -2], [2, 1, 2],
        [10**6, 10**6, 10**6], [2**63, 2, 2], [2**62, 2], [-(2**63), 2, 2], [1] * 40, [1, 2, 0],
    ):  # fmt: skip
        infer(f"shape {shape}", None, SCORER, changed(IMAGE, shape=shape))
    infer("a shape beyond 64 bits", None, SCORER, changed(IMAGE, shape=[2**70, 2, 2]))
    infer("a shape of texts", None, SCORER, changed(IMAGE, shape=["1", "2", "2"]))
    infer("a shape of fractions", None, SCORER, changed(IMAGE, shape=[1.5, 2, 2]))
    infer("a shape with null", None, SCORER, changed(IMAGE, shape=[None, 2, 2]))
    infer("a shape with lists", None, SCORER, changed(IMAGE, shape=[[1], 2, 2]))
    infer("a gigantic number of rows with no data", None, SCORER, changed(IMAGE, shape=[2**61, 2, 2], data=[]))
    infer("a gigantic number of rows with four values", None, SCORER, changed(IMAGE, shape=[2**61, 2, 2]))
    infer("two rows for a model of one", "inputs.image.shape", FIXED, changed(IMAGE, shape=[2, 2, 2], data=[1] * 8))


def values():
    """Values that the datatype does not hold, or too few or many of them."""
    for value in (256, -1, 2**31, 2**63, 2**64, -(2**64), 10**30, 1.5, "1", True, None, [], {}, "", "NaN"):
        infer(f"the value {value!r} as UINT8", None, SCORER, changed(IMAGE, data=[1, 2, 3, value]))
    for value in (2**63, -(2**63) - 1, 1.0, 0.5, "1", False, None):
        infer(f"the value {value!r} as INT64", None, PICKER, changed(INDEX, data=[value]))
    for value in (1e39, -1e300, 10**40, "1.0", "NaN", "Infinity", True, None, [1.0]):
        infer(f"the value {value!r} as FP32", None, ADDER, changed(VALUES, data=[0.0, value]), FLAGS)
    for value in (1, 0, "true", None, 1.0, "", []):
        infer(f"the value {value!r} as BOOL", None, ADDER, VALUES, changed(FLAGS, data=[value]))
    head, tail = as_json({"inputs": [changed(VALUES, data=0), FLAGS]}).split(" 0}", 1)
    for text in (
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "1e999",
        "-1e999",
        "01",
        "1.",
        ".5",
        "+1",
        "0x10",
        "1_000",
        "--1",
    ):
        post(f"the number {text} in JSON", 400, None, ADDER, f"{head} [0.0, {text}]}}{tail}")
    post("a number of 5,000 digits", 400, None, ADDER, f"{head} [0.0, ", ("9", 5000), f"]}}{tail}")
    for data in (
        [], [1], [1, 2, 3], [1, 2, 3, 4, 5], [[1, 2], [3, 4]], [[[1, 2], [3]]], [[[1, 2, 3], [4]]],
        [[[1, 2]], [[3, 4]]],
        [[[[1, 2], [3, 4]]]], [[1, 2, 3, 4]], [1, [2, 3, 4]], [[[1, 2], 3]], [[], []],
    ):  # fmt: skip
        infer(f"the data {data}", None, SCORER, changed(IMAGE, data=data))
    infer("texts for numbers", None, SCORER, changed(IMAGE, data="1234"))
    infer("an object for numbers", None, SCORER, changed(IMAGE, data={"0": 1}))
    infer("an index beyond the model's table", None, PICKER, changed(INDEX, data=[99]), status=422)
    infer("an output that JSON cannot carry", "outputs.logarithm", PICKER, changed(INDEX, data=[0]), status=422)


def raw_tensors():
    """Binary tensors whose sizes do not fit together."""
    raw, size = bytes([1, 2, 3, 4]), "inputs.image.parameters.binary_data_size"
    for wrong in (0, 3, 5, -4, 2**40, 2**64, 10**30, 4.0, "4", True, [4], {}):
        binary(f"binary_data_size {wrong!r} for 4 bytes", None, SCORER, IMAGE, raw, size=wrong)
    binary("fewer bytes than binary_data_size", size, SCORER, IMAGE, raw[:3], size=4)
    binary("more bytes than binary_data_size", "body", SCORER, IMAGE, raw, size=4, after="5")
    binary("no bytes", size, SCORER, IMAGE, b"", size=4)
    binary("binary_data_size without a value", "inputs.image.data", SCORER, IMAGE, raw)
    for length in (0, 1, 10, 10**6, 10**30, -1, "all", "", "1.5", "0x10", " ", "1 2"):
        binary(f"Inference-Header-Content-Length {length}", None, SCORER, IMAGE, raw, size=4, json_bytes=length)
    for name, number in {"NaN": float("nan"), "infinity": float("inf"), "-infinity": float("-inf")}.items():
        tensors = [changed(VALUES, data=GONE, parameters={"binary_data_size": 8}), FLAGS]
        text = as_json({"inputs": tensors})
        post(
            f"{name} in a raw tensor", 400, "inputs.values.data[1]", ADDER,
            text + struct.pack("<ff", 0.0, number).decode("latin-1"),
            headers=[f"Inference-Header-Content-Length: {len(text)}"],
        )  # fmt: skip
    tensors = [VALUES, changed(FLAGS, data=GONE, parameters={"binary_data_size": 1})]
    text = as_json({"inputs": tensors})
    post(
        "the byte 2 as a raw BOOL", 400, "inputs.flags.data", ADDER, text + "\2",
        headers=[f"Inference-Header-Content-Length: {len(text)}"],
    )  # fmt: skip
    both = as_json({"inputs": [changed(IMAGE, parameters={"binary_data_size": 4})]})
    post("data and a raw tensor", 400, "inputs.image.data", SCORER, both)


def plain():
    """Plain JSON and pictures."""
    good = [[1, 2], [3, 4]]
    for name, body in {
        "no field": {}, "another field": {"picture": good}, "a field too many": {"image": good, "id": "x"},
        "a flat list": {"image": [1, 2, 3, 4]}, "rows of different lengths": {"image": [[1, 2], [3]]},
        "a text": {"image": "1234"}, "null": {"image": None}, "a value too large": {"image": [[1, 2], [3, 256]]},
        "a fraction": {"image": [[1, 2], [3, 4.5]]}, "no rows": {"rows": []}, "rows that are no list": {"rows": {}},
        "rows that are no objects": {"rows": [good]}, "rows beside a field": {"rows": [{"image": good}], "image": good},
        "a row without its field": {"rows": [{"image": good}, {}]}, "the protocol's JSON": {"inputs": [IMAGE]},
    }.items():  # fmt: skip
        post(f"plain: {name}", 400, None, "/predict", as_json(body))
    post("plain: a key twice", 400, "image", "/predict", '{"image": [[1, 2], [3, 4]], "image": [[1, 2], [3, 4]]}')
    post("plain: two rows for a model of one", 400, "rows", "/v2/models/fixed/predict",
         as_json({"rows": [{"image": good}] * 2}))  # fmt: skip
    post("plain: a query", 400, "query.resize", "/predict?resize=true", as_json({"image": good}))
    for kind in ("image/gif", "image/svg+xml2", "application/octet-stream", "text/html", "application/xml", "*/*", "x"):
        post(f"Content-Type {kind}", 415, "Content-Type", "/predict", "body", headers=[f"Content-Type: {kind}"])
    post("a picture for a model of numbers", 415, "Content-Type", "/v2/models/adder/predict", "\x89PNG",
         headers=["Content-Type: image/png"])  # fmt: skip
    for name, body in {
        "nothing": "", "its first bytes": "\x89PNG\r\n\x1a\n", "a JPEG": "\xff\xd8\xff\xe0", "a text": "PNG",
        "a bomb of 4 gigapixels":
            "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\0\0\0\0\xab\x0b\x9a\xb6",
    }.items():  # fmt: skip
        post(f"a PNG that is {name}", 400, "body", "/predict", body, headers=["Content-Type: image/png"])
    form = 'multipart/form-data; boundary="b"'
    for name, body in {
        "nothing": "", "no part": "--b--\r\n", "no end": "--b\r\n\r\nx", "no headers": "--b\r\nx\r\n--b--\r\n",
        "a text": '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
    }.items():  # fmt: skip
        post(f"a form of {name}", 400, "body", "/predict", body, headers=[f"Content-Type: {form}"])


def paths_and_methods():
    """Paths that are not there, and methods that they do not take."""
    for path in (
        "/", "/v1/models", "/v2/models", "/v2/models/scorer/infer/x", "/v2/models//infer",
        "/v2/models/scorer/versions", "/v2/models/scorer/versions//infer", "/v2/models/../../etc/passwd",
        "/predict/scorer", "/favicon.ico", "/v2/models/%ff/infer", "/v2/models/%00/infer",
        "/v2/models/absent/infer", "/v2/models/scorer/versions/9/infer", "/v2/models/SCORER/infer",
    ):  # fmt: skip
        post(f"the path {path}", 404, "path", path, "{}")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        add(f"{method} to infer", 405, "method", f"{method} {SCORER} HTTP/1.1\r\nHost: here\r\n\r\n")
    for path in ("/v2", "/v2/health/live", "/metrics", "/docs", "/openapi.json", "/v2/models/scorer",
                 "/v2/models/scorer%2Finfer"):  # fmt: skip
        post(f"POST to {path}", 405, "method", path, "{}")
    for action in ("load", "unload"):
        order = f"/v2/repository/models/scorer/{action}"
        post(f"{action} of what is nowhere", 404, "path", f"/v2/repository/models/absent/{action}", "{}")
        post(f"{action} with a wrong body", 400, "body", order, '{"parameters": 1}')
        post(f"{action} with a file", 400, "parameters.file:1/model.onnx", order,
             '{"parameters": {"file:1/model.onnx": "AA=="}}')  # fmt: skip
        post(f"{action} from another site's page", 403, "Origin", order, "{}", headers=["Origin: http://elsewhere"])
    post("a wrong wish for the index", 400, "body", "/v2/repository/index", '{"ready": 1}')


def heads():
    """Heads that are not HTTP/1.1, too large, or say two things about the body's length (request smuggling)."""
    line, host = f"POST {SCORER} HTTP/1.1\r\n", "Host: here\r\n"
    smuggled = "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
    for name, text in {
        "no HTTP": "hello\r\n\r\n", "TLS": "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", "zero bytes": "\0\0\0\0\r\n\r\n",
        "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/9.9": f"POST {SCORER} HTTP/9.9\r\n{host}\r\n",
        "no path": "POST HTTP/1.1\r\n\r\n", "a path with a blank": "POST /a b HTTP/1.1\r\n\r\n",
        "an unknown method": f"BREW {SCORER} HTTP/1.1\r\n{host}\r\n",
        "a method of small letters": f"post {SCORER} HTTP/1.1\r\n\r\n",
        "a header without a name": f"{line}: x\r\n\r\n", "a header without a colon": f"{line}Host here\r\n\r\n",
        "a blank before the colon": f"{line}Host : here\r\n\r\n",
        "a zero byte in a header": f"{line}Host: he\0re\r\n\r\n",
        "a folded header": f"{line}{host}X: a\r\n b\r\n\r\n",
        "a line break of one byte in a header": f"{line}X: a\rb\r\n\r\n",
        "a name with a blank": f"{line}Content Length: 1\r\n\r\n",
        "an upgrade": f"{line}{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "CONNECT": "CONNECT here:443 HTTP/1.1\r\nHost: here\r\n\r\n",
    }.items():  # fmt: skip
        add(f"head: {name}", 400, None, text, closes=True)
    add("head: HTTP/0.9", 405, "method", f"GET {SCORER}\r\n\r\n", closes=True)
    for name, headers in {
        "a negative length": "Content-Length: -5\r\n", "a length of letters": "Content-Length: five\r\n",
        "a hexadecimal length": "Content-Length: 0x5\r\n", "a length with a plus": "Content-Length: +5\r\n",
        "a length with a comma": "Content-Length: 5, 5\r\n", "a fractional length": "Content-Length: 5.0\r\n",
        "an empty length": "Content-Length:\r\n", "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n",
        "two equal lengths": "Content-Length: 5\r\nContent-Length: 5\r\n",
        "a length beyond 64 bits": "Content-Length: 99999999999999999999999\r\n",
        "a length and chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "chunks and a length": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "chunks not last": "Transfer-Encoding: chunked, identity\r\n",
        "an unknown encoding": "Transfer-Encoding: xchunked\r\n",
        "chunks by a blank before the colon": "Content-Length: 5\r\nTransfer-Encoding : chunked\r\n",
        "chunks on a folded line": "Content-Length: 5\r\nTransfer-Encoding:\r\n chunked\r\n",
    }.items():  # fmt: skip
        add(f"smuggling: {name}", 400, None, f"{line}{host}{headers}\r\n", f"0\r\n\r\n{smuggled}", closes=True)
    chunked = f"{line}{host}Transfer-Encoding: chunked\r\n\r\n"
    for name, text in {
        "a size of letters": "zz\r\nhello\r\n0\r\n\r\n", "a negative size": "-5\r\nhello\r\n0\r\n\r\n",
        "a size beyond 64 bits": "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "a size too small": "2\r\nhello\r\n0\r\n\r\n",
        "no size": "\r\nhello\r\n0\r\n\r\n", "a hexadecimal prefix": "0x5\r\nhello\r\n0\r\n\r\n",
        "a size with blanks": "5 5\r\nhello\r\n0\r\n\r\n", "no line break after the data": "5\r\nhello0\r\n\r\n",
    }.items():  # fmt: skip
        add(f"chunks: {name}", 400, None, chunked, text, closes=True)
    add("a header of 100 kB", 431, "headers", line, "X: ", ("x", 100_000), "\r\n\r\n", closes=True)
    add("10,000 headers", 431, "headers", line, ("X: y\r\n", 10_000), "\r\n", closes=True)
    add("a path of 100 kB", 431, "headers", "POST /", ("x", 100_000), " HTTP/1.1\r\n\r\n", closes=True)
    add("a body announced as 1 TB", 413, "body", f"{line}{host}Content-Length: {10**12}\r\n\r\n", closes=True)
    for encoding in ("gzip", "br", "deflate", "zstd", "gzip, identity", "x"):
        post(
            f"a body encoded as {encoding}",
            415,
            "Content-Encoding",
            SCORER,
            "{}",
            headers=[f"Content-Encoding: {encoding}"],
        )


def main():
    for make in (
        bodies, members, datatypes_and_shapes, values, raw_tensors, plain, paths_and_methods, heads,
    ):  # fmt: skip
        make()
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names)), [name for name in names if names.count(name) > 1]
    lines = [json.dumps(entry, ensure_ascii=True) for entry in entries]
    (Path(__file__).parent / "requests.jsonl").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} requests")


if __name__ == "__main__":
    main()
