"""What a child wrote to stderr last, kept for the error that may need it."""

import os
import threading
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path

# What a WorkerError carries.
TAIL_BYTES = 64 * 1024


class StderrTail:
    """Reads a pipe to its end in a thread, so that a child that prints a lot never waits; owns the descriptor."""

    def __init__(self, descriptor: int, log_file: Path | None) -> None:
        """Begin to read.

        Args:
            descriptor: the pipe's read end.
            log_file: gets every byte too, appended; a disk that is full or gone ends the log and nothing else.
        """
        self._descriptor = descriptor
        self._pieces: deque[bytes] = deque()
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, args=(log_file,), name="shoal-stderr", daemon=True)
        self._thread.start()

    def text(self, drain_s: float = 0.0) -> str:
        """The last 64 KiB, after the writer closed its end or `drain_s` passed."""
        self._thread.join(drain_s)
        with self._lock:
            return b"".join(self._pieces)[-TAIL_BYTES:].decode(errors="replace")

    def _read(self, log_file: Path | None) -> None:
        with ExitStack() as stack:
            stack.callback(os.close, self._descriptor)
            log = None
            # The tail in memory is what errors are made of; the log is a convenience.
            with suppress(OSError):
                log = stack.enter_context(log_file.open("ab", buffering=0)) if log_file is not None else None
            while piece := os.read(self._descriptor, TAIL_BYTES):
                self._keep(piece)
                try:
                    if log is not None:
                        log.write(piece)
                except OSError:
                    log = None

    def _keep(self, piece: bytes) -> None:
        with self._lock:
            self._pieces.append(piece)
            self._num_bytes += len(piece)
            while self._num_bytes - len(self._pieces[0]) >= TAIL_BYTES:
                self._num_bytes -= len(self._pieces.popleft())
