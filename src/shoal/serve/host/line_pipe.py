"""Lines of the fronts on the stderr of the program that started them, whose own stderr is theirs no more."""

import os
import select
import sys
import threading
from contextlib import suppress
from pathlib import Path

_READ_BYTES = 64 << 10


def line_pipe_path(folder: Path) -> Path:
    """Where the pipe of a server lies whose own folder this is."""
    return folder / "request-lines"


class LinePipe:
    """A named pipe that any process of this user may write whole lines to; a thread passes them on."""

    def __init__(self, path: Path) -> None:
        """Make the pipe, and pass on what comes until `close`."""
        self.path = path
        os.mkfifo(path, 0o600)
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        # A writer of our own: without any, the pipe would be at its end for ever.
        self._writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        self._wake, self._waker = os.pipe()
        self._rest = b""
        self._thread = threading.Thread(target=self._pass_on_forever, name="request lines", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pass on what is in the pipe, and end. Idempotent."""
        if not self._thread.is_alive():
            return
        os.close(self._waker)
        self._thread.join()
        for descriptor in (self._pipe, self._writer, self._wake):
            os.close(descriptor)

    def _pass_on_forever(self) -> None:
        while self._wake not in select.select([self._pipe, self._wake], [], [])[0]:
            self._pass_on()
        while self._pass_on():
            """Until it is empty."""

    def _pass_on(self) -> bool:
        try:
            data = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return False
        lines, newline, self._rest = (self._rest + data).rpartition(b"\n")
        # A terminal that was closed is no reason to stop serving, nor to let the pipe fill.
        with suppress(OSError, ValueError):
            sys.stderr.write((lines + newline).decode("utf-8", "replace"))
            sys.stderr.flush()
        return bool(data)
