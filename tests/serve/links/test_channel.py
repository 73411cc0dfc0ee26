import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import NotFoundError, SharedBlock
from shoal.serve.links.channel import (
    Done,
    Failed,
    FrameReader,
    Hello,
    IncomingTensors,
    Load,
    Loaded,
    LoadFailed,
    OutgoingTensors,
    Slot,
    Unload,
    Work,
    encode_frame,
)
from shoal.serve.wire.interface import Interface, TensorField

FRAMES = [
    Load("m", "1", "/path"),
    Unload("m", "1"),
    Work(7, "m", "1", "/dev/shm/x", [Slot("|u1", (3, 28, 28), 0), Slot("<f4", (3,), 2432)]),
    Hello(1, 4711),
    Loaded("m", "1", "/p", Interface((TensorField("x", "FP32", (None, 2)),), (), batched=True), [(1, 0.5)], "unknown"),
    LoadFailed("m", "1", "broken", "mend it"),
    Done(7, "/dev/shm/y", [Slot("<f4", (3, 10), 0)], 0.001),
    Failed(7, "index out of range", blames_input=True),
]


@given(cuts=st.lists(st.integers(0, 700), max_size=8).map(sorted))
def test_frames_survive_any_cut(cuts):
    stream = b"".join(encode_frame(frame) for frame in FRAMES)
    cuts = [min(cut, len(stream)) for cut in cuts]
    reader = FrameReader()

    found = [
        frame
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for frame in reader.feed(stream[start:end])
    ]

    assert found == FRAMES


@pytest.fixture
def outgoing():
    outgoing = OutgoingTensors()
    yield outgoing
    outgoing.close()


@pytest.fixture
def incoming():
    incoming = IncomingTensors()
    yield incoming
    incoming.close()


def test_a_batch_arrives_joined_and_in_order(outgoing, incoming):
    images = [np.full((2, 3), 1, np.uint8), np.full((1, 3), 2, np.uint8)]
    weights = [np.array([0.5, 1.5]), np.array([2.5])]

    found = incoming.read(*outgoing.write([images, weights]))

    assert found[0].tolist() == [[1] * 3, [1] * 3, [2] * 3]
    assert found[1].tolist() == [0.5, 1.5, 2.5]


def test_texts_of_several_requests_are_as_wide_as_the_longest(outgoing, incoming):
    texts = [np.array(["a", "études"]), np.array([""]), np.array(["much longer", "日本"])]

    (found,) = incoming.read(*outgoing.write([texts]))

    assert found.tolist() == ["a", "études", "", "much longer", "日本"]


def test_memory_is_reused_until_a_batch_is_larger(outgoing, incoming):
    first, _ = outgoing.write([[np.zeros(10)]])
    second, _ = outgoing.write([[np.zeros(1000)]])
    large, slots = outgoing.write([[np.arange(100_000.0)]])

    assert first == second
    assert large != first
    assert incoming.read(large, slots)[0].sum() == np.arange(100_000.0).sum()


def test_nothing_is_left_behind_once_the_other_side_has_attached(outgoing, incoming):
    name, slots = outgoing.write([[np.arange(3)]])

    found = incoming.read(name, slots)

    with pytest.raises(NotFoundError):
        SharedBlock.attach(name)
    assert found[0].tolist() == [0, 1, 2]
    assert incoming.read(*outgoing.write([[np.arange(4)]]))[0].tolist() == [0, 1, 2, 3]


def test_nothing_is_left_behind_when_the_other_side_never_came(outgoing):
    name, _ = outgoing.write([[np.arange(3)]])

    outgoing.close()

    with pytest.raises(NotFoundError):
        SharedBlock.attach(name)
