import contextlib

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.grpc.frames import BrokenError, Code
from shoal.serve.grpc.hpack import Decoder, encode_headers, read_integer, write_integer

NAMES = st.sampled_from([b":path", b"grpc-timeout", b"user-agent", b"te", b"x-a", b"x-b", b"authorization"])
BLOCKS = st.lists(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=6), max_size=8)


@given(BLOCKS, st.booleans())
def test_blocks_are_read_as_another_implementation_wrote_them(blocks, huffman):
    encoder, decoder = hpack.Encoder(), Decoder(most_list_bytes=100_000)

    for headers in blocks:
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == headers


@given(st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=10))
def test_our_blocks_are_read_by_another_implementation(headers):
    decoded = hpack.Decoder().decode(encode_headers(headers), raw=True)

    assert [(bytes(name), bytes(value)) for name, value in decoded] == headers


def test_our_blocks_leave_the_table_alone():
    decoder = Decoder(most_list_bytes=1000)

    decoder.decode(encode_headers([(b":status", b"200"), (b"content-type", b"application/grpc"), (b"x", b"y")]))

    assert decoder.num_changes == 0


def test_entries_leave_the_table_when_it_is_full():
    encoder, decoder = hpack.Encoder(), Decoder(most_list_bytes=100_000)

    for number in range(100):
        headers = [(b"x-long", b"v" * 500 + b"%d" % (number % 20))]
        assert decoder.decode(encoder.encode(headers)) == headers


def test_a_smaller_table_is_heeded():
    encoder, decoder = hpack.Encoder(), Decoder(most_list_bytes=1000)
    decoder.decode(encoder.encode([(b"a", b"1")]))
    encoder.header_table_size = 0
    encoder.header_table_size = 100

    assert decoder.decode(encoder.encode([(b"a", b"1"), (b"b", b"2")])) == [(b"a", b"1"), (b"b", b"2")]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # header 0
        b"\xff\x80\x80\x80\x80\x80\x01",  # a number without end
        b"\xbe",  # an entry of an empty table
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x88\x20",  # a table size after a header
        b"\x00\x05abc",  # a text that is cut
        b"\x00\x01a",  # no value
        b"\x00\x84\xff\xff\xff\xff\x00",  # a wrong Huffman code
        b"\x7f",  # a number that is cut
    ],
)
def test_what_cannot_be_read_ends_the_connection(block):
    with pytest.raises(BrokenError) as caught:
        Decoder(most_list_bytes=1000).decode(block)

    assert caught.value.code == Code.COMPRESSION_ERROR


def test_a_list_beyond_the_limit_leaves_the_table_right():
    encoder, decoder = hpack.Encoder(), Decoder(most_list_bytes=200)

    assert decoder.decode(encoder.encode([(b"x-a", b"v" * 90), (b"x-b", b"w" * 90), (b"x-c", b"u")])) is None
    assert decoder.decode(encoder.encode([(b"x-c", b"u")])) == [(b"x-c", b"u")]


@given(st.binary(max_size=100))
def test_garbage_is_read_or_ends_the_connection(block):
    with contextlib.suppress(BrokenError):
        Decoder(most_list_bytes=1000).decode(block)


@given(st.integers(0, 1 << 24), st.integers(4, 7))
def test_integers_come_back(value, bits):
    written = write_integer(value, bits, 0)

    assert read_integer(written, 0, bits) == (value, len(written))
