from http import HTTPStatus
from urllib.parse import unquote

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.grpc.status import (
    ANSWER_HEADERS,
    OK_TRAILERS,
    StatusCode,
    code_of,
    not_grpc,
    percent_encode,
    refusal_headers,
    refusal_trailers,
)
from shoal.serve.wire.refusal import RefusedError, our_mistake, wrong_field


def headers_of(block):
    return dict(hpack.Decoder().decode(block))


def refused(status, **arguments):
    return RefusedError(status, "no", next_step="look", **arguments)


def test_an_answer_is_grpc_and_ends_well():
    assert headers_of(ANSWER_HEADERS)["content-type"] == "application/grpc"
    assert headers_of(OK_TRAILERS) == {"grpc-status": "0"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, StatusCode.INVALID_ARGUMENT),
        (401, StatusCode.UNAUTHENTICATED),
        (404, StatusCode.NOT_FOUND),
        (405, StatusCode.UNIMPLEMENTED),
        (408, StatusCode.DEADLINE_EXCEEDED),
        (413, StatusCode.RESOURCE_EXHAUSTED),
        (418, StatusCode.INVALID_ARGUMENT),
        (422, StatusCode.INVALID_ARGUMENT),
        (500, StatusCode.INTERNAL),
        (501, StatusCode.UNIMPLEMENTED),
        (502, StatusCode.INTERNAL),
        (503, StatusCode.UNAVAILABLE),
        (504, StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_every_http_status_has_a_code(status, code):
    assert code_of(refused(status)) == code


def test_a_refusal_says_what_is_wrong_and_what_to_do():
    found = headers_of(refusal_headers(wrong_field("inputs.image.shape", found=[1], expected="[-1, 2]")))

    assert found[":status"] == "200"
    assert found["grpc-status"] == "3"
    assert (
        found["grpc-message"]
        == "inputs.image.shape: found [1], expected [-1, 2]; next: send inputs.image.shape as [-1, 2]"
    )


def test_a_busy_server_says_when_to_come_back():
    found = headers_of(refusal_headers(refused(503, retry_after_s=0.25)))

    assert (found["grpc-status"], found["grpc-retry-pushback-ms"]) == ("14", "250")
    assert "grpc-retry-pushback-ms" not in headers_of(refusal_headers(our_mistake()))


def test_an_unknown_encoding_is_told_which_are_known():
    assert headers_of(refusal_headers(refused(415)))["grpc-accept-encoding"] == "identity,deflate,gzip"


def test_what_is_not_grpc_gets_a_plain_status():
    assert headers_of(not_grpc(HTTPStatus.UNSUPPORTED_MEDIA_TYPE))[":status"] == "415"


@given(st.text(max_size=200))
def test_any_message_comes_back(text):
    encoded = percent_encode(text)

    assert encoded.isascii()
    assert unquote(encoded.decode()) == text


def test_a_long_message_is_cut():
    assert len(percent_encode("é" * 10_000)) < 8000


def test_an_answer_that_has_begun_is_refused_without_beginning_again():
    trailers = headers_of(refusal_trailers(refused(503, retry_after_s=2.0)))

    assert trailers["grpc-status"] == str(int(StatusCode.UNAVAILABLE))
    assert trailers["grpc-retry-pushback-ms"] == "2000"
    assert not any(name.startswith(":") for name in trailers)
