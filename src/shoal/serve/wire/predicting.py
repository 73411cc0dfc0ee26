"""What comes to /predict: plain JSON, a picture, or a form with a picture in it."""

import functools
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from shoal.serve.wire.http import Head
from shoal.serve.wire.images import (
    PICTURES,
    ImageInput,
    Picture,
    describe,
    has_pillow,
    image_input,
    no_pillow,
    read_wish,
)
from shoal.serve.wire.interface import Interface
from shoal.serve.wire.multipart import FORM_TYPE, read_file
from shoal.serve.wire.plain import PlainAnswer, PlainForm
from shoal.serve.wire.protocol import InferCall
from shoal.serve.wire.refusal import RefusedError, shorten, wrong_field
from shoal.serve.wire.tensors import Array

# The last is what curl -d says unless it is told otherwise; the body decides whether it is JSON.
_JSON_TYPES = ("", "application/json", "text/json", "text/plain", "application/x-www-form-urlencoded")
_UTF8 = ("utf-8", "utf8", "us-ascii")
_PARAMETER = re.compile(r';\s*([\w-]+)=(?:"([^"]*)"|([^;\s]*))')
# Of a form's field: the input's own name, or what most clients call a file.
_FILE = "file"


@dataclass(frozen=True, slots=True)
class Content:
    """A request's Content-Type: the type without its parameters, and the two parameters that matter."""

    kind: str
    charset: str
    boundary: str

    @property
    def is_picture(self) -> bool:
        """Whether a picture comes, bare or in a form."""
        return self.kind in PICTURES or self.kind == FORM_TYPE


class Predicting:
    """Reads /predict bodies for one interface. Stateless after construction; any thread may use it."""

    def __init__(self, interface: Interface) -> None:
        self.form = PlainForm(interface)
        self.image: ImageInput | None = image_input(self.form)

    def check(self, head: Head) -> Content:
        """Return the content type of a request that may go on; its body is not looked at.

        Raises:
            RefusedError: 415, this model takes no such content; 400, the query is wrong.
        """
        content = _content_of(head.headers.get(b"content-type", b""))
        if content.kind in _JSON_TYPES or content.kind.endswith("+json"):
            if content.charset not in ("", *_UTF8):
                raise self._unsupported(f"the charset {shorten(content.charset)}")
            if head.query and (query := _query_of(head)):
                name, value = next(iter(query.items()))
                raise wrong_field(
                    f"query.{shorten(name)}", found=shorten(value), expected="no query beside a body of JSON"
                )
            return content
        if not content.is_picture or self.image is None:
            raise self._unsupported(shorten(content.kind))
        if not has_pillow():
            raise no_pillow(content.kind)
        read_wish(_query_of(head), self.image)
        return content

    def read(self, head: Head, body: bytes) -> InferCall | Picture:
        """Read a body: a call, or a picture that is still to be decoded and goes to `call`.

        Raises:
            RefusedError: 400 or 415, with the field, what was found and what was expected.
        """
        content = self.check(head)
        if self.image is None or not content.is_picture:
            return self.form.decode(body)
        wish = read_wish(_query_of(head), self.image)
        if content.kind != FORM_TYPE:
            return Picture(body, content.kind, self.image, wish)
        file = read_file(body, content.boundary)
        if file.name not in (_FILE, self.image.name):
            raise wrong_field(
                f"form.{shorten(file.name)}", found="a field of that name", expected=f"{_FILE} or {self.image.name}"
            )
        # Many clients send every file as octets: then its first bytes tell.
        kind = "" if file.kind == "application/octet-stream" else file.kind
        if kind not in ("", *PICTURES):
            raise self._unsupported(f"a form with {shorten(kind)}")
        return Picture(file.content, kind, self.image, wish)

    def call(self, row: Array) -> InferCall:
        """The call for a decoded picture."""
        return InferCall(None, (row,), 1, PlainAnswer(self.form, is_list=False))

    def _unsupported(self, found: str) -> RefusedError:
        expected = "application/json"
        next_step = "send JSON; GET /docs shows an example"
        if self.image is not None:
            expected += f", or {describe(self.image)} as {', '.join((*PICTURES, FORM_TYPE))}"
        elif found.startswith(("image/", FORM_TYPE)):
            next_step = "send JSON: this model has no single input of pixels, grey or colour, of one size"
        return RefusedError(
            415,
            f"Content-Type: found {found}, expected {expected}",
            field="Content-Type",
            found=found,
            expected=expected,
            next_step=next_step,
        )


@functools.lru_cache(maxsize=64)
def predicting_for(interface: Interface) -> Predicting:
    """What reads for an interface, made once."""
    return Predicting(interface)


@functools.lru_cache(maxsize=256)
def _content_of(header: bytes) -> Content:
    kind, _, rest = header.decode("latin-1").partition(";")
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(f";{rest}")}
    return Content(kind.strip().lower(), parameters.get("charset", "").lower(), parameters.get("boundary", ""))


def _query_of(head: Head) -> dict[str, str]:
    pairs = parse_qsl(head.query, keep_blank_values=True) if head.query else []
    found = dict(pairs)
    if len(found) != len(pairs):
        raise wrong_field("query", found="a name twice", expected="each name once")
    return found
