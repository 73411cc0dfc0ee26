import contextlib

import numpy as np
import pytest
from google.protobuf import wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.grpc import wire
from shoal.serve.grpc.wire import WireError

WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40)


def only_field(data):
    (found,) = wire.read_fields(data, 0, len(data))
    return found


@given(WHOLE)
def test_packed_numbers_are_read_as_another_implementation_wrote_them(values):
    data = pb.InferTensorContents(int64_contents=values).SerializeToString()
    arrays = [wire.varints(data, found, "x") for found in wire.read_fields(data, 0, len(data))]

    assert [value for array in arrays for value in array.view(np.int64).tolist()] == values


@given(WHOLE)
def test_packed_numbers_are_written_as_another_implementation_reads_them(values):
    assert list(pb.InferTensorContents.FromString(wire.put_packed(3, values)).int64_contents) == values


@given(st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_come_back(value):
    written = wire.put_number(1, value)

    assert wrappers_pb2.Int64Value.FromString(written).value == value
    assert not value or wire.signed(only_field(written)[2]) == value


@given(st.text(max_size=300))
def test_texts_come_back(value):
    written = wire.put_text(1, value)

    assert wrappers_pb2.StringValue.FromString(written).value == value
    assert not value or wire.text(written, only_field(written), "x") == value


@given(st.floats(allow_nan=False))
def test_doubles_are_read(value):
    data = pb.InferParameter(double_param=value).SerializeToString()

    assert wire.double(data, only_field(data), "x") == value


def test_fixed_numbers_are_read_packed_and_one_by_one():
    packed = pb.InferTensorContents(fp32_contents=[1.5, -2]).SerializeToString()
    single = b"\x35" + np.float32(2.5).tobytes()

    assert wire.fixed(packed, only_field(packed), "<f4", "x").tolist() == [1.5, -2]
    assert wire.fixed(single, only_field(single), "<f4", "x").tolist() == [2.5]


def test_a_varint_alone_is_a_list_of_one():
    assert wire.varints(b"\x08\x07", only_field(b"\x08\x07"), "x").tolist() == [7]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05abc",  # cut
        b"\x08",  # no number
        b"\x08" + b"\xff" * 11,  # a number without end
        b"\x0d\x00\x00",  # four bytes cut
        b"\x0b",  # a group
        b"\x00\x01",  # field 0
        b"\x02\x00",  # field 0 again
        b"\x80\x80",  # a tag without end
    ],
)
def test_what_is_cut_or_unknown_is_refused(data):
    with pytest.raises(WireError):
        list(wire.read_fields(data, 0, len(data)))


def test_fields_do_not_reach_beyond_their_message():
    with pytest.raises(WireError):
        list(wire.read_fields(b"\x0a\x03abc", 0, 4))


@pytest.mark.parametrize(
    "read",
    [
        lambda: wire.text(b"\x08\x01", only_field(b"\x08\x01"), "name"),
        lambda: wire.text(b"\x0a\x01\xff", only_field(b"\x0a\x01\xff"), "name"),
        lambda: wire.span(only_field(b"\x08\x01"), "name"),
        lambda: wire.double(b"\x08\x01", only_field(b"\x08\x01"), "name"),
        lambda: wire.varints(b"\x0a\x01\x80", only_field(b"\x0a\x01\x80"), "name"),
        lambda: wire.varints(b"\x0d1234", only_field(b"\x0d1234"), "name"),
        lambda: wire.varints(b"\x0a\x0c" + b"\xff" * 11 + b"\0", (1, 2, 2, 14), "name"),
        lambda: wire.fixed(b"\x0a\x03abc", only_field(b"\x0a\x03abc"), "<f4", "name"),
        lambda: wire.fixed(b"\x08\x01", only_field(b"\x08\x01"), "<f4", "name"),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(read):
    with pytest.raises(WireError, match="name"):
        read()


@given(st.binary(max_size=80))
def test_garbage_is_read_or_refused(data):
    with contextlib.suppress(WireError):
        for found in wire.read_fields(data, 0, len(data)):
            with contextlib.suppress(WireError):
                wire.varints(data, found, "x")
            with contextlib.suppress(WireError):
                wire.fixed(data, found, "<f8", "x")


def test_small_helpers():
    assert wire.put_texts(2, ["a", ""]) == b"\x12\x01a\x12\x00"
    assert wire.put_head(1, 300) + b"x" == b"\x0a\xac\x02x"
    assert wire.put_text(1, "") == wire.put_number(1, 0) == wire.put_packed(1, []) == b""
