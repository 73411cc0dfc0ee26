"""What the parsers of the server promise of any bytes at all, one function each: it raises where a promise is broken.

`run.py` feeds them by coverage, `test_targets.py` with all good and bad requests that are kept and a bounded number of
changed ones. Where another implementation reads the same bytes, the promise is that both read the same.
"""

import asyncio
import atexit
import importlib.util
import json
import math
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h11
import hpack
import numpy as np
from google.protobuf.message import DecodeError
from seeds import SEEDS, WORDS
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.desk.connection import Connection, Patience
from shoal.serve.desk.routes import find_route
from shoal.serve.grpc import frames
from shoal.serve.grpc.codec import Codec
from shoal.serve.grpc.frames import BrokenError, FrameReader
from shoal.serve.grpc.head import HeadReader
from shoal.serve.grpc.hpack import Decoder
from shoal.serve.grpc.messages import read_index_request, read_infer_request, read_name
from shoal.serve.grpc.session import Session
from shoal.serve.wire.http import Head, RequestReader
from shoal.serve.wire.images import ImageInput, Picture, PictureWish
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.multipart import read_file
from shoal.serve.wire.plain import PlainForm
from shoal.serve.wire.predicting import Predicting
from shoal.serve.wire.protocol import InferCall, Protocol
from shoal.serve.wire.refusal import RefusedError

try:
    from shoal.serve.wire import infer_body
except ImportError:
    infer_body = None

Target = Callable[[bytes], None]
SCORES = TensorField("scores", "FP32", (None, 3))
IMAGE = TensorField("image", "UINT8", (None, 2, 2))


def _face(*fields, batched=True):
    return Interface(tuple(TensorField(*each) for each in fields), (SCORES,), batched=batched)


INTERFACES = [
    _face(("image", "UINT8", (None, 2, 2))),
    _face(("values", "FP32", (None, 2)), ("flags", "BOOL", (None,))),
    _face(("index", "INT64", (None,))),
    _face(("image", "UINT8", (1, 2, 2)), batched=False),
    _face(
        ("age", "INT64", (None,)), ("age_mask", "BOOL", (None,)), ("city", "BYTES", (None,)),
        ("city_mask", "BOOL", (None,)), ("height", "FP32", (None,)), ("distance", "FP64", (None,), True),
    ),
    _face(("x", "FP16", (None, None)), ("u", "UINT64", (None,))),
    _face(("whole", "FP64", ()), ("open", "INT8", (None, 3)), batched=False),
    _face(
        ("values", "FP32", (None, 2)), ("doubles", "FP64", (None,)), ("small", "INT16", (None,)),
        ("u", "UINT64", (None,)),
    ),
]  # fmt: skip
PROTOCOLS = [Protocol(interface) for interface in INTERFACES]
# The reader in Python alone, to hold the compiled one against.
PLAIN_PROTOCOLS = [Protocol(interface) for interface in INTERFACES]
for _protocol in PLAIN_PROTOCOLS:
    _protocol._read_ordinary = None
FORMS = [PlainForm(interface) for interface in INTERFACES]


def _refused(work: Callable[[], object]) -> object:
    """What comes of it, or None where it is refused as a client's mistake should be."""
    try:
        return work()
    except RefusedError as error:
        refused = error
    assert 400 <= refused.status < 500, refused
    assert refused.field, refused
    assert refused.expected, refused
    assert refused.next_step, refused
    # It must fit into an answer.
    json.loads(refused.body())
    return None


def http(data: bytes) -> None:
    """However the bytes are cut: the same events; and no other reader sees other requests in them."""
    cut, data = data[:1], data[1:]
    whole = _events([data])
    size = (cut or b"\1")[0] % 32 + 1
    assert _events([data[at : at + size] for at in range(0, len(data), size)]) == whole
    assert [kind for kind, *_ in whole].count("refused") <= 1
    assert "refused" not in [kind for kind, *_ in whole[:-1]]
    ours = [(*head[1:3], body[1]) for head, body in zip(whole[::2], whole[1::2], strict=False) if body[0] == "body"]
    for mine, other in zip(ours, _as_h11_reads(data), strict=False):
        assert mine == other


def _events(pieces):
    reader = RequestReader(most_body_bytes=1000)
    found = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, Head):
                found.append(("head", event.method, (event.path, event.query), sorted(event.headers.items())))
                _refused(lambda: find_route(event.method, event.path))  # noqa: B023  # called at once
            elif isinstance(event, RefusedError):
                found.append(("refused", event.status))
            else:
                found.append(("body", event))
    return found


