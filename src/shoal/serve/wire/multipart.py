"""A form with one file in it, as `curl -F file=@cat.png` and browsers send it (RFC 7578)."""

import re
from typing import TYPE_CHECKING, NamedTuple

from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field

if TYPE_CHECKING:
    from email.message import Message

FORM_TYPE = "multipart/form-data"
# RFC 2046 bounds it.
_LONGEST_BOUNDARY = 70
_MOST_HEAD_BYTES = 4096
_BREAK = b"\r\n"
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]+")


class FormFile(NamedTuple):
    """A file of a form: the name of its field, its declared content type ("" for none), and its content."""

    name: str
    kind: str
    content: bytes


def read_file(body: bytes, boundary: str) -> FormFile:
    """Return the only part of a form.

    Args:
        body: all of it.
        boundary: as the header Content-Type names it.

    Raises:
        RefusedError: 400, it is no form, or its parts are not exactly one file, sent as it is.
    """
    if not (0 < len(boundary) <= _LONGEST_BOUNDARY and _BOUNDARY.fullmatch(boundary)):
        raise wrong_field(
            "Content-Type",
            found=f"the boundary {shorten(boundary)!r}",
            expected=f"{FORM_TYPE}; boundary=... with 1 to {_LONGEST_BOUNDARY} characters",
            next_step="leave the header to the client's library",
        )
    dash = b"--" + boundary.encode("latin-1")
    # With the line break that may be missing before the first, all delimiters look alike.
    before, *parts = (_BREAK + body).split(_BREAK + dash)
    if before or len(parts) < 2 or not parts[-1].startswith(b"--"):  # the file and the end
        raise _no_form(f"no form delimited by {shorten(boundary)!r}")
    if len(parts) > 2:  # as above
        raise wrong_field("body", found=f"a form of {len(parts) - 1} parts", expected="one file and nothing else")
    # Blanks may follow the delimiter.
    line, found, rest = parts[0].partition(_BREAK)
    head, ended, content = (_BREAK + rest).partition(_BREAK + _BREAK)
    if line.strip(b" \t") or not found or not ended or len(head) > _MOST_HEAD_BYTES:
        raise _no_form("a part without headers")
    return _file(_headers(head.lstrip(_BREAK)), content)


def _headers(head: bytes) -> "Message":
    # Imported when somebody sends a form: a front that starts should not wait for it.
    from email.parser import BytesHeaderParser

    return BytesHeaderParser().parsebytes(head)


def _file(headers: "Message", content: bytes) -> FormFile:
    name = headers.get_param("name", header="Content-Disposition")
    if headers.get_content_disposition() != "form-data" or not isinstance(name, str):
        raise _no_form("a part without Content-Disposition: form-data and a name")
    encoding = str(headers.get("Content-Transfer-Encoding", "binary")).strip().lower()
    if encoding not in ("binary", "8bit", "7bit"):
        raise wrong_field(
            f"{shorten(name)}.Content-Transfer-Encoding", found=shorten(encoding), expected="the file's own bytes"
        )
    return FormFile(name, headers.get_content_type() if "Content-Type" in headers else "", content)


def _no_form(found: str) -> RefusedError:
    return wrong_field(
        "body", found=found, expected="a form with one file", next_step="send it as curl -F file=@cat.png does"
    )
