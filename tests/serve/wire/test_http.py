import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.http import MOST_HEAD_BYTES, Head, KnownHeads, RequestReader, finish, refusal, response
from shoal.serve.wire.refusal import RefusedError, wrong_field

POST = b"POST /v2/x?a=1 HTTP/1.1\r\nHost: h\r\nX-API-Key: k\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture
def reader():
    return RequestReader(most_body_bytes=100)


def test_a_request_is_its_head_and_then_its_body(reader):
    head, body = reader.feed(POST)

    assert (head.method, head.path, head.keeps_alive, head.is_old) == ("POST", "/v2/x", True, False)
    assert head.headers == {b"host": b"h", b"x-api-key": b"k", b"content-length": b"5"}
    assert head.query == "a=1"
    assert body == b"hello"
    assert not reader.is_inside


@given(cuts=st.lists(st.integers(0, 2 * len(POST)), max_size=6).map(sorted))
def test_it_does_not_matter_how_the_bytes_were_cut(cuts):
    stream = POST + POST
    reader = RequestReader(most_body_bytes=100)

    events = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for event in reader.feed(stream[start:end])
    ]

    assert [type(event) for event in events] == [Head, bytes, Head, bytes]
    assert [events[1], events[3]] == [b"hello", b"hello"]
    assert events[0] == events[2]


def test_a_chunked_body_is_joined(reader):
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"

    assert reader.feed(data)[1] == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 2 * MOST_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: yyyy\r\n" * (MOST_HEAD_BYTES // 4) + b"\r\n",
        b"GET /" + b"x" * 2 * MOST_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["header", "headers", "path"],
)
@pytest.mark.parametrize("step", [1 << 20, 10_000])
def test_a_head_that_is_too_large_is_refused_also_when_it_comes_whole(reader, data, step):
    events = [event for start in range(0, len(data), step) for event in reader.feed(data[start : start + step])]

    assert [event.status for event in events] == [431]


def test_a_body_that_came_with_its_head_is_not_discarded_for_the_next_request(reader):
    first, _ = reader.feed(POST)
    reader.discard_body(first)

    assert reader.feed(POST)[1] == b"hello"


def test_discarding_one_request_leaves_the_one_behind_it(reader):
    first, _, _second = reader.feed(POST + POST[:-2])
    reader.discard_body(first)

    assert reader.feed(POST[-2:]) == [b"hello"]


def test_many_small_requests_in_one_read_are_no_large_head():
    reader = RequestReader(most_body_bytes=100)

    assert len(reader.feed(POST * 1000)) == 2000


def test_the_absolute_form_of_a_proxy_is_understood(reader):
    assert reader.feed(b"GET http://host:80/v2?x HTTP/1.1\r\n\r\n")[0].path == "/v2"
    assert RequestReader(most_body_bytes=9).feed(b"GET http://host/v2?x=1?y HTTP/1.1\r\n\r\n")[0].query == "x=1?y"


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02garbage\r\n\r\n",
        b"hello there\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: five\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_not_http_ends_in_one_refusal(reader, data):
    events = reader.feed(data)

    assert isinstance(events[-1], RefusedError)
    assert events[-1].status == 400
    assert events[-1].closes
    # One request has one answer: what was read before may only be a head whose body cannot be read.
    assert [type(event) for event in events[:-1]] in ([], [Head])
    assert reader.feed(POST) == []


@given(st.binary(max_size=300))
def test_any_bytes_give_events_and_no_error(data):
    for event in RequestReader(most_body_bytes=100).feed(data):
        assert isinstance(event, Head | bytes | RefusedError)


def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(reader):
    *_, refused = reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n")

    assert refused.status == 413
    assert "101 bytes" in refused.message