def _as_h11_reads(data):
    """(method, (path, query), body) of each request, as far as it reads."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found, body, request = [], b"", None
    # Of the client's making, or ours: after a last request it starts no next one.
    with suppress(h11.RemoteProtocolError, h11.LocalProtocolError):
        # Its words for "more" and "paused" are types; after the last request the same end comes for ever.
        while not isinstance(event := connection.next_event(), type | h11.ConnectionClosed):
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                path, _, query = request.target.partition(b"?")
                if path.startswith((b"http://", b"https://")):
                    path = b"/" + path.split(b"//", 1)[1].partition(b"/")[2]
                found.append((request.method.decode(), (path.decode("latin-1"), query.decode("latin-1")), body))
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
    return found


def protocol(data: bytes) -> None:
    """What is taken fits the interface, and is what another reader of JSON sees in the same bytes."""
    place, length, body = _chosen(data)
    interface = INTERFACES[place]
    json_bytes = None if length < 128 else length - 128 if length < 255 else len(body)
    call = _refused(lambda: PROTOCOLS[place].decode(body, json_bytes))
    if call is None:
        return
    _check_call(interface, call)
    if json_bytes is None:
        tensors = {tensor["name"]: tensor for tensor in json.loads(body)["inputs"]}
        for field, array in zip(interface.inputs, call.arrays, strict=True):
            assert list(array.shape) == tensors[field.name]["shape"]
            _check_values(field, array, tensors[field.name]["data"])


def plain(data: bytes) -> None:
    """The same of plain JSON; null is what the mask tells, or NaN where the model fills it."""
    place, _, body = _chosen(data)
    interface = INTERFACES[place]
    call = _refused(lambda: FORMS[place].decode(body))
    if call is None:
        return
    _check_call(interface, call)
    sent = json.loads(body)
    rows = sent.get("rows", [sent])
    arrays = dict(zip((field.name for field in interface.inputs), call.arrays, strict=True))
    for field in FORMS[place].fields:
        values = [row[field.name] for row in rows]
        if field.mask is not None:
            assert arrays[f"{field.name}_mask"].tolist() == [value is not None for value in values]
        array = arrays[field.name] if FORMS[place].has_rows else arrays[field.name][np.newaxis]
        for value, found in zip(values, array, strict=True):
            if value is not None:
                _check_values(field.tensor, found, value)
            elif field.mask is None:
                assert np.isnan(found).all()


def native(data: bytes) -> None:
    """What the compiled reader takes, the one in Python takes too, as the same bits."""
    place, _, body = _chosen(data)
    reader = None if infer_body is None else infer_body.reader_for(INTERFACES[place])
    found = None if reader is None else reader(body)
    if found is None:
        return
    call = PLAIN_PROTOCOLS[place].decode(body)
    assert (found.id, found.num_rows) == (call.id, call.num_rows)
    assert call.wishes == PROTOCOLS[place].decode(body).wishes
    assert call.parameters is None
    for ours, other in zip(found.arrays, call.arrays, strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (other.dtype, other.shape, other.tobytes())


_LETTERS = b"0123456789.-+eE, []"
_LISTED = [Interface((TensorField("x", kind, (None,)),), (SCORES,), batched=True)
           for kind in ("FP32", "FP64", "INT8", "UINT8", "INT32", "INT64", "UINT64")]  # fmt: skip
_NUMBERS = [(interface, Protocol(interface), Protocol(interface)) for interface in _LISTED]
for _, _, _protocol in _NUMBERS:
    _protocol._read_ordinary = None


def numbers(data: bytes) -> None:
    """Lists of numbers alone, however they are written: both readers take the same, as the same bits."""
    interface, both, slow = _NUMBERS[(data[:1] or b"\0")[0] % len(_NUMBERS)]
    kind = interface.inputs[0].datatype
    text = bytes(byte if byte in _LETTERS else _LETTERS[byte % len(_LETTERS)] for byte in data[1:])
    body = b'{"inputs": [{"name": "x", "datatype": "%s", "shape": [%d], "data": [%s]}]}'
    body %= (kind.encode(), text.count(b",") + 1, text)
    found, expected = _refused(lambda: both.decode(body)), _refused(lambda: slow.decode(body))
    assert (found is None) == (expected is None)
    if found is not None:
        assert found.arrays[0].tobytes() == expected.arrays[0].tobytes()
        assert found.arrays[0].dtype == expected.arrays[0].dtype
        _check_values(interface.inputs[0], found.arrays[0], json.loads(body)["inputs"][0]["data"])


def multipart(data: bytes) -> None:
    """A file is bytes of the form; it is found under the boundary that the header names."""
    size, data = (data[:1] or b"\0")[0], data[1:]
    boundary = "xyz" if size < 128 else data[: size - 127].decode("latin-1")
    body = data if size < 128 else data[size - 127 :]
    found = _refused(lambda: read_file(body, boundary))
    if found is not None:
        assert found.content in body
        assert f"--{boundary}".encode("latin-1") in body


def predicting(data: bytes) -> None:
    """Whatever Content-Type and query say, a request is refused as a mistake or read."""
    kind, _, rest = data.partition(b"\n")
    query, _, body = rest.partition(b"\n")
    reads = Predicting(INTERFACES[0])
    head = Head("POST", "/predict", {b"content-type": kind}, True, False, query.decode("latin-1"))
    found = _refused(lambda: reads.read(head, body))
    if isinstance(found, Picture):
        found = _refused(lambda: reads.call(found.decode()))
    if isinstance(found, InferCall):
        _check_call(INTERFACES[0], found)


_WANTED = [ImageInput("x", 2, 3, mode, layout, is_float) for mode, layout, is_float in
           (("L", "HW", False), ("RGB", "HWC", False), ("RGB", "CHW", True))]  # fmt: skip
_MOST_PIXELS = 1 << 16


def images(data: bytes) -> None:
    """A picture becomes the row that the model takes, or is refused, also where its header lies."""
    place, content = (data[:1] or b"\0")[0], data[1:]
    wanted, wish = _WANTED[place % 3], PictureWish(resize=place & 64 != 0, white=(1, 255)[place >> 7])
    picture = _refused(lambda: Picture(content, "", wanted, wish))
    # Decoding millions of pixels is right, and takes the time of a thousand other pictures.
    if picture is not None and picture.num_pixels <= _MOST_PIXELS:
        row = _refused(picture.decode)
        assert row is None or row.shape == {"HW": (1, 2, 3), "HWC": (1, 2, 3, 3), "CHW": (1, 3, 2, 3)}[wanted.layout]


class _Heard:
    """A listener of calls that answers each of them."""

    def __init__(self):
        self.heard = []

    def on_head(self, stream, head):
        self.heard.append((stream, head.path, sorted(head.headers.items()), head.http_status))

    def on_data(self, stream, data, *, is_last):
        self.heard.append((stream, "data", bytes(data), is_last))

    def on_reset(self, stream):
        self.heard.append((stream, "reset"))


def grpc(data: bytes) -> None:
    """However the bytes are cut: the same frames, and the same calls and answers of a whole session."""
    size, data = (data[:1] or b"\0")[0] % 64 + 1, data[1:]
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert _frames([data]) == _frames(pieces)
    assert _session([data]) == _session(pieces)
    hello = frames.PREFACE + frames.settings({})
    assert _session([hello + data]) == _session([hello, *pieces])


def _frames(pieces):
    reader, found = FrameReader(max_frame_bytes=1000), []
    try:
        for piece in pieces:
            found.extend(reader.feed(piece))
    except BrokenError as error:
        found.append(error.code)
    return found


def _session(pieces):
    listener = _Heard()
    session = Session(listener)
    written = session.take()
    for piece in pieces:
        session.feed(piece)
        written += session.take()
    return listener.heard, session.is_over, written


def heads(data: bytes) -> None:
    """Header blocks, each behind its length, are read as another implementation reads them."""
    ours, reader, other = Decoder(most_list_bytes=60_000), HeadReader(), hpack.Decoder(max_header_list_size=60_000)
    while data:
        size, block, data = data[0], data[1 : data[0] + 1], data[data[0] + 1 :]
        if len(block) < size:
            return
        try:
            found = ours.decode(block)
        except BrokenError:
            return
        reader.read(block)
        if found is None:
            return
        # The other one also asks for a change of the table that was announced; then it is ours alone that reads on.
        with suppress(hpack.HPACKDecodingError):
            expected = [(bytes(name), bytes(value)) for name, value in other.decode(block, raw=True)]
            assert found == expected
            continue
        return


def messages(data: bytes) -> None:
    """A message is read as protocol buffers read it, and its tensors fit the interface."""
    place, _, data = _chosen(data)
    for read in (read_name, read_index_request):
        _refused(lambda: read(data))  # noqa: B023  # called at once
    found = _refused(lambda: read_infer_request(data))
    if found is None:
        return
    other = None
    # It also takes apart what stands in fields that are passed over here.
    with suppress(DecodeError):
        other = pb.ModelInferRequest.FromString(data)
    if other is not None:
        assert (found.model_name, found.model_version, found.id) == (other.model_name, other.model_version, other.id)
        assert [bytes(raw) for raw in found.raw] == list(other.raw_input_contents)
        assert [(each.name, each.datatype, list(each.shape)) for each in found.inputs] == [
            (each.name, each.datatype, list(each.shape)) for each in other.inputs
        ]
        assert [wish.name for wish in found.outputs] == [wish.name for wish in other.outputs]
    call = _refused(lambda: Codec(INTERFACES[place]).decode(found))
    if call is not None:
        _check_call(INTERFACES[place], call)


class _Transport:
    """Keeps what is written."""

    def __init__(self):
        self.written, self.is_closed = b"", False

    def write(self, data):
        self.written += data

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_closed = True

    def can_write_eof(self):
        return True

    def write_eof(self): ...

    def pause_reading(self): ...

    def resume_reading(self): ...


def _load_house():
    place = Path(__file__).parents[1] / "conftest.py"
    spec = importlib.util.spec_from_file_location("serve_conftest", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.House


_HOUSES = []
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)
# Of a refusal that a bad request has earned; the server is never full with one connection, but a client may be hasty.
_STATUSES = {b"200", *(b"%d" % status for status in (400, 401, 403, 404, 405, 413, 415, 422, 431))}


def connection(data: bytes) -> None:
    """A whole front behind a connection: every request has one answer, in its turn, and none is a mistake of ours."""
    if not _HOUSES:
        _HOUSES.append(_load_house()(Interface((IMAGE,), (SCORES,), batched=True)))
    _LOOP.run_until_complete(_converse(_HOUSES[0], data))


async def _converse(house, data):
    link = house.link(1)
    run, transport = link.run, _Transport()

    def run_and_answer(batch):
        run(batch)
        house.dispatcher.on_done(link, link.compute())

    link.run = run_and_answer
    client = Connection(house.desk, most_body_bytes=4096, patience=Patience())
    client.connection_made(transport)
    client.data_received(data)
    for _ in range(4):
        await asyncio.sleep(0)
    rest = transport.written
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        status = first.split()[1]
        if status == b"100":
            continue
        assert status in _STATUSES or (status in (b"503", b"504") and b"timeout" in data.lower()), first
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        length = int(headers[b"content-length"])
        # The answer to HEAD is its head alone.
        if rest[:9] != b"HTTP/1.1 " and rest:
            assert status == b"200" or json.loads(rest[:length])["next"]
            rest = rest[length:]
    client.connection_lost(None)


def _chosen(data):
    """(interface's place, a number, the rest): the first two bytes choose."""
    first, second = (data[:2] + b"\0\0")[:2]
    return first % len(INTERFACES), second, data[2:]


def _check_call(interface, call):
    assert call.num_rows >= 1
    for field, array in zip(interface.inputs, call.arrays, strict=True):
        interface.check_shape(field, array.shape)
        assert array.dtype == field.type.dtype or (field.datatype == "BYTES" and array.dtype.kind == "U")
        assert not interface.batched or len(array) == call.num_rows
        if field.type.family is float and not field.fills_nan:
            assert np.isfinite(array).all()
        if field.datatype == "BOOL":
            assert set(array.view(np.uint8).reshape(-1).tolist()) <= {0, 1}


def _check_values(field, array, sent):
    flat = [sent]
    while flat and any(isinstance(value, list) for value in flat):
        flat = [inner for value in flat for inner in value]
    found = array.reshape(-1).tolist()
    assert len(flat) == len(found)
    for value, each in zip(flat, found, strict=True):
        if field.type.family is float:
            (rounded,) = struct.unpack(field.type.code, struct.pack(field.type.code, value))
            assert each == rounded
            assert math.copysign(1, each) == math.copysign(1, rounded) or not value
        else:
            assert type(value) is field.type.family
            assert each == value


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        http, protocol, plain, native, numbers, multipart, predicting, images, grpc, heads, messages, connection,
    )
}  # fmt: skip
assert SEEDS.keys() == TARGETS.keys()
__all__ = ["SEEDS", "TARGETS", "WORDS"]
