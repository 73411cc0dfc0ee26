import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.multipart import read_file
from shoal.serve.wire.refusal import RefusedError

HEAD = 'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'


def form(content=b"bytes", head=HEAD, boundary="xyz", end="--\r\n"):
    return f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + f"\r\n--{boundary}{end}".encode()


def refused(body, boundary="xyz"):
    with pytest.raises(RefusedError) as caught:
        read_file(body, boundary)
    assert caught.value.status == 400
    return caught.value


@given(content=st.binary(max_size=200))
def test_a_file_comes_through_bit_for_bit(content):
    if b"\r\n--xyz" in content:
        return

    assert read_file(form(content), "xyz") == ("file", "image/png", content)


def test_a_file_may_have_no_type():
    assert read_file(form(head='content-disposition: form-data; name="image"'), "xyz") == ("image", "", b"bytes")


def test_what_follows_the_end_is_not_looked_at():
    assert read_file(form(end="--\r\nepilogue"), "xyz").content == b"bytes"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"bytes",
        b"--xyz--\r\n",
        b"--xyz\r\n--xyz--",
        b"--xyz\r\nbytes\r\n--xyz--",
        b"preamble" + form(),
        form(end=""),
        form()[:-9],
        form(head="Content-Type: image/png"),
        form(head="Content-Disposition: attachment; name=file"),
        form(head="Content-Disposition: form-data"),
        form(head=HEAD + "\r\nContent-Transfer-Encoding: base64"),
        form(head=HEAD + "\r\nX-Filler: " + "x" * 5000),
        form(head="\xff\xff: \xff"),
        b"--xyz\r\n" + HEAD.encode() + b"\r\n\r\na\r\n" + form(),
    ],
)
def test_what_is_not_a_form_of_one_file_is_refused(body):
    assert refused(body).expected


def test_two_files_are_one_too_many():
    two = form().removesuffix(b"--\r\n") + b"\r\n" + form().partition(b"\r\n")[2]

    assert refused(two).found == "a form of 2 parts"


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\nb", "ü"])
def test_a_boundary_that_none_may_have_is_refused(boundary):
    assert refused(form(), boundary).field == "Content-Type"


@given(body=st.binary(max_size=100))
def test_any_bytes_are_taken_or_refused(body):
    for each in (body, b"--xyz\r\n" + body + b"\r\n--xyz--", form(head=body.decode("latin-1"))):
        with contextlib.suppress(RefusedError):
            assert read_file(each, "xyz").content in each
