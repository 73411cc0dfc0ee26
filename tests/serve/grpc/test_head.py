from http import HTTPStatus

import hpack
import pytest

from shoal.serve.grpc.head import MOST_HEADER_BYTES, HeadReader, read_head, read_timeout

PLAIN = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"here"),
         (b"content-type", b"application/grpc"), (b"te", b"trailers")]  # fmt: skip


def without(name):
    return [header for header in PLAIN if header[0] != name]


def test_a_plain_call():
    head = read_head([*PLAIN, (b"authorization", b"Bearer k"), (b"user-agent", b"x")])

    assert (head.path, head.timeout_s, head.encoding, head.refused) == ("/a.B/C", None, "identity", None)
    assert head.headers == {b"authorization": b"Bearer k"}


@pytest.mark.parametrize(
    "headers",
    [
        without(b":method"),
        without(b":path"),
        without(b":scheme"),
        [*PLAIN, (b":path", b"/d")],
        [*PLAIN, (b"x", b"1"), (b":authority", b"late")],
        [(b":unknown", b"1"), *PLAIN],
        [*PLAIN, (b"X-Upper", b"1")],
        [*PLAIN, (b"connection", b"close")],
        [*PLAIN, (b"te", b"gzip")],
        [*PLAIN, (b"", b"1")],
        [(b":path", b"/a"), *PLAIN],
    ],
)
def test_what_is_malformed_is_no_request(headers):
    assert read_head(headers) is None


def test_what_is_not_grpc_gets_an_http_status():
    assert read_head([(b":method", b"GET"), *without(b":method")]).http_status == HTTPStatus.METHOD_NOT_ALLOWED
    assert read_head(without(b"content-type")).http_status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"1S", 1), (b"2M", 120), (b"1H", 3600), (b"250m", 0.25), (b"5u", 5e-6), (b"99999999n", 0.099999999)],
)
def test_timeouts_are_read(value, seconds):
    assert read_timeout(value) == pytest.approx(seconds)
    assert read_head([*PLAIN, (b"grpc-timeout", value)]).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize("value", [b"", b"S", b"1", b"1s", b"-1S", b"123456789S", b"1.5S"])
def test_a_wrong_timeout_is_refused_by_its_name(value):
    refused = read_head([*PLAIN, (b"grpc-timeout", value)]).refused

    assert (refused.status, refused.field) == (400, "grpc-timeout")


def test_an_unknown_encoding_is_refused():
    assert read_head([*PLAIN, (b"grpc-encoding", b"zstd")]).refused.status == 415


def test_equal_blocks_are_read_once_and_changed_tables_are_noticed():
    encoder, reader = hpack.Encoder(), HeadReader()
    blocks = [encoder.encode([*PLAIN, (b"x-api-key", b"k%d" % number)]) for number in (1, 1, 1, 2, 2, 1)]

    heads = [reader.read(block) for block in blocks]

    assert [head.headers[b"x-api-key"] for head in heads] == [b"k1", b"k1", b"k1", b"k2", b"k2", b"k1"]
    assert heads[1] is heads[2]


def test_the_same_bytes_mean_something_else_when_the_table_has_changed():
    encoder, reader = hpack.Encoder(), HeadReader()
    reader.read(encoder.encode([*PLAIN, (b"x-api-key", b"1")]))
    newest = encoder.encode([*PLAIN, (b"x-api-key", b"1")])
    first = reader.read(newest)
    reader.read(encoder.encode([*PLAIN, (b"x-api-key", b"2")]))

    # The entries have moved, so these bytes now name others.
    assert reader.read(newest) != first


def test_headers_beyond_the_limit_are_refused_and_the_connection_goes_on():
    encoder, reader = hpack.Encoder(), HeadReader()

    large = reader.read(encoder.encode([*PLAIN, (b"x", b"v" * MOST_HEADER_BYTES)], huffman=False))
    plain = reader.read(encoder.encode(PLAIN))

    assert large.refused.status == 431
    assert plain.path == "/a.B/C"


def test_many_distinct_blocks_do_not_pile_up():
    reader = HeadReader()
    for number in range(1000):
        block = b"".join(
            b"\x00%c%s%c%s" % (len(name), name, len(value), value)
            for name, value in [*PLAIN, (b"x-request", b"%d" % number)]
        )
        assert reader.read(block).path == "/a.B/C"

    assert len(reader._known) <= 64
