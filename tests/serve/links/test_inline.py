import socket
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import CorruptError, StorageFullError
from shoal.serve.links import inline
from shoal.serve.links.channel import Done, Hello, Load, Loaded, Ping, Slot, Work
from shoal.serve.links.inline import InlineReader, InlineTensors, Outbox, encode_inline
from shoal.serve.wire.interface import Interface, TensorField

LOADED = Loaded("m", "1", "/p", Interface((TensorField("x", "FP32", (None, 2)),), (), batched=True), [], "unknown")
IMAGES = [np.arange(6, dtype=np.uint8).reshape(2, 3), np.full((1, 3), 9, np.uint8)]
WEIGHTS = [np.array([0.5, 1.5]), np.array([2.5])]
TEXTS = [np.array(["a", "études"]), np.array(["日本"])]


def stream(*messages):
    return b"".join(bytes(piece) for message in messages for piece in message)


def work(*tensors):
    outgoing = InlineTensors()
    _, slots = outgoing.write(tensors)
    return encode_inline(Work(7, "m", "1", "", slots), outgoing.take())


def feed(reader, data):
    """Everything that comes of these bytes, as plain lists."""
    found = []
    while data:
        room = reader.room()
        assert len(room) > 0
        piece, data = data[: len(room)], data[len(room) :]
        room[: len(piece)] = piece
        if (arrival := reader.took(len(piece))) is not None:
            found.append((arrival.frame, [tensor.tolist() for tensor in arrival.tensors]))
    return found


MESSAGES = [
    encode_inline(Hello(1, 4711, "10.0.0.7")),
    encode_inline(Load("m", "1", "/p")),
    work(IMAGES, WEIGHTS, TEXTS),
    encode_inline(Ping()),
    encode_inline(LOADED),
    work([np.array(3.5, np.float32)], [np.empty((0, 4), np.int64)]),
]
EXPECTED = feed(InlineReader(), stream(*MESSAGES))


def test_frames_and_tensors_arrive_as_they_were():
    frames = [frame for frame, _ in EXPECTED]

    assert frames[:2] == [Hello(1, 4711, "10.0.0.7"), Load("m", "1", "/p")]
    assert EXPECTED[2][1] == [[[0, 1, 2], [3, 4, 5], [9, 9, 9]], [0.5, 1.5, 2.5], ["a", "études", "日本"]]
    assert frames[3:5] == [Ping(), LOADED]
    assert EXPECTED[5][1] == [3.5, []]


def test_a_cut_at_any_byte_changes_nothing():
    data = stream(*MESSAGES)

    for cut in range(len(data) + 1):
        reader = InlineReader()
        assert feed(reader, data[:cut]) + feed(reader, data[cut:]) == EXPECTED


@given(cuts=st.lists(st.integers(0, len(stream(*MESSAGES))), max_size=12).map(sorted))
def test_any_cuts_change_nothing(cuts):
    data = stream(*MESSAGES)
    reader = InlineReader()

    found = [
        each
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)
        for each in feed(reader, data[start:end])
    ]

    assert found == EXPECTED


def test_nothing_is_received_beyond_what_is_known_to_come():
    reader = InlineReader()
    data = stream(encode_inline(Ping()))

    assert len(reader.room()) == 12
    feed(reader, data[:12])
    assert len(reader.room()) == len(data) - 12
    feed(reader, data[12:])
    assert len(reader.room()) == 12


def test_tensors_lie_where_they_were_received_and_the_memory_is_used_again():
    reader = InlineReader()
    addresses = set()
    for value in range(3):
        data = stream(work([np.full((4, 5), value, np.float64)]))
        while data:
            room = reader.room()
            room[: len(data)] = data[: len(room)]
            arrival, data = reader.took(min(len(room), len(data))), data[len(room) :]
        assert arrival.tensors[0][0, 0] == value
        addresses.add(arrival.tensors[0].ctypes.data)

    assert len(addresses) == 1
    assert addresses.pop() % 64 == 0


def test_arrays_are_sent_from_where_they_lie():
    array = np.arange(12.0).reshape(3, 4)
    outgoing = InlineTensors()
    outgoing.write([[array]])

    (piece,) = [piece for piece in outgoing.take() if piece.nbytes == array.nbytes]
    array[0, 0] = 99.0

    assert bytes(piece[:8]) == struct.pack("<d", 99.0)
    assert outgoing.take() == []


