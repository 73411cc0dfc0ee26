"""One call: its message as it arrives, and in time its answer."""

import math
import zlib
from typing import Protocol

from shoal.serve.batching.inference import Inference
from shoal.serve.grpc.head import CallHead
from shoal.serve.records.passage import Ran
from shoal.serve.wire.refusal import RefusedError, wrong_field

# Before each message: whether it is compressed, and its length.
PREFIX_BYTES = 5
_WINDOW_BITS = {"gzip": 31, "deflate": 15}


class Sender(Protocol):
    """Who sends a call's answer."""

    def send(self, call: "Call", message: bytes) -> None:
        """Send the message that answers a call."""

    def send_refusal(self, call: "Call", refused: RefusedError) -> None:
        """Send why a call is not answered."""


class Call:
    """One call; to the dispatcher an exchange like those over HTTP.

    Attributes:
        stream: its number on the connection.
        started_s: when it began, monotonic.
        answered: the answer, once there is one.
        answered_status: what would be its status over HTTP, under which it is counted.
        request_id: the client's id for its request, once that is read; "" for none.
        ran: how it was run, once it was, where an observer is to know.
        num_bytes: of its message, so far.
    """

    __slots__ = (
        "_announced", "_inference", "_parts", "_sender",
        "answered", "answered_status", "head", "num_bytes", "ran", "request_id", "started_s", "stream",
    )  # fmt: skip

    def __init__(self, sender: Sender, stream: int, head: CallHead, started_s: float) -> None:
        self._sender = sender
        self.stream = stream
        self.head = head
        self.started_s = started_s
        self.answered: bytes | None = None
        self.answered_status = 0
        self.num_bytes = 0
        self.request_id = ""
        self.ran: Ran | None = None
        self._inference: Inference | None = None
        self._parts: list[bytes] = []
        self._announced: int | None = None

    def waits_as(self, inference: Inference) -> None:
        """Know what waits for this call's answer."""
        self._inference = inference

    def abandon(self) -> None:
        """Nobody wants the answer any more: what still waits for it need not run."""
        if self._inference is not None:
            self._inference.deadline_s = -math.inf

    def give(self, body: bytes, json_bytes: int | None = None) -> None:  # noqa: ARG002  # as exchanges over HTTP have it
        """Send the answer to a request for a prediction."""
        self.answer(200, body)

    def answer(self, status: int, message: bytes) -> None:
        """Send the answer, unless it has one: its deadline may have come first."""
        if self.answered is None:
            self.answered, self.answered_status = message, status
            self._sender.send(self, message)

    def refuse(self, refused: RefusedError) -> None:
        """Send why it is not answered, unless it has an answer."""
        if self.answered is None:
            self.answered, self.answered_status = b"", refused.status
            self._parts.clear()
            self._sender.send_refusal(self, refused)

    def add(self, data: bytes, *, most_bytes: int) -> int | None:
        """Take the next bytes of its one message.

        Returns:
            The length that the message announces, once: with the bytes that complete its prefix.

        Raises:
            RefusedError: it is longer than `most_bytes`, or than it says.
        """
        if data:
            self._parts.append(data)
            self.num_bytes += len(data)
        announced = None
        if self._announced is None and self.num_bytes >= PREFIX_BYTES:
            if len(self._parts) > 1:
                self._parts = [b"".join(self._parts)]
            announced = self._announced = int.from_bytes(self._parts[0][1:PREFIX_BYTES], "big")
            check_length(announced, most_bytes)
        if self._announced is not None and self.num_bytes > PREFIX_BYTES + self._announced:
            raise wrong_field(
                "message",
                found=f"at least {self.num_bytes - PREFIX_BYTES - self._announced} bytes after the first message",
                expected="one message",
            )
        return announced

    def message(self, *, most_bytes: int) -> tuple[bytes, int]:
        """The whole message: bytes, and where in them it begins.

        Raises:
            RefusedError: it is shorter than it says, or compressed in a way that cannot be read.
        """
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if self._announced is None or len(data) < PREFIX_BYTES + self._announced:
            raise wrong_field(
                "message",
                found=f"{len(data)} bytes",
                expected=f"{PREFIX_BYTES} bytes of prefix, and as many as they say",
            )
        if not data[0]:
            return data, PREFIX_BYTES
        return _decompress(data, self.head.encoding, most_bytes), 0


def _decompress(data: bytes, encoding: str, most_bytes: int) -> bytes:
    if data[0] != 1 or encoding not in _WINDOW_BITS:
        raise wrong_field(
            "message",
            found=f"the mark {data[0]} for compression with grpc-encoding {encoding}",
            expected=f"0, or 1 with one of {', '.join(_WINDOW_BITS)}",
        )
    reader = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        # Never more than that is unpacked, whatever a few bytes would grow to.
        message = reader.decompress(memoryview(data)[PREFIX_BYTES:], most_bytes + 1)
    except zlib.error as error:
        raise wrong_field("message", found=f"what is not {encoding}: {error}", expected=f"{encoding}") from error
    check_length(len(message), most_bytes)
    if not reader.eof:
        raise wrong_field("message", found=f"{encoding} that is cut", expected=f"{encoding}")
    return message


def check_length(found: int, limit: int) -> None:
    """Raise RefusedError for a message of more bytes than are taken."""
    if found > limit:
        raise RefusedError(
            413,
            f"the call's message has at least {found} bytes, at most {limit} are taken",
            field="message",
            found=f"at least {found} bytes",
            expected=f"at most {limit} bytes",
            next_step="send fewer rows per call",
        )
