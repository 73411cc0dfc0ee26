import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.trace_context import Parent, begin, join, read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


def read(header: str, state: str | None = None):
    headers = {b"traceparent": header.encode()}
    if state is not None:
        headers[b"tracestate"] = state.encode()
    return read_parent(headers)


def test_a_callers_context_is_read():
    assert read(HEADER, "vendor=a,other=b") == Parent(TRACE, SPAN, is_sampled=True, state="vendor=a,other=b")


@pytest.mark.parametrize(
    ("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_one_flag_alone_says_whether_it_is_recorded(flags, is_sampled):
    assert read(f"00-{TRACE}-{SPAN}-{flags}").is_sampled is is_sampled


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        HEADER.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"{HEADER}-more",
        f"{HEADER}0",
        f"0-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_malformed_counts_as_none(header):
    assert read(header) is None


def test_without_a_header_there_is_no_caller():
    assert read_parent({}) is None


def test_a_later_version_may_say_more():
    assert read(f"cc-{TRACE}-{SPAN}-01-what-the-future-brings").trace_id == TRACE
    assert read(f"cc-{TRACE}-{SPAN}-01what") is None


def test_a_state_without_end_is_not_held():
    assert read(HEADER, "a=" + "b" * 600).state == ""


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_not(data):
    found = read_parent({b"traceparent": data, b"tracestate": data})

    assert found is None or len(found.trace_id) == 32


@pytest.mark.parametrize("is_sampled", [True, False])
def test_a_request_joins_its_callers_trace_under_a_span_of_its_own(is_sampled):
    place = join(Parent(TRACE, SPAN, is_sampled, "vendor=a"))

    assert (place.trace_id, place.parent_id, place.state) == (TRACE, SPAN, "vendor=a")
    assert place.span_id != SPAN
    back = read(place.header().decode())
    assert back == Parent(TRACE, place.span_id, is_sampled, "")


def test_two_requests_of_one_caller_have_spans_of_their_own():
    parent = Parent(TRACE, SPAN, is_sampled=True, state="")

    assert join(parent).span_id != join(parent).span_id


def test_a_trace_that_begins_here_has_no_parent():
    place = begin(sample=1.0)

    assert place.parent_id is None
    assert place.is_sampled
    assert read(place.header().decode()).trace_id == place.trace_id


def test_a_share_of_all_requests_begins_a_trace():
    begun = sum(begin(sample=0.2) is not None for _ in range(5000))

    # Six standard deviations.
    assert abs(begun - 1000) < 6 * 28.3
    assert begin(sample=0.0) is None