def test_arrays_that_do_not_lie_in_one_piece_arrive_all_the_same():
    array = np.arange(12.0).reshape(3, 4)

    ((_, (found,)),) = feed(InlineReader(), stream(work([array.T[1:]])))

    assert found == array.T[1:].tolist()


def header(num_frame_bytes, num_tensor_bytes):
    return struct.pack("<IQ", num_frame_bytes, num_tensor_bytes)


def damaged(frame, num_tensor_bytes):
    body = bytes(encode_inline(frame)[0])[12:]
    return header(len(body), num_tensor_bytes) + body


@pytest.mark.parametrize(
    "data",
    [
        header(0, 0),
        header(inline.MOST_FRAME_BYTES + 1, 0),
        header(0xFFFFFFFF, 0),
        header(10, inline.MOST_TENSOR_BYTES + 1),
        header(10, 0xFFFFFFFFFFFFFFFF),
        header(4, 0) + b"\xc1\xc1\xc1\xc1",
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
        damaged(Ping(), 64),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (64,), 0)]), 0),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (64,), 0)]), 128),
        damaged(Work(1, "m", "1", "", []), 64),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (-64,), 0)]), 64),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (-8, -8), 0)]), 64),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (64,), 64)]), 64),
        damaged(Work(1, "m", "1", "", [Slot("|u1", (64,), 0), Slot("|u1", (64,), 0)]), 128),
        damaged(Work(1, "m", "1", "", [Slot("|O", (8,), 0)]), 64),
        damaged(Work(1, "m", "1", "", [Slot("nonsense", (8,), 0)]), 64),
        damaged(Work(1, "m", "1", "", [Slot("<f8", (1 << 40, 1 << 40), 0)]), 64),
        damaged(Done(1, "", [Slot("<f8", (1 << 27,), 0)], 0.1), 64),
    ],
)
def test_damaged_lengths_and_slots_are_refused_before_memory_is_taken(data, monkeypatch):
    monkeypatch.setattr(inline, "_aligned_memory", lambda size: pytest.fail(f"{size} bytes were taken"))

    with pytest.raises(CorruptError):
        feed(InlineReader(), data)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_waited_for(data):
    with suppress(CorruptError):
        feed(InlineReader(), data)


def test_a_batch_beyond_the_bound_is_not_begun(monkeypatch):
    monkeypatch.setattr(inline, "MOST_TENSOR_BYTES", 1000)
    outgoing = InlineTensors()

    with pytest.raises(StorageFullError, match="1000"):
        outgoing.write([[np.zeros(200)]])

    assert outgoing.take() == []


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_a_socket_does_not_take_waits_and_goes_on_in_the_middle(pair):
    ours, theirs = pair
    images = np.random.default_rng(0).integers(0, 255, (1000, 333), np.uint8)
    outbox = Outbox(ours)
    message = work([images[:1], images[1:700], images[700:]])
    outbox.put(message)
    outbox.put(encode_inline(Ping()))

    reader, found, data = InlineReader(), [], b""
    is_out = outbox.flush()
    assert not is_out
    while outbox.num_bytes or data:
        data = theirs.recv(5000)
        found += feed(reader, data)
        outbox.flush()
        if outbox.num_bytes == 0 and found and isinstance(found[-1][0], Ping):
            break

    assert found[0][1] == [images.tolist()]
    assert found[1][0] == Ping()
    assert outbox.flush()


def test_more_pieces_than_one_write_takes_all_arrive(pair):
    ours, theirs = pair
    rows = [np.full((1, 3), number % 251, np.uint8) for number in range(2000)]
    outbox = Outbox(ours)
    outbox.put(work(rows))

    reader, found = InlineReader(), []
    while not found:
        outbox.flush()
        found = feed(reader, theirs.recv(65536))

    assert found[0][1] == [[row[0].tolist() for row in rows]]


def test_what_waits_can_be_forgotten(pair):
    ours, _ = pair
    outbox = Outbox(ours)
    outbox.put(encode_inline(Ping()))

    outbox.clear()

    assert outbox.num_bytes == 0
    assert outbox.flush()
