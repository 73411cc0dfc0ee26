import math

import pytest

from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.urgency import PLAIN, Urgency, from_headers, from_parameters, may_name_priority


def test_a_request_that_says_nothing_is_plain():
    assert from_headers({b"content-length": b"3"}) is None
    assert from_parameters(None, None) is PLAIN
    assert from_parameters({"binary_data_output": True}, None) is PLAIN


@pytest.mark.parametrize(("value", "level"), [(0, 3), (1, 1), (5, 5)])
def test_priority_means_what_it_does_to_triton(value, level):
    assert from_parameters({"priority": value}, None).level == level
    assert from_headers({b"x-priority": b"%d" % value}).level == level


@pytest.mark.parametrize(("value", "timeout_s"), [(0, math.inf), (1, 1e-6), (2_500_000, 2.5)])
def test_a_timeout_is_in_microseconds_and_zero_is_none(value, timeout_s):
    assert from_parameters({"timeout": value}, None).timeout_s == timeout_s
    assert from_headers({b"x-timeout-us": b"%d" % value}).timeout_s == timeout_s


@pytest.mark.parametrize("value", [-1, 6, 1.0, "1", True, None, 10**30])
def test_a_wrong_priority_is_a_400_that_names_the_field(value):
    with pytest.raises(RefusedError, match="whole number from 1") as caught:
        from_parameters({"priority": value}, None)

    assert (caught.value.status, caught.value.field) == (400, "parameters.priority")


@pytest.mark.parametrize("value", [-1, 0.5, "1000", False, [], 10**12])
def test_a_wrong_timeout_is_a_400_that_names_the_field(value):
    with pytest.raises(RefusedError, match="microseconds") as caught:
        from_parameters({"timeout": value}, None)

    assert (caught.value.status, caught.value.field) == (400, "parameters.timeout")


@pytest.mark.parametrize("header", [b"x-priority", b"x-timeout-us"])
@pytest.mark.parametrize("value", [b"", b"-1", b"high", b"1.5", b"\xb2", b"9" * 30])
def test_a_wrong_header_is_a_400(header, value):
    with pytest.raises(RefusedError) as caught:
        from_headers({header: value})

    assert caught.value.status == 400


def test_headers_and_parameters_add_up():
    by_headers = from_headers({b"x-priority": b"1"})

    assert from_parameters({"timeout": 1000}, by_headers) == Urgency(1, 0.001)
    assert from_parameters({"priority": 1}, by_headers) == Urgency(1)
    assert from_parameters(None, by_headers) is by_headers


@pytest.mark.parametrize("parameters", [{"priority": 2}, {"timeout": 5000}])
def test_what_contradicts_the_header_is_refused(parameters):
    by_headers = from_headers({b"x-priority": b"1", b"x-timeout-us": b"1000"})

    with pytest.raises(RefusedError, match="as in the header"):
        from_parameters(parameters, by_headers)


def test_a_body_shows_without_parsing_whether_it_may_name_a_priority():
    assert may_name_priority(b'{"parameters": {"priority": 1}, "inputs": []}')
    assert not may_name_priority(b'{"inputs": []}')