def test_a_chunked_body_that_grows_too_large_is_refused(reader):
    *_, refused = reader.feed(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n")

    assert refused.status == 413


def test_endless_headers_are_refused(reader):
    assert reader.feed(b"GET / HTTP/1.1\r\n") == []

    refused = [
        event for _ in range(MOST_HEAD_BYTES // 1000 + 1) for event in reader.feed(b"x: " + b"y" * 1000 + b"\r\n")
    ]

    assert [event.status for event in refused] == [431]


def test_a_discarded_body_is_not_kept(reader):
    reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\n" + b"x" * 20)
    assert reader.buffered_bytes == 20

    reader.discard_body()

    assert reader.buffered_bytes == 0
    assert reader.feed(b"x" * 30) == [b""]


def test_an_answer_has_length_and_type():
    assert response(200, b"{}") == (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")


def test_a_binary_answer_tells_where_its_json_ends():
    head = response(200, b"{}\0\0", json_bytes=2).partition(b"\r\n\r\n")[0]

    assert b"Content-Type: application/octet-stream" in head
    assert b"Inference-Header-Content-Length: 2" in head


def test_a_refusal_tells_when_to_come_back_and_what_is_allowed():
    busy = refusal(RefusedError(503, "busy", next_step="wait", retry_after_s=0.2))
    method = refusal(RefusedError(405, "no", next_step="use GET", allow="GET"))
    key = refusal(RefusedError(401, "no", next_step="send it"))

    assert b"\r\nRetry-After: 1\r\n" in busy
    assert b"\r\nAllow: GET\r\n" in method
    assert b"\r\nWWW-Authenticate: Bearer" in key


def test_header_values_from_outside_cannot_split_an_answer():
    assert refusal(wrong_field("x\r\nEvil: 1", found="y", expected="z")).count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"closes": True, "is_old": False}, b"Connection: close"),
        ({"closes": False, "is_old": True}, b"Connection: keep-alive"),
    ],
)
def test_the_connections_future_is_told_where_it_must_be(arguments, line):
    answer = finish(response(200, b"{}"), is_head_only=False, **arguments)

    assert line in answer
    assert answer.endswith(b"\r\n\r\n{}")


def test_head_gets_no_body():
    assert finish(response(405, b"{}"), closes=False, is_old=False, is_head_only=True).endswith(b"\r\n\r\n")


def post(body, *headers, target=b"/v2/x", length=None):
    size = len(body) if length is None else length
    lines = [b"POST %b HTTP/1.1" % target, b"Host: h", b"Content-Length: %d" % size, *headers, b"", body]
    return b"\r\n".join(lines)


def test_a_head_that_was_read_is_known_again_to_all_readers_that_share_it():
    known = KnownHeads()
    (first, _) = RequestReader(most_body_bytes=100, known=known).feed(post(b"hello"))

    head, body = RequestReader(most_body_bytes=100, known=known).feed(post(b"other"))

    assert head is first
    assert body == b"other"
    assert RequestReader(most_body_bytes=100).feed(post(b"hello"))[0] is not first


def test_a_known_head_is_held_to_the_limit_of_its_reader():
    known = KnownHeads()
    RequestReader(most_body_bytes=100, known=known).feed(post(b"hello"))

    (event,) = RequestReader(most_body_bytes=4, known=known).feed(post(b"hello"))

    assert isinstance(event, RefusedError)
    assert event.status == 413


def test_what_a_known_head_has_behind_it_is_read_as_ever():
    reader = RequestReader(most_body_bytes=100)
    reader.feed(post(b"hello"))

    assert [type(event) for event in reader.feed(post(b"hello") + b"GARBAGE\r\n")] == [Head, bytes, RefusedError]


def test_no_more_heads_are_known_than_there_is_room_for():
    known = KnownHeads()
    for number in range(3000):
        RequestReader(most_body_bytes=100, known=known).feed(post(b"", target=b"/%d" % number))

    assert len(known._found) <= 1024


PLAIN = [
    post(b"hello"),
    post(b""),
    post(b"hello", b"X-Priority: 1"),
    post(b"hello", b"Connection: close"),
    post(b"hello", b"Expect: 100-continue"),
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi",
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    post(b"hell", length=5),
    post(b"hello!", length=5),
    b"GET /status HTTP/1.1\r\nHost: h\r\n\r\n",
]


@given(requests=st.lists(st.sampled_from(PLAIN), min_size=1, max_size=5), data=st.data())
def test_knowing_heads_changes_nothing_of_what_is_read(requests, data):
    known = KnownHeads()
    for request in PLAIN:
        RequestReader(most_body_bytes=100, known=known).feed(request)
    stream = b"".join(requests)
    # Whole requests, as most reads bring them, or pieces of any size.
    ends = data.draw(
        st.one_of(
            st.just([sum(map(len, requests[:count])) for count in range(1, len(requests) + 1)]),
            st.lists(st.integers(0, len(stream)), max_size=5).map(lambda cuts: sorted([*cuts, len(stream)])),
        )
    )

    def read(reader):
        events = []
        for start, end in zip([0, *ends], ends, strict=False):
            events += reader.feed(stream[start:end])
        return [str(event) if isinstance(event, RefusedError) else event for event in events]

    knowing = read(RequestReader(most_body_bytes=100, known=known))

    fresh = []
    reader = RequestReader(most_body_bytes=100)
    for start, end in zip([0, *ends], ends, strict=False):
        reader._known = KnownHeads()
        fresh += reader.feed(stream[start:end])
    assert knowing == [str(event) if isinstance(event, RefusedError) else event for event in fresh]
