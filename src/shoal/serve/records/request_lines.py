"""One line of JSON for each answered request, in a file that several fronts share."""

import logging
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import msgspec

from shoal.serve.records.metrics import Metrics
from shoal.serve.records.passage import Passage

_LOG = logging.getLogger(__name__)
# Long enough to write hundreds of lines at once, short enough for whoever follows the file.
_EVERY_S = 0.1
# Some 30,000 lines: seconds of a busy front, while a disk is full or slow.
_MOST_BYTES = 8 << 20
_PIECE_BYTES = 256 << 10
# What a client writes must not make lines that are too long for one write to a pipe.
_MOST_PATH, _MOST_ID = 300, 100


class Line(msgspec.Struct, omit_defaults=True, frozen=True):
    """What a line says; what is None is left out. Times are milliseconds, `bytes` are of bodies.

    `model_ms` is for the whole batch, `batch_rows` its rows; both are missing for an answer from the cache.
    """

    time: datetime
    front: int
    protocol: str
    method: str
    path: str
    status: int
    bytes_in: int
    bytes_out: int
    total_ms: float
    client: str | None = None
    model: str | None = None
    version: str | None = None
    request_id: str | None = None
    prediction_id: str | None = None
    rows: int | None = None
    queue_ms: float | None = None
    model_ms: float | None = None
    batch_rows: int | None = None
    replica: int | None = None
    trace_id: str | None = None


_encode: Callable[[Line], bytes] = msgspec.json.Encoder().encode


class RequestLines:
    """Writes lines behind the event loop's back. `note` and `close` are for the loop alone, `reopen` for any thread.

    A line is made at once, which is quick and costs each request the same, and written with others by a thread, whole
    lines with one write: several processes may append to one file. The file is opened anew when it was moved or
    removed, as by logrotate. While it cannot be written, lines wait in bounded memory; those for which there is no
    room are counted in the metrics and lost.
    """

    def __init__(
        self,
        path: Path,
        metrics: Metrics,
        *,
        front: int = 0,
        most_bytes: int = _MOST_BYTES,
        every_s: float = _EVERY_S,
    ) -> None:
        """Append to a file or a named pipe; it need not be writable now."""
        self.failure: str | None = None
        self._path = path
        self._metrics = metrics
        self._front = front
        self._most_bytes = most_bytes
        self._every_s = every_s
        # Guards what both threads touch: the lines that were not yet fetched, and the bytes of all that are held.
        self._lock = threading.Lock()
        self._fresh: list[bytes] = []
        self._held_bytes = 0
        self._unsent: deque[bytes] = deque()
        self._file: int | None = None
        self._is_pipe = False
        # A part of a line stands at the end of the file.
        self._is_torn = False
        self._wants_reopening = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="request lines", daemon=True)
        self._thread.start()

    def note(self, passage: Passage) -> None:
        """Take the line of an answered request."""
        line = _encode(line_of(passage, self._front)) + b"\n"
        with self._lock:
            if self._held_bytes + len(line) <= self._most_bytes:
                self._fresh.append(line)
                self._held_bytes += len(line)
                return
        self._metrics.lost_lines += 1

    def reopen(self) -> None:
        """Close the file before the next line, and open what has its name then."""
        self._wants_reopening = True

    def close(self) -> None:
        """Write what waits, and no more afterwards."""
        self._stopping.set()
        self._thread.join()
        self._metrics.lost_lines += len(self._unsent)
        self._close_file()

    def _write_forever(self) -> None:
        while not self._stopping.wait(self._every_s):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._lock:
            lines, self._fresh = self._fresh, []
        self._unsent.extend(lines)
        if not self._unsent:
            return
        try:
            file = self._opened()
            while self._unsent:
                self._write_piece(file)
        except OSError as error:
            if self.failure is None:
                _LOG.warning("cannot write the lines of requests to %s, they wait: %s", self._path, error)
            self.failure = f"{self._path}: {error}"
        else:
            self.failure = None

    def _write_piece(self, file: int) -> None:
        # To a pipe, only what fits its own size is written in one go between those of others.
        most_bytes = select.PIPE_BUF if self._is_pipe else _PIECE_BYTES
        ends = [end for end in accumulate(map(len, self._unsent)) if end <= most_bytes] or [len(self._unsent[0])]
        # Lines that follow a torn one must not become a part of it.
        mark = b"\n" if self._is_torn else b""
        piece = mark + b"".join(self._unsent[place] for place in range(len(ends)))
        written = os.write(file, piece) - len(mark)
        num_whole = sum(1 for end in ends if end <= written)
        done_bytes = ends[num_whole - 1] if num_whole else 0
        # A full disk may take a part; the whole line is written again when there is room.
        self._is_torn = written > done_bytes if written >= 0 else self._is_torn
        for _ in range(num_whole):
            self._unsent.popleft()
        with self._lock:
            self._held_bytes -= done_bytes

    def _opened(self) -> int:
        if self._file is not None and (self._wants_reopening or self._is_moved(self._file)):
            self._close_file()
        self._wants_reopening = False
        if self._file is None:
            # A pipe that nobody reads must not hold up this thread.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o644)
            self._is_pipe = stat.S_ISFIFO(os.fstat(self._file).st_mode)
            self._is_torn = False
        return self._file

    def _is_moved(self, file: int) -> bool:
        try:
            return not os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return True

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def line_of(passage: Passage, front: int = 0) -> Line:
    """What is told of a request, by the front with this rank."""
    ran, trace = passage.ran, passage.trace
    common = {
        "time": datetime.fromtimestamp(passage.time_s, UTC),
        "front": front,
        "protocol": passage.protocol,
        "method": _text(passage.method, _MOST_ID),
        "path": _text(passage.path, _MOST_PATH),
        "status": passage.status,
        "bytes_in": passage.num_bytes_in,
        "bytes_out": passage.num_bytes_out,
        "total_ms": _ms(passage.answered_s - passage.started_s),
        "client": passage.client or None,
        "trace_id": None if trace is None else trace.trace_id,
    }
    if ran is None:
        return Line(**common)  # type: ignore[arg-type]  # each under its own name
    return Line(
        **common,  # type: ignore[arg-type]  # as above
        model=ran.model,
        version=ran.version,
        request_id=_text(ran.request_id, _MOST_ID),
        prediction_id=ran.prediction_id,
        rows=ran.num_rows,
        queue_ms=_ms(ran.taken_s - ran.queued_s),
        model_ms=_ms(ran.model_s) if ran.batch_rows else None,
        batch_rows=ran.batch_rows or None,
        replica=ran.replica,
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _text(text: str, most: int) -> str:
    if len(text) > most:
        text = text[: most - 1] + "…"
    # JSON knows no halves of letters, which a client can send all the same.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
